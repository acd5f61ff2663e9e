"""What names in an ONNX file stand for while it is translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand
from subbyte.importers.rules.problems import Site


def shortest(number: float) -> float:
    """The number with fewest digits that a float32 can be: 0.01 for what ONNX keeps of 0.01."""
    return float(str(np.float32(number)))


@dataclass(frozen=True)
class OnnxNode:
    """A node of the file. inputs: names, "" where an optional one is left out; attrs: plain Python values,
    tensors as arrays. domain: "" of the standard operators."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeSite(Site):
    """A node of an ONNX file; `module` is its name. Or an output of it, without one."""

    def __str__(self) -> str:
        return f"node {self.module!r} ({self.operator})" if self.module else self.operator


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the image.

    codes, scale: of one that DequantizeLinear made, of its shape: array = codes * scale, codes int32 with the
    zero point taken off, float32 scales. bits: what the codes had in the file.
    """

    array: np.ndarray
    codes: np.ndarray | None = None
    scale: np.ndarray | None = None
    bits: int = 8

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Constant:
        """The constant after an operator that only moves elements."""
        if self.codes is None or self.scale is None:
            return Constant(move(self.array))
        return replace(self, array=move(self.array), codes=move(self.codes), scale=move(self.scale))


@dataclass(frozen=True)
class Scaled(Operand):
    """`factor` times the value: what x * clip(x + 3, 0, 6) is before it is divided by 6."""

    factor: float = 1.0


@dataclass(frozen=True)
class Curve(Operand):
    """`function` of the value, which no node makes: erf, and what is written of it up to a GELU."""

    function: Callable[[np.ndarray], np.ndarray] = field(default=lambda x: x, compare=False)


Argument: TypeAlias = Operand | Constant


@dataclass(frozen=True)
class Stored:
    """How a layer's weights are stored. scale: float32 [O]; bits: of a weight; bias: int32 [O] in units of
    input scale times weight scale, None if it is stored as float."""

    scale: np.ndarray
    bits: int
    bias: np.ndarray | None = None


@dataclass
class Translation:
    """What the rules share: the growing graph, and what it cannot hold.

    opset: of the standard operators. stored: by the value of a layer, how its weights are stored. functions:
    by the value of an activation, what it computes where that is not its `act` to the last digit. codes:
    values that were made already, of a value and a grid, or of a value's codes. last: names that only reach
    outputs. room: elements that computed constants may still have.
    unrounded: names of codes that the network has as real numbers, and of what rounds inside an operation.
    left_out: nodes that were, for the user. shapes: of outputs that are neither maps nor vectors in the file.
    """

    builder: Builder
    opset: int
    last: frozenset[str]
    room: int
    stored: dict[str, Stored] = field(default_factory=dict)
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    codes: dict[tuple[Any, ...], str] = field(default_factory=dict)
    unrounded: frozenset[str] = frozenset()
    left_out: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A node with the arguments that its names stand for, None where one is left out."""

    t: Translation
    node: OnnxNode
    inputs: tuple[Argument | None, ...]

    @property
    def b(self) -> Builder:
        """The growing graph."""
        return self.t.builder

    def given(self, index: int) -> Argument | None:
        """The argument of that number, None if there is none."""
        return self.inputs[index] if index < len(self.inputs) else None

    def argument(self, index: int) -> Argument:
        """The argument of that number. Rejected if there is none."""
        x = self.given(index)
        if x is None:
            raise Rejected(f"its input {index} is missing")
        return x

    def operand(self, index: int = 0) -> Operand:
        """An argument that depends on the image. Rejected if it is a constant."""
        x = self.argument(index)
        if isinstance(x, Constant):
            raise Rejected(f"its input {index} is a constant")
        return x

    def constant(self, index: int, what: str) -> Constant:
        """An argument that does not depend on the image. Rejected if it does, or is missing."""
        x = self.argument(index)
        if not isinstance(x, Constant):
            raise Rejected(f"its {what} is computed from the image")
        return x

    def plain(self, index: int) -> Any:
        """An argument as the shared rules take it: an operand, an array, or None."""
        x = self.given(index)
        return x.array if isinstance(x, Constant) else x

    def number(self, name: str, default: float) -> float:
        """A float attribute, as `shortest` says. Rejected if it is not finite."""
        value = self.node.attrs.get(name, default)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise Rejected(f"its {name} is {value!r:.80}")
        return shortest(value)

    def integer(self, name: str, default: int) -> int:
        """An int attribute. Rejected if it is none."""
        value = self.node.attrs.get(name, default)
        if not isinstance(value, int):
            raise Rejected(f"its {name} is {value!r:.80}")
        return value

    def text(self, name: str, default: str) -> str:
        """A string attribute. Rejected if it is none."""
        value = self.node.attrs.get(name, default)
        if not isinstance(value, str):
            raise Rejected(f"its {name} is {value!r:.80}")
        return value

    def integers(self, name: str, default: list[int], count: int | None = None) -> list[int]:
        """A list of ints. Rejected if there are not `count`."""
        value = list(self.node.attrs.get(name, default))
        if not all(isinstance(n, int) for n in value) or count not in (None, len(value)):
            raise Rejected(f"its {name} is {value!r:.80}")
        return value

    def axes(self, rank: int, index: int = 1, name: str = "axes") -> list[int] | None:
        """Dimensions, of an attribute or (in later opsets) an input; None if there are none.

        Rejected if they do not fit `rank` dimensions.
        """
        x = self.given(index)
        if x is None and name not in self.node.attrs:
            return None
        values = (
            self.integers(name, []) if x is None else self.constant(index, name).array.reshape(-1).tolist()
        )
        if not all(isinstance(n, int) and -rank <= n < rank for n in values):
            raise Rejected(f"its {name} {values!r:.80} do not fit {rank} dimensions")
        return sorted({n % rank for n in values})


#: What a node becomes. Raises Rejected with the reason, GraphError if the op's shape rule refuses it.
One: TypeAlias = Callable[[Call], Argument]
#: The same, or all results of a node.
Row: TypeAlias = Callable[[Call], Argument | tuple[Argument, ...]]

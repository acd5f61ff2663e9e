"""What a rule is given: the growing graph, and one operator with its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from subbyte.artifact.own_grids import OwnGrids
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.tflite.builder import Builder, Operand
from subbyte.importers.tflite.model import Operator, Tensor
from subbyte.ir import Param, activation_function
from subbyte.ir.limits import MAX_PARAMETERS
from subbyte.quant import QParams, activation_table

Shape = tuple[int, ...]
#: ActivationFunctionType, as `act` attributes; "clip" alone is one of -1 to 1.
FUSED = {0: "none", 1: "relu", 2: "clip", 3: "relu6", 4: "tanh"}
_FLOATS = ("float32", "float16")
#: Added to a code to give ours.
_OFFSETS = {"uint8": 0, "int8": 128}


def need(condition: bool, reason: str) -> None:
    """Raises Rejected with the reason unless the condition holds."""
    if not condition:
        raise Rejected(reason)


#: What layers on vectors become on 1x1 maps.
_ALSO_OF_MAPS = ("linear", "activation", "add", "batch_norm", "concat", "quantize", "dequantize")


def unpadded(x: Operand) -> Operand:
    """x without its pending padding; only its shape before padding is that of a value."""
    top, bottom, left, right = x.pad
    n, h, w, c = x.shape
    return replace(x, shape=(n, h - top - bottom, w - left - right, c), pad=(0, 0, 0, 0))


class Growing(Builder):
    """A Builder of tensors in TensorFlow's layout, whose values may hold codes.

    real: the numbers that codes stand for are computed with, as if there were no grids. mixed: float32 values
    are beside codes, and no pass folds what is between float32 layers. room: how many more elements of
    constants may be made; a hostile file can have one constant read by every operator. own: grids that the
    network has where the file has others.
    """

    def __init__(
        self, shape: tuple[int, int, int], real: bool, mixed: bool, own: OwnGrids | None = None
    ) -> None:
        super().__init__(shape, frozenset())
        self.real = real
        self.mixed = mixed
        self.own = own or {}
        self.room = MAX_PARAMETERS
        self._padded: dict[tuple[str, tuple[int, ...]], str] = {}

    def outside(self, shape: Shape) -> Shape:
        """The importer's shape of a map (H, W, C), batch of 1 first."""
        return (1, *shape)

    def plain(self, x: Operand) -> str:
        """The value with its pending padding added, for an operator that treats every element alike."""
        if not any(x.pad):
            return super().plain(x)
        if x.fill != 0.0:
            raise Rejected("only a max pool takes padding with the smallest number over", x.origin)
        key = (x.value, x.pad)
        if key not in self._padded:
            attrs = {"pad": list(x.pad), "mode": "zero"}
            self._padded[key] = self.emit("pad", [self.map(unpadded(x))], attrs, name=self.sub("pad"))
        return self._padded[key]

    def map(self, x: Operand) -> str:
        """The operand as a (H, W, C) value; its elements are in TensorFlow's order whatever its shape is."""
        value = self.plain(x)
        vector = len(self.shape(value)) == 1 and x.shape[1:3] == (1, 1)
        if len(x.shape) != 4 or x.shape[0] != 1 or self.shape(value) == x.shape[1:]:
            return super().map(replace(x, value=value, pad=(0, 0, 0, 0)))
        return self._unflatten(value) if vector else self.reshaped(value, x.shape[1:])

    def _unflatten(self, value: str) -> str:
        """The (1, 1, C) map behind a vector; of one whose elements were moved, the same elements as a map."""
        node = self.producers[value]
        whole = node.op == "flatten" and self.shape(node.inputs[0])[:2] == (1, 1)
        if whole or node.op in _ALSO_OF_MAPS:
            return super()._unflatten(value)
        if value not in self._maps:
            self._maps[value] = self.reshaped(value, (1, 1, *self.shape(value)))
        return self._maps[value]

    def q(self, value: str) -> QParams | None:
        """The grid of a value, None of float32."""
        return self.values[value].q

    def activate(self, value: str, act: str, q: QParams | None, name: str | None = None) -> str:
        """act(value) on the grid q; of codes by a table."""
        x = self.q(value)
        need((x is None) == (q is None), "it mixes float32 and 8-bit numbers")
        params: dict[str, Param] = {}
        if x is not None and q is not None:
            params["table"] = activation_table(activation_function(act), x, q)
        return self.emit("activation", [value], {"act": act}, params, name=name, q=q)

    def on(self, value: str, q: QParams | None) -> str:
        """The same numbers on the grid q."""
        if self.q(value) == q:
            return value
        return self.activate(value, "none", q, name=self.sub("requantize"))

    def sub(self, part: str) -> str:
        """A name for a node that an operator needs beside its own."""
        return f"{self.path}.{part}"


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant tensor."""

    tensor: Tensor

    @property
    def size(self) -> int:
        """Of its elements."""
        return math.prod(self.tensor.shape)


Source: TypeAlias = "Operand | Constant | None"


@dataclass(frozen=True, eq=False)
class Call:
    """An operator that is translated. inputs: None where one is left out. output: the tensor it makes."""

    b: Growing
    operator: Operator
    inputs: tuple[Source, ...]
    output: Tensor

    @property
    def q(self) -> QParams | None:
        """The grid of the output."""
        return self.grid(self.output)

    def grid(self, tensor: Tensor) -> QParams | None:
        """Of an activation. Rejected if the engine has none like it."""
        if tensor.dtype in _FLOATS:
            return None
        need(tensor.dtype in _OFFSETS, f"its values are {tensor.dtype}, not float32, int8 or uint8")
        need(len(tensor.scale) == len(tensor.zero) == 1, "its values need one scale and zero point")
        if self.b.real:
            return None
        if tensor.name in self.b.own:
            return self.b.own[tensor.name]
        return QParams(float(tensor.scale[0]), int(tensor.zero[0]) + _OFFSETS[tensor.dtype])

    def option(self, field: int, form: str = "i", default: int = 0) -> int:
        """A number of the operator's options."""
        return self.operator.option(field, form, default)

    def operand(self, index: int = 0) -> Operand:
        """An input that depends on the image. Rejected if it does not."""
        x = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(x, Operand):
            raise Rejected(f"its input {index} does not depend on the image")
        return x

    def constant(self, index: int, what: str) -> Constant:
        """An input that does not. Rejected if it does, or is left out."""
        x = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(x, Constant):
            raise Rejected(f"its {what} is {'computed from the image' if x else 'left out'}")
        return x

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def raw(self, x: Constant) -> np.ndarray:
        """The numbers as they are stored, read-only. Rejected if the bytes are not as many."""
        t = x.tensor
        need(
            not t.dtype.startswith("type"), f"a constant has numbers of a kind that is not known ({t.dtype})"
        )
        kind = np.dtype(t.dtype).newbyteorder("<")
        assert t.data is not None
        need(t.odd == "", f"a constant cannot be read: {t.odd}")
        size = len(t.data) // kind.itemsize
        need(
            size == x.size and size * kind.itemsize == len(t.data),
            f"a constant of shape {list(t.shape)} has {len(t.data)} bytes",
        )
        self.b.room -= size
        need(self.b.room >= 0, f"its constants have more than {MAX_PARAMETERS} elements")
        return np.frombuffer(t.data.tobytes(), kind).reshape(t.shape)

    def numbers(self, x: Constant) -> np.ndarray:
        """The real numbers that a constant stands for, float32, C order."""
        t, raw = x.tensor, self.raw(x)
        if t.dtype in _FLOATS:
            return np.ascontiguousarray(raw, np.float32)
        if not len(t.scale):
            need(t.dtype in ("int32", "int64"), f"a constant of {t.dtype} has no scale")
            return raw.astype(np.float32)
        scale, zero = self._spread(x)
        return np.ascontiguousarray((raw.astype(np.float64) - zero) * scale, np.float32)

    def _spread(self, x: Constant) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point, so that they can be broadcast to the constant; float64."""
        t = x.tensor
        shape = [1] * len(t.shape)
        if len(t.scale) != 1:
            fits = 0 <= t.axis < len(t.shape) and len(t.scale) == t.shape[t.axis]
            need(fits, f"a constant of shape {list(t.shape)} has {len(t.scale)} scales along axis {t.axis}")
            shape[t.axis] = -1
        need(len(t.zero) == len(t.scale), "a constant has not as many zero points as scales")
        return t.scale.astype(np.float64).reshape(shape), t.zero.astype(np.float64).reshape(shape)

    def ints(self, index: int, what: str) -> list[int]:
        """A constant of few whole numbers, such as axes."""
        x = self.constant(index, what)
        need(
            x.tensor.dtype in ("int32", "int64") and x.size <= 16, f"its {what} is no short list of integers"
        )
        return [int(n) for n in self.raw(x).reshape(-1)]

    def fused(self, field: int) -> str:
        """The activation that an operator's options name."""
        code = self.option(field, "b")
        need(code in FUSED, f"its activation number {code} is not known")
        return FUSED[code]

    def emit(
        self,
        op: str,
        inputs: list[str],
        act: str = "none",
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Param] | None = None,
    ) -> str:
        """A node on the output's grid, and behind it the activation that belongs to the operator."""
        value = self.b.emit(op, inputs, attrs, params, q=self.q)
        return value if act == "none" else self.b.activate(value, act, self.q, name=self.b.sub("act"))


#: The result of an operator, or all of them. Raises Rejected with the reason if there is none.
Rule: TypeAlias = Callable[[Call], Operand | tuple[Operand, ...]]

"""A growing graph, and operands on its values whose order never changes but by flattening."""

from __future__ import annotations

import math
from dataclasses import dataclass

from subbyte.importers.rules.builder import Nodes, Rejected
from subbyte.importers.rules.problems import Site


@dataclass(frozen=True)
class Operand:
    """A tensor of the importer: a view on a graph value.

    shape: torch's, batch of 1 first. Reshapes only change it; whoever reads the operand decides
    how the value has to look. A map's elements are in the importer's order (`Builder.outside`), whatever
    `shape` says.
    pad: (top, bottom, left, right) of `fill` that the next sliding window has to add.
    origin: the operator that made the view, if it is one.
    """

    value: str
    shape: tuple[int, ...]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: float = 0.0
    origin: Site | None = None


class Builder(Nodes):
    """A graph, and operands on its values whose order never changes but by flattening."""

    def stand_in(self, shape: tuple[int, ...]) -> Operand | None:
        """In place of a result of torch's `shape` that no node can make; None if no value has that shape.

        Lets the operators behind it be looked at. A graph with a stand-in cannot be finished.
        """
        name = self._stand_in(shape)
        return None if name is None else Operand(name, shape)

    def plain(self, x: Operand) -> str:
        """The value, for an operator that treats every element alike."""
        if any(x.pad):
            raise Rejected("only convolution and max pooling take padding over", x.origin)
        if math.prod(x.shape) != math.prod(self.shape(x.value)):
            raise Rejected("only a channel gate (mul) may be broadcast", x.origin)
        return x.value

    def outside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The importer's shape of a map (H, W, C), batch of 1 first: torch's."""
        return (1, shape[2], *shape[:2])

    def map(self, x: Operand) -> str:
        """The operand as a (H, W, C) value."""
        value = self.plain(x)
        shape = self.shape(value)
        if len(shape) == 3 and x.shape == self.outside(shape):
            return value
        if len(shape) == 1 and x.shape == self.outside((1, 1, *shape)):
            return self._unflatten(value)
        raise Rejected(f"a map may not be reshaped to {list(x.shape)}", x.origin)

    def flat(self, x: Operand) -> str:
        """The operand as a vector; a map's elements then are in (H, W, C) order."""
        value = self.plain(x)
        if x.shape != (1, math.prod(x.shape)):
            raise Rejected(f"it needs one vector per image, not {list(x.shape)}", x.origin)
        if len(self.shape(value)) == 1:
            return value
        if value not in self._flat:
            self._flat[value] = self.emit("flatten", [value], name=self.beside("flatten"))
        return self._flat[value]

    def vector(self, x: Operand) -> str:
        """The operand as a vector in torch's order."""
        shape = self.shape(x.value)
        if len(shape) == 3 and shape[2] > 1 and shape[0] * shape[1] > 1:
            raise Rejected("only a linear layer may read a flattened map", x.origin)
        return self.flat(x)

    def _unflatten(self, value: str) -> str:
        """The (1, 1, C) map behind a vector, where layers on vectors become layers on 1x1 maps."""
        if value in self._maps:
            return self._maps[value]
        node = self.producers[value]
        if node.op == "flatten":
            result = node.inputs[0]
            if self.shape(result)[:2] != (1, 1):
                raise Rejected("it turns a vector back into a map")
        else:
            result = self.on_maps(node, [self._unflatten(name) for name in node.inputs])
        self._maps[value] = result
        return result

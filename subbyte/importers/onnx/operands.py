"""Operands in ONNX's layout: whatever their shape is, elements come as [1, C, H, W] has them."""

from __future__ import annotations

import math
from dataclasses import replace

from subbyte.importers.rules.builder import Builder, Operand, Rejected

Shape = tuple[int, ...]


class Reordering(Builder):
    """A Builder that changes the order of elements where a view does not lie as graphs have maps."""

    def __init__(self, shape: tuple[int, int, int], containers: frozenset[str]) -> None:
        super().__init__(shape, containers)
        self._settled: dict[tuple[str, Shape], str] = {}
        self._vectors: dict[str, str] = {}

    def plain(self, x: Operand) -> str:
        """The value with its pending padding added, for an operator that treats every element alike."""
        if not any(x.pad) or x.fill != 0.0:
            return super().plain(x)
        key = (x.value, x.pad)
        if key not in self._settled:
            attrs = {"pad": list(x.pad), "mode": "zero"}
            self._settled[key] = self.emit("pad", [self.map(unpadded(x))], attrs, name=self.beside("pad"))
        return self._settled[key]

    def map(self, x: Operand) -> str:
        """The operand as a (H, W, C) value."""
        value = self.plain(x)
        shape = self.shape(value)
        x = replace(x, value=value, pad=(0, 0, 0, 0))
        vector = len(shape) == 1 and x.shape == (1, *shape, 1, 1) and self._turned(value) is None
        if len(x.shape) != 4 or x.shape[0] != 1 or vector or (1, *shape[-1:], *shape[:-1]) == x.shape:
            return super().map(x)
        key = (value, x.shape)
        if key not in self._settled:
            self._settled[key] = self._as_map(value, x.shape)
        return self._settled[key]

    def vector(self, x: Operand) -> str:
        """The operand as a vector in ONNX's order."""
        value = self.plain(x)
        shape = self.shape(value)
        if len(shape) == 1 or shape[2] == 1 or shape[0] * shape[1] == 1:
            return self.flat(replace(x, value=value, pad=(0, 0, 0, 0)))
        if value not in self._vectors:
            height, width, channels = shape
            self._vectors[value] = self.turned(value, (channels, height, width), (0, 1, 2))
        return self._vectors[value]

    def turned(self, value: str, shape: Shape, order: Shape) -> str:
        """A vector of the elements of a value as an array of `shape`, its axes in another order."""
        made = self.shape(value)
        axes = list(range(len(shape)))
        if len(made) == 3 and made[:2] != (1, 1):
            groups = _groups(list(shape), (made[2], made[0], made[1]))
            if groups is None:
                raise Rejected(f"it turns {list(shape)}, of whose axes some mix channels, rows and columns")
            first = groups[0]
            axes = [*axes[first:], *axes[:first]]  # rows, columns, channels
        perm = [axes.index(axis) for axis in order]
        return self._moved(value, [shape[axis] for axis in axes], perm, (math.prod(shape),))

    def _as_map(self, value: str, shape: Shape) -> str:
        """The elements as [1, C, H, W] has them; of a vector made by `turned`, at once."""
        channels, height, width = shape[1:]
        source = self._turned(value)
        if source is not None:
            node = self.producers[value]
            dims, perm = list(node.attrs["dims"]), list(node.attrs["perm"])
            groups = _groups([dims[axis] for axis in perm], (channels, height, width))
            if groups is not None:
                first = groups[0]
                return self._moved(source, dims, perm[first:] + perm[:first], (height, width, channels))
        if len(self.shape(value)) == 3:
            value = self.vector(Operand(value, (1, math.prod(shape))))
        return self._moved(value, [channels, height, width], [1, 2, 0], (height, width, channels))

    def _turned(self, value: str) -> str | None:
        """The value that a vector was made of by changing the order; None of any other."""
        node = self.producers.get(value)
        moved = node is not None and node.op == "rearrange" and len(node.attrs["size"]) == 1
        return node.inputs[0] if node is not None and moved else None

    def _moved(self, value: str, dims: list[int], perm: list[int], size: Shape) -> str:
        if len(dims) > 8:
            raise Rejected(f"it turns {len(dims)} axes; at most 8 are possible")
        if perm == sorted(perm):
            return self.reshaped(value, size)
        attrs = {"dims": dims, "perm": perm, "size": list(size)}
        return self.emit("rearrange", [value], attrs, name=self.beside("rearrange"))

    def _unflatten(self, value: str) -> str:
        """The (1, 1, C) map behind a vector."""
        node = self.producers[value]
        again = ("linear", "activation", "add", "batch_norm", "concat", "quantize", "dequantize", "flatten")
        if node.op in again and (node.op != "flatten" or self.shape(node.inputs[0])[:2] == (1, 1)):
            return super()._unflatten(value)
        if value not in self._maps:
            self._maps[value] = self.reshaped(value, (1, 1, *self.shape(value)))
        return self._maps[value]


def unpadded(x: Operand) -> Operand:
    """x without its pending padding; only its shape before padding is that of a value."""
    top, bottom, left, right = x.pad
    n, c, h, w = x.shape
    return replace(x, shape=(n, c, h - top - bottom, w - left - right), pad=(0, 0, 0, 0))


def _groups(shape: list[int], sizes: tuple[int, int, int]) -> tuple[int, int] | None:
    """Where shape is cut into three parts of these products; None if it cannot be."""
    ends, start = [], 0
    for size in sizes[:2]:
        product, end = 1, start
        while end < len(shape) and product * shape[end] <= size and (product < size or shape[end] == 1):
            product *= shape[end]
            end += 1
        if product != size:
            return None
        ends.append(end)
        start = end
    return (ends[0], ends[1]) if math.prod(shape[start:]) == sizes[2] else None

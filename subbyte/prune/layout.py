"""What can go together, single weights or blocks of them, and how many have to stay: a pattern's name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from subbyte.errors import GraphError

_GROUPS = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")
_BLOCKS = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3}):(\d{1,3}(?:\.\d{1,6})?)")


@dataclass(frozen=True)
class Layout:
    """Blocks of `inputs` consecutive input channels of one tap x `outputs` consecutive output channels; at
    the ends of a layer they are smaller.

    Either `share` (above 0, at most 1) of a layer's blocks stays, rounded up, wherever they lie; or of each
    `group` consecutive blocks of one tap and the same outputs `most` stay, share being 0.
    """

    inputs: int
    outputs: int
    share: Fraction = Fraction(0)
    most: int = 0
    group: int = 0

    @property
    def unit(self) -> int:
        """Input channels of a tap come in multiples of this, those that there are not being zero."""
        return self.inputs * max(1, self.group)

    def columns(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Taps of weights [O, ..., I], and blocks along the inputs of one tap, with those that fill up."""
        taps = math.prod(shape[1:-1])
        return taps, -(-shape[-1] // self.unit) * max(1, self.group)

    def panels(self, shape: tuple[int, ...]) -> int:
        """How many groups of outputs share their blocks."""
        return -(-shape[0] // self.outputs)

    def kept(self, shape: tuple[int, ...]) -> int:
        """How many blocks of weights of that shape stay where `share` says so."""
        taps, along = self.columns(shape)
        return math.ceil(self.share * (taps * along * self.panels(shape)))

    def spread(self, blocks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """bool [panels, taps * blocks along the inputs] as bool [O, ..., I]: which weights are in them."""
        taps, along = self.columns(shape)
        every = blocks.reshape(len(blocks), taps, along)
        wide = every.repeat(self.inputs, axis=2)[:, :, : shape[-1]]
        return wide.repeat(self.outputs, axis=0)[: shape[0]].reshape(shape)

    def gathered(self, weight: np.ndarray) -> np.ndarray:
        """[O, ..., I] as [panels, outputs, columns]: a block's columns side by side, zeros at the ends."""
        taps, along = self.columns(weight.shape)
        count, inputs = weight.shape[0], weight.shape[-1]
        rows = weight.reshape(count, taps, inputs)
        more = self.panels(weight.shape) * self.outputs - count
        full = np.pad(rows, ((0, more), (0, 0), (0, along * self.inputs - inputs)))
        return full.reshape(-1, self.outputs, taps * along * self.inputs)


def layout_of(pattern: str) -> Layout:
    """The layout of "2:4" (of each 4 consecutive input channels of an output and a tap 2 stay) or "4x16:50"
    (of all blocks of 4 input channels x 16 outputs 50 per cent stay). GraphError for any other text."""
    if found := _GROUPS.fullmatch(pattern):
        most, group = int(found[1]), int(found[2])
        if most < group:
            return Layout(1, 1, most=most, group=group)
    if found := _BLOCKS.fullmatch(pattern):
        share = Fraction(found[3]) / 100
        if 0 < share <= 1:
            return Layout(int(found[1]), int(found[2]), share)
    raise GraphError(f"weights are chosen for patterns like 2:4 or 4x16:50, not for {pattern!r:.80}")


def magnitude(weight: np.ndarray, layout: Layout) -> np.ndarray:
    """Sum of squares of each block of weights [O, ..., I]: float64 [panels, blocks]."""
    squares = layout.gathered(np.asarray(weight, np.float64) ** 2)
    summed: np.ndarray = squares.reshape(*squares.shape[:2], -1, layout.inputs).sum((1, 3))
    return summed


def blocks_kept(worth: np.ndarray, shape: tuple[int, ...], layout: Layout) -> np.ndarray:
    """The blocks of the greatest `worth`, [panels, blocks], as the layout has it: bool of that shape; of
    equal ones the first."""
    result = np.zeros(worth.shape, bool)
    if layout.group:
        rows = worth.reshape(-1, layout.group)
        order = np.argsort(-rows, axis=1, kind="stable")[:, : layout.most]
        np.put_along_axis(result.reshape(rows.shape), order, True, axis=1)
        return result
    order = np.argsort(-worth, axis=None, kind="stable")[: layout.kept(shape)]
    result.reshape(-1)[order] = True
    return result

"""Parts of maps, sizes of maps, and elements of maps in another order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from subbyte.importers.onnx.values import Argument, Call, Constant, Row
from subbyte.importers.rules import moves
from subbyte.importers.rules.arguments import need
from subbyte.importers.rules.operands import Operand
from subbyte.importers.rules.strides import Shape
from subbyte.ir.coordinates import nearest
from subbyte.ir.limits import MAX_EXTENT


def _list(c: Call, index: int, what: str) -> list[int]:
    return [int(n) for n in c.constant(index, what).array.reshape(-1).tolist()]


def _part(c: Call, x: Operand, ranges: dict[int, range]) -> Operand:
    """Some positions along each of these axes."""
    need(all(len(r) for r in ranges.values()), "it takes nothing")
    for axis, r in ranges.items():
        if r != range(x.shape[axis]):
            x = moves.taken(c.b, x, axis, r)
    return x


def _slice(c: Call) -> Argument:
    x = c.operand()
    starts, ends = _list(c, 1, "starts"), _list(c, 2, "ends")
    axes = list(range(len(starts))) if c.given(3) is None else _list(c, 3, "axes")
    steps = [1] * len(starts) if c.given(4) is None else _list(c, 4, "steps")
    need(len(starts) == len(ends) == len(axes) == len(steps) <= 8 and 0 not in steps, "its inputs do not fit")
    rank = len(x.shape)
    need(all(-rank <= axis < rank for axis in axes), f"its axes {axes} do not fit {list(x.shape)}")
    ranges = {
        axis % rank: range(x.shape[axis])[start:end:step]
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True)
    }
    return _part(c, x, ranges)


def _split(c: Call) -> tuple[Argument, ...]:
    x, count = c.operand(), len(c.node.outputs)
    rank, axis = len(x.shape), c.integer("axis", 0)
    need(-rank <= axis < rank, f"its axis is {axis}")
    axis, extent = axis % rank, x.shape[axis]
    if c.given(1) is not None:
        sizes = _list(c, 1, "split")
    elif "split" in c.node.attrs:
        sizes = c.integers("split", [])
    else:  # the last part is the smaller one
        size = -(-extent // count)
        sizes = [min(size, extent - i * size) for i in range(count)]
    need(len(sizes) == count and sum(sizes) == extent and min(sizes) >= 1, f"{extent} are not {sizes}")
    ends = np.cumsum(sizes).tolist()
    return tuple(_part(c, x, {axis: range(end - n, end)}) for n, end in zip(sizes, ends, strict=True))


def _gather(c: Call) -> Argument:
    """By constant positions along one axis."""
    x, index = c.operand(), c.constant(1, "indices").array
    rank, axis = len(x.shape), c.integer("axis", 0)
    need(-rank <= axis < rank and index.dtype.kind in "iu" and index.size > 0, "its indices do not fit")
    axis %= rank
    extent = x.shape[axis]
    flat = [int(n) for n in index.reshape(-1).tolist()]
    need(all(-extent <= n < extent for n in flat), f"its indices are not within {extent}")
    part = moves.taken(c.b, x, axis, [n % extent for n in flat])
    return c.b.reshaped_to(part, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _block(c: Call) -> tuple[str, int, Shape]:
    x, block = c.operand(), c.integer("blocksize", 0)
    need(len(x.shape) == 4 and block >= 1, f"it needs a map and a block, not {list(x.shape)} and {block}")
    value = c.b.map(x)
    return value, block, c.b.shape(value)


def _mapped(c: Call, value: str) -> Operand:
    height, width, channels = c.b.shape(value)
    return c.b.made(value, (1, channels, height, width))


def _depth_to_space(c: Call) -> Argument:
    value, block, (height, width, channels) = _block(c)
    need(channels % block**2 == 0, f"{channels} channels do not fill blocks of {block}")
    mode, rest = c.text("mode", "DCR"), channels // block**2
    need(mode in ("DCR", "CRD"), f"its mode is {mode!r:.80}")
    inner = [block, block, rest] if mode == "DCR" else [rest, block, block]
    perm = [0, 2, 1, 3, 4] if mode == "DCR" else [0, 3, 1, 4, 2]
    attrs = {"dims": [height, width, *inner], "perm": perm, "size": [height * block, width * block, rest]}
    return _mapped(c, c.b.emit("rearrange", [value], attrs))


def _space_to_depth(c: Call) -> Argument:
    value, block, (height, width, channels) = _block(c)
    need(height % block == width % block == 0, f"{height} x {width} are no blocks of {block}")
    rows, columns = height // block, width // block
    attrs = {
        "dims": [rows, block, columns, block, channels],
        "perm": [0, 2, 1, 3, 4],
        "size": [rows, columns, channels * block**2],
    }
    return _mapped(c, c.b.emit("rearrange", [value], attrs))


#: coordinate_transformation_mode, as the graph's modes.
_MODES = {
    "half_pixel": "half_pixel",
    "pytorch_half_pixel": "half_pixel",
    "asymmetric": "asymmetric",
    "align_corners": "align_corners",
}


def _resize(c: Call) -> Argument:
    x = c.operand()
    need(len(x.shape) == 4, f"only maps are resized, not {list(x.shape)}")
    need("axes" not in c.node.attrs and not c.integer("antialias", 0), "its axes or antialias are not known")
    size = _resized(c, x)
    transform, kind = c.text("coordinate_transformation_mode", "half_pixel"), c.text("mode", "nearest")
    need(transform in _MODES, f"its coordinate_transformation_mode is {transform!r:.80}")
    need(transform != "pytorch_half_pixel" or min(size) > 1, "its coordinates are not known for one position")
    mode = _MODES[transform]
    attrs = {"size": list(size), "mode": mode}
    if kind == "linear":
        return _mapped(c, c.b.emit("resize_bilinear", [c.b.map(x)], attrs))
    need(kind == "nearest", f"its mode is {kind!r:.80}")
    rounding = c.text("nearest_mode", "round_prefer_floor")
    for extent, wanted in zip(x.shape[2:], size, strict=True):
        same = _nearest(extent, wanted, mode, rounding) == nearest(mode, extent, wanted)
        need(same, f"its rows are rounded in a way ({transform}, {rounding}) that is not known")
    return _mapped(c, c.b.emit("resize_nearest", [c.b.map(x)], attrs))


def _resized(c: Call, x: Operand) -> Shape:
    """Height and width."""
    sizes = c.given(3)
    if isinstance(sizes, Constant) and sizes.array.size:
        need(c.text("keep_aspect_ratio_policy", "stretch") == "stretch", "it keeps proportions")
        found = tuple(_list(c, 3, "sizes"))
    else:
        scales = c.constant(2, "scales").array.reshape(-1).tolist()
        need(len(scales) == 4 and all(np.isfinite(scales)), f"its scales are {scales!r:.80}")
        exact = [n * scale for n, scale in zip(x.shape, scales, strict=True)]
        found = tuple(round(n) for n in exact)
        need(bool(np.allclose(exact, found, rtol=0, atol=1e-4)), f"its scales {scales} give no whole sizes")
    fits = len(found) == 4 and found[:2] == x.shape[:2] and min(found) >= 1 and max(found) <= MAX_EXTENT
    need(fits, f"it makes {list(found)}")
    return found[2:]


def _nearest(extent: int, size: int, mode: str, rounding: str) -> list[int]:
    """Which row of `extent` each of `size` rows is."""
    found = []
    for i in range(size):
        if mode == "align_corners":
            p = Fraction(i * (extent - 1), max(1, size - 1))
        else:
            p = Fraction(i * extent, size)
            p = p if mode == "asymmetric" else p + Fraction(extent, 2 * size) - Fraction(1, 2)
        half = Fraction(1, 2)
        rows = {
            "floor": p.__floor__(),
            "ceil": p.__ceil__(),
            "round_prefer_floor": (p - half).__ceil__(),
            "round_prefer_ceil": (p + half).__floor__(),
        }
        need(rounding in rows, f"its nearest_mode is {rounding!r:.80}")
        found.append(min(max(rows[rounding], 0), extent - 1))
    return found


ROWS: dict[str, Row] = {
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Resize": _resize,
}

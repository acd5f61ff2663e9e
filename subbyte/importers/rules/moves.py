"""Rules for what only moves elements: padding, joining, taking parts, changing their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.rules import elementwise
from subbyte.importers.rules.arguments import MAX_MATRIX, Arguments, Shape, array, need, operand, pair
from subbyte.importers.rules.operands import Builder, Operand, seen, unpadded_operand
from subbyte.importers.rules.strides import View

#: Of a view another one, or several.
Show = Callable[[View, Arguments], "View | list[View]"]

_MODES = {"reflect": "reflect", "replicate": "edge", "edge": "edge"}


def pad(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Constant padding waits for a window that takes it over; negative one is a view of a part."""
    x, sides = operand(a["self"]), [*a["pad"], 0, 0, 0, 0, 0, 0][:8]
    fill = float(a.get("value") or 0.0)
    mode = a.get("mode", "constant")
    if mode == "circular":
        return _wrapped(b, x, list(a["pad"]))
    need(mode in ("constant", *_MODES), f"padding must be constant, reflect or replicate, not {mode!r}")
    if len(x.shape) == 3 and not any(sides[4:]):  # [C, H, W] of one image, or a sequence
        raise_to = seen(x.value, b.settled(x).view.unsqueeze(0))
        made = b.plain(pad(b, {**a, "self": raise_to}, (1, *shape)))
        return seen(made.value, made.view.squeeze(0))
    if len(x.shape) != 4 or x.shape[0] != 1:
        need(mode == "constant" and min(sides) >= 0, f"only maps are padded with {mode!r}, or cropped")
        return _pad_axes(b, x, list(a["pad"]), fill)
    need(not any(sides[6:]), f"padding must add to channels, height and width, not be {sides}")
    if any(sides[4:6]):
        need(
            fill == 0.0 and mode == "constant" and min(sides) >= 0,
            f"channels are padded with zeros only, not {sides}",
        )
        return pad(b, {**a, "self": _pad_channels(b, x, sides[4], sides[5]), "pad": sides[:4]}, shape)
    if min(sides) < 0:
        need(len(x.shape) == 4, "only maps can be cropped by padding")
        for axis, (before, after) in ((3, sides[:2]), (2, sides[2:4])):
            x = b.settled(x)
            kept = range(max(0, -before), x.shape[axis] - max(0, -after))
            x = seen(x.value, x.view.cut(axis, kept))
        sides = [max(side, 0) for side in sides]
    if not any(sides):
        return x
    left, right, top, bottom = sides[:4]
    if mode != "constant":
        attrs = {"pad": [top, bottom, left, right], "mode": _MODES[mode]}
        return b.made(b.emit("pad", [b.map(x)], attrs), shape)
    if any(x.pad) and x.fill != fill:
        x = b.settled(x)
    source = unpadded_operand(x)
    source = b.made(b.map(source), source.shape)  # refuses anything but a map
    t, bo, le, r = x.pad
    return replace(source, shape=shape, pad=(t + top, bo + bottom, le + left, r + right), fill=fill)


def _pad_channels(b: Builder, x: Operand, before: int, after: int) -> Operand:
    """Rows that padding adds to a map on its side are its new channels."""
    n, channels, height, width = x.shape
    side = b.settled(x).view.permute((0, 2, 1, 3))
    value = b.ordered(x, side.permute((0, 2, 3, 1)), (channels, width, height))
    padded = b.emit("pad", [value], {"pad": [before, after, 0, 0], "mode": "zero"})
    turned = b.made(padded, (n, height, channels + before + after, width))
    return seen(padded, turned.view.permute((0, 2, 1, 3)))


def _pad_axes(b: Builder, x: Operand, sides: list[int], fill: float) -> Operand:
    """Of what is no map: along each axis as the columns of a map."""
    x = elementwise.affine(b, x, None, -fill) if fill else x
    for i in range(0, len(sides), 2):
        axis, (before, after) = len(x.shape) - 1 - i // 2, sides[i : i + 2]
        if before or after:
            x = b.settled(x)
            n = x.shape
            size = (math.prod(n[:axis]), n[axis], math.prod(n[axis + 1 :]))
            attrs = {"pad": [0, 0, before, after], "mode": "zero"}
            padded = b.emit("pad", [b.ordered(x, x.view, size)], attrs)
            x = b.last(padded, (*n[:axis], n[axis] + before + after, *n[axis + 1 :]))
    return elementwise.affine(b, x, None, fill) if fill else x


def _wrapped(b: Builder, x: Operand, sides: list[int]) -> Operand:
    """Circular padding: positions of the other end."""
    for i in range(0, len(sides), 2):
        axis, (before, after) = len(x.shape) - 1 - i // 2, sides[i : i + 2]
        extent = x.shape[axis]
        x = taken(b, x, axis, [n % extent for n in range(-before, extent + after)])
    return x


def cat(b: Builder, a: Arguments, shape: Shape) -> Operand:
    some = [x for x in a["tensors"] if 0 not in x.shape]
    parts = [x if isinstance(x, Operand) else elementwise.constant(b, array(x, "part")) for x in some]
    return b.joined(parts, a["dim"] % len(shape), shape)


def stack(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Along a new axis."""
    axis = a["dim"] % len(shape)
    return cat(b, {"tensors": [_unsqueezed(b, x, axis) for x in a["tensors"]], "dim": axis}, shape)


def _unsqueezed(b: Builder, x: Any, axis: int) -> Operand | np.ndarray:
    if isinstance(x, Operand):
        return seen(b.settled(x).value, b.settled(x).view.unsqueeze(axis))
    return np.expand_dims(array(x, "part"), axis)


def unfold(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Tensor.unfold: windows of `size` positions of an axis, `step` apart; the last axis is inside them."""
    x = operand(a["self"])
    axis, size = a["dimension"] % len(x.shape), a["size"]
    count = shape[axis]
    whole = taken(b, x, axis, [i * a["step"] + j for i in range(count) for j in range(size)])
    apart = b.settled(b.reshaped_to(whole, (*x.shape[:axis], count, size, *x.shape[axis + 1 :])))
    return seen(apart.value, apart.view.movedim(axis + 1, -1))


def im2col(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """F.unfold: the windows of a map, channels and positions in them as one axis."""
    (kernel_h, kernel_w), (stride_h, stride_w) = pair(a["kernel_size"]), pair(a["stride"])
    need(pair(a["dilation"]) == [1, 1], "its windows must not be dilated")
    x, (above, left) = operand(a["self"]), pair(a["padding"])
    need(len(x.shape) == 4, "it needs maps, [N, C, H, W]")
    n, channels, height, width = x.shape
    height, width = height + 2 * above, width + 2 * left
    sides = {"self": x, "pad": [left, left, above, above], "value": 0.0}
    x = pad(b, sides, (n, channels, height, width)) if above or left else x
    rows, columns = (height - kernel_h) // stride_h + 1, (width - kernel_w) // stride_w + 1
    for axis, size, step, count in ((2, kernel_h, stride_h, rows), (3, kernel_w, stride_w, columns)):
        made = (*x.shape[:axis], count, *x.shape[axis + 1 :], size)
        x = unfold(b, {"self": x, "dimension": axis, "size": size, "step": step}, made)
    whole = b.settled(x)  # [N, C, rows, columns, kernel_h, kernel_w]
    return b.reshaped_to(seen(whole.value, whole.view.permute((0, 1, 4, 5, 2, 3))), shape)


def copy(b: Builder, a: Arguments, shape: Shape) -> Any:
    """What is written over all of a tensor, broadcast to its shape."""
    x = a["src"]
    if isinstance(x, Operand):
        return seen(b.settled(x).value, b.settled(x).view.expand(shape))
    return np.array(np.broadcast_to(array(x, "source"), shape))


def slice_scatter(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A tensor with `src` in place of one of its slices: both, one behind the other, in another order."""
    axis = a["dim"] % len(shape)
    n = shape[axis]
    written = range(n)[a["start"] : a["end"] : a["step"]]
    positions = list(range(n))
    for i, position in enumerate(written):
        positions[position] = n + i
    longer = (*shape[:axis], n + len(written), *shape[axis + 1 :])
    return taken(b, cat(b, {"tensors": [a["self"], a["src"]], "dim": axis}, longer), axis, positions)


def select_scatter(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A tensor with `src` at one position of an axis."""
    axis = a["dim"] % len(shape)
    index = a["index"] % shape[axis]
    one = {"src": _unsqueezed(b, a["src"], axis), "start": index, "end": index + 1, "step": 1}
    return slice_scatter(b, {**a, **one}, shape)


def taken(b: Builder, x: Operand, axis: int, positions: Sequence[int]) -> Operand:
    """The operand at some positions of an axis, in any order: slices, one behind the other."""
    x = b.settled(x)
    axis %= len(x.shape)
    shape = (*x.shape[:axis], len(positions), *x.shape[axis + 1 :])
    runs = _runs(positions)
    need(bool(runs), "it takes nothing")
    if len(runs) > _MOST_RUNS:  # of so many pieces a matrix of zeros and ones is simpler
        size = len(positions) * x.shape[axis]
        need(size <= MAX_MATRIX, f"it takes {len(positions)} of {x.shape[axis]} positions in no order")
        matrix = np.zeros((len(positions), x.shape[axis]), np.float32)
        matrix[np.arange(len(positions)), list(positions)] = 1.0
        return _chosen(b, x, axis, matrix, shape)
    parts = [_cut(b, x, axis, run) for run in runs]
    return parts[0] if len(parts) == 1 else b.joined(parts, axis, shape)


#: A concat has 64 inputs at most.
_MOST_RUNS = 16


def _chosen(b: Builder, x: Operand, axis: int, matrix: np.ndarray, shape: Shape) -> Operand:
    value = b.rows(seen(x.value, x.view.movedim(axis, -1)))
    value = value if len(b.shape(value)) == 3 else b.reshaped(value, (1, 1, *b.shape(value)))
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
    params = {"weight": matrix[:, None, None, :], "bias": np.zeros(len(matrix), np.float32)}
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    made = b.last(b.emit("conv2d", [value], attrs, params), moved)
    return seen(made.value, made.view.movedim(-1, axis))


def _runs(positions: Sequence[int]) -> list[range]:
    """The positions as ascending ranges, one behind the other."""
    runs: list[range] = []
    for n in positions:
        last = runs[-1] if runs else None
        if last is not None and len(last) == 1 and n > last[0]:
            runs[-1] = range(last[0], n + 1, n - last[0])
        elif last is not None and len(last) > 1 and n == last[-1] + last.step:
            runs[-1] = range(last[0], n + 1, last.step)
        else:
            runs.append(range(n, n + 1))
    return runs


def _cut(b: Builder, x: Operand, axis: int, positions: range) -> Operand:
    part = seen(x.value, x.view.cut(axis, positions))
    if b.sliceable(part):
        return part
    before, behind = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    whole = b.last(b.ordered(x, x.view, (before, x.shape[axis], behind)), x.shape)
    return seen(whole.value, whole.view.cut(axis, positions))


def index_select(b: Builder, a: Arguments, shape: Shape) -> Operand:
    index = a["index"]
    need(isinstance(index, np.ndarray) and index.ndim <= 1, "its positions are no constant list")
    x = operand(a["self"])
    axis = a["dim"] % len(x.shape)
    return taken(b, x, axis, [int(n) % x.shape[axis] for n in index.reshape(-1)])


def index(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """x[..., list, ...] along one axis."""
    x, given = operand(a["self"]), list(a["indices"])
    used = [axis for axis, positions in enumerate(given) if positions is not None]
    need(len(used) == 1, "elements are taken along one axis, by constant positions")
    positions = given[used[0]]
    need(isinstance(positions, np.ndarray) and positions.dtype.kind in "iu", "its positions are no constants")
    flat = [int(n) % x.shape[used[0]] for n in positions.reshape(-1)]
    return b.reshaped_to(taken(b, x, used[0], flat), shape)


def roll(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Every position moves by a shift, those that leave come in at the other end."""
    x = operand(a["self"])
    shifts = [a["shifts"]] if isinstance(a["shifts"], int) else list(a["shifts"])
    need(len(a["dims"]) == len(shifts), "it is rolled along no axis; name one")
    for axis, shift in zip(a["dims"], shifts, strict=True):
        extent = x.shape[axis]
        if shift % extent:
            x = taken(b, x, axis, [(n - shift) % extent for n in range(extent)])
    return x


def flip(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """The other way round along some axes."""
    x = operand(a["self"])
    for axis in a["dims"]:
        x = taken(b, x, axis, list(range(x.shape[axis]))[::-1])
    return x


def repeat(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """All of the tensor again along some axes."""
    x = b.settled(operand(a["self"]))
    times = list(a["repeats"])
    view = x.view
    while view.ndim < len(times):
        view = view.unsqueeze(0)
    extents = view.shape
    for i in range(len(times)):
        view = view.unsqueeze(2 * i)
    wide = [n for pair_ in zip(times, extents, strict=True) for n in pair_]
    return b.reshaped_to(seen(x.value, view.expand(wide)), shape)


def repeat_interleave(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Each position again, beside itself."""
    x, axis = b.settled(operand(a["self"])), a["dim"]
    need(isinstance(a["repeats"], int) and axis is not None, "repeats must be a number, along an axis")
    axis %= len(x.shape)
    view = x.view.unsqueeze(axis + 1)
    wide = [*view.shape[: axis + 1], a["repeats"], *view.shape[axis + 2 :]]
    return b.reshaped_to(seen(x.value, view.expand(wide)), shape)


def reshape(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """To torch's shape, in torch's order."""
    return b.reshaped_to(operand(a["self"]), shape)


def view(show: Show) -> Callable[[Builder, Arguments, Shape], Any]:
    """What `show` makes of a view: another one, or several."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Any:
        x = b.settled(operand(a["self"]))
        made = show(x.view, a)
        if isinstance(made, View):
            return seen(x.value, made)
        return tuple(seen(x.value, part) for part in made)

    return rule


def part(show: Show) -> Callable[[Builder, Arguments, Shape], Any]:
    """A view that leaves elements out, along the axis `dim`: a slice of the value, or of one made for it."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Any:
        x = b.settled(operand(a["self"]))
        made = view(show)(b, {**a, "self": x}, shape)
        parts = made if isinstance(made, tuple) else (made,)
        need(all(0 not in p.shape for p in parts), "it is empty")
        if all(b.sliceable(p) for p in parts):
            return made
        axis, n = a["dim"] % len(x.shape), x.shape
        before, behind = math.prod(n[:axis]), math.prod(n[axis + 1 :])
        whole = b.last(b.ordered(x, x.view, (before, n[axis], behind)), n)
        return view(show)(b, {**a, "self": whole}, shape)

    return rule


def sliced(x: View, a: Arguments) -> View:
    """aten.slice: from start to end in steps."""
    axis = a["dim"] % x.ndim
    return x.cut(axis, range(x.shape[axis])[a["start"] : a["end"] : a["step"]])


def split(x: View, a: Arguments) -> list[View]:
    """In parts of `split_size` positions, the last maybe smaller; or of `split_sizes`."""
    axis, sizes = a["dim"] % x.ndim, a.get("split_sizes", a.get("split_size"))
    if isinstance(sizes, int):
        sizes = [min(sizes, x.shape[axis] - i) for i in range(0, x.shape[axis], sizes)]
    ends = np.cumsum(sizes).tolist()
    return [x.cut(axis, range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def chunk(x: View, a: Arguments) -> list[View]:
    """In `chunks` parts, the last maybe smaller."""
    size = -(-x.shape[a["dim"]] // a["chunks"])
    return split(x, {"dim": a["dim"], "split_size": size})


def unbind(x: View, a: Arguments) -> list[View]:
    """Every position of an axis."""
    return [x.select(a["dim"], i) for i in range(x.shape[a["dim"]])]


def pixel_shuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, factor = b.settled(operand(a["self"])), a["upscale_factor"]
    n, channels, height, width = x.shape
    axes = _axes(x.view, (n, channels // factor**2, factor, factor, height, width))
    return b.made(b.ordered(x, axes.permute((0, 4, 2, 5, 3, 1)), (shape[2], shape[3], shape[1])), shape)


def pixel_unshuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, factor = b.settled(operand(a["self"])), a["downscale_factor"]
    n, channels, height, width = x.shape
    axes = _axes(x.view, (n, channels, height // factor, factor, width // factor, factor))
    return b.made(b.ordered(x, axes.permute((0, 2, 4, 1, 3, 5)), (shape[2], shape[3], shape[1])), shape)


def channel_shuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, groups = b.settled(operand(a["self"])), a["groups"]
    n, channels, height, width = x.shape
    axes = _axes(x.view, (n, groups, channels // groups, height, width)).permute((0, 3, 4, 2, 1))
    return b.made(b.ordered(x, axes, (height, width, channels)), shape)


def _axes(x: View, shape: Shape) -> View:
    """A map with its axes cut into several, which strides can always say."""
    cut = x.reshape(shape)
    assert cut is not None
    return cut

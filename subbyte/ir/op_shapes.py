"""Rules of shapes of the operations that rearrange, pool, resize, normalize and multiply maps."""

from __future__ import annotations

import math

from subbyte.ir.coordinates import MODES
from subbyte.ir.graph import Node
from subbyte.ir.grid_rules import fail

Shape = tuple[int, ...]


def need(condition: bool, node: Node, text: str) -> None:
    """GraphError that names the node unless the condition holds."""
    if not condition:
        fail(node, text)


def _map(node: Node, shape: Shape) -> Shape:
    need(len(shape) == 3, node, f"needs a (H, W, C) input, got {shape}")
    return shape


def slice_(node: Node, shapes: list[Shape]) -> Shape:
    """Positions begin, begin + step, ... before end along each of (H, W, C)."""
    result = []
    for extent, begin, end, step in zip(
        _map(node, shapes[0]), node.attrs["begin"], node.attrs["end"], node.attrs["step"], strict=True
    ):
        need(begin < end <= extent, node, f"takes {begin}..{end} of {extent} positions")
        result.append((end - begin + step - 1) // step)
    return tuple(result)


def expand(node: Node, shapes: list[Shape]) -> Shape:
    """Along each of (H, W, C) as it is, or one position repeated."""
    size = tuple(node.attrs["size"])
    fits = all(have in (1, wanted) for have, wanted in zip(_map(node, shapes[0]), size, strict=False))
    need(len(size) == 3 and fits, node, f"cannot repeat {shapes[0]} to {size}")
    return size


def rearrange(node: Node, shapes: list[Shape]) -> Shape:
    """The elements, in the order of `dims` with its axes in the order `perm`, as `size`."""
    dims, perm, size = (tuple(node.attrs[name]) for name in ("dims", "perm", "size"))
    need(sorted(perm) == list(range(len(dims))), node, f"perm {perm} is no order of {len(dims)} axes")
    need(len(size) in (1, 3), node, f"makes {size}, which is no (H, W, C) or (C,)")
    count = math.prod(shapes[0])
    need(math.prod(dims) == count == math.prod(size), node, f"{shapes[0]} is no {dims}, or that no {size}")
    return size


def pad(node: Node, shapes: list[Shape]) -> Shape:
    """Rows and columns around a map."""
    height, width, channels = _map(node, shapes[0])
    top, bottom, left, right = node.attrs["pad"]
    mode = node.attrs["mode"]
    need(mode in PAD_MODES, node, f"mode must be one of {', '.join(PAD_MODES)}, not {mode!r}")
    reflects = mode != "reflect" or (max(top, bottom) < height and max(left, right) < width)
    need(reflects, node, "reflects more rows or columns than there are")
    return height + top + bottom, width + left + right, channels


#: What lies around a padded map: zeros, its outermost positions again, or its mirror image without those.
PAD_MODES = ("zero", "edge", "reflect")


def sized(node: Node, shapes: list[Shape]) -> Shape:
    """Of `size` positions, height and width."""
    size = node.attrs["size"]
    need(len(size) == 2, node, "size must be height and width")
    if "mode" in node.attrs:
        mode = node.attrs["mode"]
        need(mode in MODES, node, f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    return size[0], size[1], _map(node, shapes[0])[2]


def equal(node: Node, shapes: list[Shape]) -> Shape:
    """Operands of one shape."""
    need(shapes[0] == shapes[1], node, f"operands differ in shape: {shapes[0]} and {shapes[1]}")
    return shapes[0]


def per_channel(node: Node, shapes: list[Shape]) -> Shape:
    """As the input is; each parameter has a number for each channel."""
    for role in node.params:
        need(node.params[role].shape == (shapes[0][-1],), node, f"{role} does not fit {shapes[0]}")
    return shapes[0]


def grouped(node: Node, shapes: list[Shape]) -> Shape:
    """As the map is; its channels are in equal groups, and each parameter has a number for each of them."""
    _map(node, per_channel(node, shapes))
    groups = node.attrs["groups"]
    need(shapes[0][-1] % groups == 0, node, f"{shapes[0][-1]} channels are not a multiple of {groups} groups")
    return shapes[0]


def matmul(node: Node, shapes: list[Shape]) -> Shape:
    """(B, M, K) and (B, N, K) make (B, M, N)."""
    a, b = (_map(node, shape) for shape in shapes)
    need(a[0] == b[0] and a[2] == b[2], node, f"needs (B, M, K) and (B, N, K), got {a} and {b}")
    return a[0], a[1], b[1]

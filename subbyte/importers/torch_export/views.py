"""Rules for operators that show a tensor in another way: torch itself says with which strides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from subbyte.importers.rules.arguments import Arguments, Shape, need
from subbyte.importers.torch_export.arguments import operand
from subbyte.importers.torch_export.builder import Builder, Operand, seen

Show = Callable[[Tensor, Arguments], Any]


def reshape(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """To torch's shape, in torch's order."""
    x = operand(a["self"])
    if x.shape == shape:
        return x
    if any(x.pad):
        x = b.settled(x)
    try:
        return seen(x.value, x.view.view(shape))
    except RuntimeError:  # its elements do not lie so that strides would do
        if shape == (1, x.view.numel()) and len(x.view.shape) == 4:
            return replace(x, shape=shape, folded=tuple(x.view.shape))
        whole = b.settled(x)
        size = (whole.view.numel(),)
        return b.last(b.ordered(whole, whole.view, size), shape)


def view(show: Show) -> Callable[[Builder, Arguments, Shape], Any]:
    """What `show` makes of a tensor: another one, or several."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Any:
        x = b.settled(operand(a["self"]))
        made = show(x.view, a)
        if isinstance(made, Tensor):
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
        before, behind = _product(n[:axis]), _product(n[axis + 1 :])
        whole = b.last(b.ordered(x, x.view, (before, n[axis], behind)), n)
        return view(show)(b, {**a, "self": whole}, shape)

    return rule


def _product(extents: Shape) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result


def sliced(x: Tensor, a: Arguments) -> Tensor:
    """aten.slice: from start to end in steps."""
    axis = a["dim"] % x.ndim
    start, end, _ = slice(a["start"], a["end"]).indices(x.shape[axis])
    return x.narrow(axis, start, max(0, end - start))[
        tuple(slice(None, None, a["step"]) if i == axis else slice(None) for i in range(x.ndim))
    ]

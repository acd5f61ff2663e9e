"""Rules for normalizations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from subbyte.importers.rules import elementwise, pools
from subbyte.importers.rules.arguments import Arguments, Shape, array, need, number, operand, vector
from subbyte.importers.rules.operands import Builder, Operand, seen


def batch_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    if len(x.shape) == 4:
        value = b.map(x)
    elif len(x.shape) == 2 and x.shape[0] == 1:
        value = b.vector(x)
    else:  # torch's second axis are the channels
        x = b.settled(x)
        value = b.rows(seen(x.value, x.view.movedim(1, -1)))
    size = b.shape(value)[-1]
    params = {
        "weight": vector(a["weight"], "weight", size, 1.0),
        "bias": vector(a["bias"], "bias", size, 0.0),
        "mean": array(a["running_mean"], "mean"),
        "var": array(a["running_var"], "variance"),
    }
    made = b.emit("batch_norm", [value], {"eps": float(a["eps"])}, params)
    if len(shape) == 4 or (len(shape) == 2 and shape[0] == 1):
        return b.made(made, shape)
    moved = b.last(made, (shape[0], *shape[2:], shape[1]))
    return seen(moved.value, moved.view.movedim(-1, 1))


def layer_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Over torch's last axes; over all at once it is a group normalization with one group."""
    x = operand(a.get("input", a.get("self")))
    over = tuple(a["normalized_shape"])
    size = math.prod(over)
    weight, bias = vector(a["weight"], "weight", size, 1.0), vector(a["bias"], "bias", size, 0.0)
    attrs: dict[str, Any] = {"eps": float(a["eps"])}
    if over == x.shape[1:] and len(x.shape) == 4:
        by_channel = [np.asarray(v).reshape(over[0], -1) for v in (weight, bias)]
        if all((v == v[:, :1]).all() for v in by_channel):
            weight, bias = (np.ascontiguousarray(v[:, 0]) for v in by_channel)
            params = {"weight": weight, "bias": bias}
            return b.made(b.emit("group_norm", [b.map(x)], {**attrs, "groups": 1}, params), shape)
    last = x if len(over) == 1 else b.reshaped_to(x, (*x.shape[: -len(over)], size))
    value = b.rows(last)
    params = {"weight": weight.reshape(-1), "bias": bias.reshape(-1)}
    return b.last(b.emit("layer_norm", [value], attrs, params), shape)


def rms_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """x / sqrt(mean(x^2) + eps) * weight, over torch's last axes (arXiv 1910.07467)."""
    x = operand(a["input"])
    axes = list(range(-len(a["normalized_shape"]), 0))
    eps = a.get("eps")
    size = elementwise.root(
        b, elementwise.affine(b, _mean_square(b, x, axes), None, _EPS if eps is None else eps)
    )
    normal = elementwise.div(b, {"self": x, "other": size}, shape)
    return normal if a["weight"] is None else elementwise.affine(b, normal, a["weight"], None)


#: torch's default: what float32 adds to 1.
_EPS = float(np.finfo(np.float32).eps)


def _kept(x: Operand, axes: list[int]) -> Shape:
    reduced = {axis % len(x.shape) for axis in axes}
    return tuple(1 if i in reduced else n for i, n in enumerate(x.shape))


def _mean_square(b: Builder, x: Operand, axes: list[int]) -> Operand:
    return pools.mean(b, {"self": elementwise.square(b, x), "dim": axes}, _kept(x, axes))


def vector_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of order 1 or 2, or the largest absolute value."""
    x = operand(a.get("x", a["self"]))
    order = a.get("ord", a.get("p", 2))
    order = 2.0 if order is None else number(order, "order")
    dims = {"dim": a.get("dim")}
    if order == 2.0:
        return elementwise.root(b, pools.total(b, {"self": elementwise.square(b, x), **dims}, shape))
    need(order in (1.0, math.inf), f"only the norms of order 1, 2 and infinity are known, not {order:g}")
    size = elementwise.absolute(b, {"self": x}, x.shape)
    return (pools.total if order == 1.0 else pools.amax)(b, {"self": size, **dims}, shape)


def variance(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of some axes; `correction` is taken off the count."""
    x = operand(a["self"])
    dims = a.get("dim")
    axes = list(range(len(x.shape))) if dims is None else [dims] if isinstance(dims, int) else list(dims)
    middle = pools.mean(b, {"self": x, "dim": axes}, _kept(x, axes))
    apart = elementwise.sub(b, {"self": x, "other": middle, "alpha": 1}, x.shape)
    made = pools.mean(b, {"self": elementwise.square(b, apart), "dim": axes}, shape)
    count = math.prod(x.shape) / math.prod(shape)
    given = a.get("correction", 1 if a.get("unbiased", True) else 0)
    correction = 1 if given is None else given
    need(count > correction, "it has too few numbers")
    return elementwise.scaled(b, made, count / (count - correction))


def deviation(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """The root of the variance."""
    return elementwise.root(b, variance(b, a, shape))


def group_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    if len(shape) == 3:
        row = seen(x.value, b.settled(x).view.unsqueeze(2))
        made = group_norm(b, {**a, "input": row}, (*shape[:2], 1, shape[2]))
        return seen(made.value, made.view.squeeze(2))
    value = b.map(x)
    channels = b.shape(value)[2]
    params = {
        "weight": vector(a["weight"], "weight", channels, 1.0),
        "bias": vector(a["bias"], "bias", channels, 0.0),
    }
    groups = a.get("num_groups", a.get("group"))
    return b.made(b.emit("group_norm", [value], {"eps": float(a["eps"]), "groups": groups}, params), shape)


def instance_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """In evaluation with running statistics it is a batch normalization, without a group of each channel."""
    if not a["use_input_stats"]:
        return batch_norm(b, a, shape)
    return group_norm(b, {**a, "num_groups": shape[1]}, shape)

"""Rules for linear layers, products of matrices, and attention."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.rules import elementwise
from subbyte.importers.rules.arguments import Arguments, Shape, array, need, number, operand, vector
from subbyte.importers.rules.operands import Builder, Operand, seen


def linear_layer(b: Builder, x: Any, weight: np.ndarray, bias: Any, shape: Shape) -> Operand:
    """Of the last axis; weight: [O, I]."""
    x = operand(x)
    if len(x.shape) != 2 or x.shape[0] != 1:  # of each position: a 1 x 1 convolution of channels last
        value = b.rows(x)
        bias = vector(bias, "bias", len(weight), 0.0)
        if len(b.shape(value)) == 1:  # of the only position
            params = {"weight": np.ascontiguousarray(weight), "bias": bias}
            return b.last(b.emit("linear", [value], {"act": "none"}, params), shape)
        attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
        params = {
            "weight": np.ascontiguousarray(weight[:, None, None, :]),
            "bias": bias,
        }
        return b.last(b.emit("conv2d", [value], attrs, params), shape)
    if x.folded is not None:  # torch flattened (C, H, W), the graph flattens (H, W, C)
        value = b.map(replace(x, shape=x.folded, folded=None))
        height, width, channels = b.shape(value)
        weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        value = b.flat(b.last(value, x.shape))
    else:
        value = b.vector(x)
    params = {"weight": np.ascontiguousarray(weight), "bias": vector(bias, "bias", len(weight), 0.0)}
    return b.made(b.emit("linear", [value], {"act": "none"}, params), shape)


def linear(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return linear_layer(b, a["input"], array(a["weight"], "weight"), a["bias"], shape)


def matmul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, other = a["self"], a.get("mat2", a.get("other"))
    if isinstance(x, Operand) and isinstance(other, Operand):
        return product(b, x, other, shape)
    if isinstance(x, Operand):
        weight = array(other, "second operand")
        if weight.ndim == 2:
            return linear_layer(b, x, weight.T, None, shape)
        return product(b, x, elementwise.constant(b, weight), shape)
    weight = array(x, "first operand")
    if weight.ndim == 2:  # (W x)^T = x^T W^T
        y = operand(other)
        turned = seen(y.value, b.settled(y).view.transpose(-1, -2))
        made = linear_layer(b, turned, weight, None, (*shape[:-2], shape[-1], shape[-2]))
        return seen(made.value, made.view.transpose(-1, -2))
    return product(b, elementwise.constant(b, weight), operand(other), shape)


def addmm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    need(a["alpha"] == 1 and a["beta"] == 1, "alpha and beta must be 1")
    bias = array(a["self"], "bias")
    weight = array(a["mat2"], "second operand").T
    return linear_layer(b, a["mat1"], weight, np.broadcast_to(bias.reshape(-1), (len(weight),)), shape)


def baddbmm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """beta * self + alpha * (batch1 @ batch2)."""
    made = matmul(b, {"self": a["batch1"], "other": a["batch2"]}, shape)
    made = elementwise.scaled(b, made, number(a["alpha"], "alpha"))
    factor = {"alpha": number(a["beta"], "beta")}
    if isinstance(a["self"], Operand):
        return elementwise.add(b, {"self": made, "other": a["self"], **factor}, shape)
    return elementwise.affine(b, made, None, factor["alpha"] * array(a["self"], "first tensor"))


def product(b: Builder, x: Operand, y: Operand, shape: Shape) -> Operand:
    """A matrix product of two tensors that depend on the image."""
    x, y = b.settled(x), b.settled(y)
    need(len(x.shape) >= 2 and len(y.shape) >= 2, "only products of matrices")
    batch, (rows, inner), columns = shape[:-2], x.shape[-2:], y.shape[-1]
    count = math.prod(batch)
    left = b.ordered(x, x.view.expand((*batch, rows, inner)), (count, rows, inner))
    right = b.ordered(y, y.view.transpose(-1, -2).expand((*batch, columns, inner)), (count, columns, inner))
    return b.last(b.emit("matmul", [left, right]), shape)


def softmax(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, axis = b.settled(operand(a["self"])), a["dim"] % len(shape)
    view = x.view.movedim(axis, -1)
    value = b.rows(seen(x.value, view))
    made = b.last(b.emit("softmax", [value]), view.shape)
    return seen(made.value, made.view.movedim(-1, axis))


#: What a masked score is: e to it is 0, whatever is added.
_MASKED = -1e4


def attention(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """softmax(q k^T scale + mask) v."""
    q, k, v = (
        x if isinstance(x, Operand) else elementwise.constant(b, array(x, name))
        for name, x in ((name, a[name]) for name in ("query", "key", "value"))
    )
    mask = a["attn_mask"]
    if a["is_causal"]:
        mask = np.tril(np.ones((q.shape[-2], k.shape[-2]), bool))
    need(mask is None or isinstance(mask, np.ndarray), "attention must not be masked but by a constant")
    if mask is not None and mask.dtype == bool:
        mask = np.where(mask, 0.0, _MASKED)
    q = elementwise.scaled(b, q, a["scale"] or q.shape[-1] ** -0.5)
    if a.get("enable_gqa") and q.shape[-3] != k.shape[-3]:  # groups of queries share keys and values
        k, v = (_repeated_heads(b, x, q.shape[-3]) for x in (k, v))
    try:  # one head of keys and values may serve all queries
        batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], shape[:-2])
    except ValueError:
        batch = ()
    need(
        batch == shape[:-2], f"it has queries, keys and values of the shapes {q.shape}, {k.shape}, {v.shape}"
    )
    turned = seen(k.value, b.settled(k).view.transpose(-1, -2))
    weights = product(b, q, turned, (*batch, q.shape[-2], k.shape[-2]))
    if mask is not None:
        weights = elementwise.affine(b, weights, None, np.maximum(mask, _MASKED))
    weights = softmax(b, {"self": weights, "dim": -1}, weights.shape)
    return product(b, weights, v, shape)


def _repeated_heads(b: Builder, x: Operand, heads: int) -> Operand:
    view = b.settled(x).view
    each = heads // view.shape[-3]
    wider = view.unsqueeze(view.ndim - 2).expand(
        (*view.shape[:-2], each, *view.shape[-2:])
    )  # fmt: skip
    repeated = seen(b.settled(x).value, wider)
    return b.reshaped_to(repeated, (*view.shape[:-3], heads, *view.shape[-2:]))

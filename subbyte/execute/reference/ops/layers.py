"""conv2d and linear: sums of products, with an activation and a residual behind them; batch_norm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.execute.reference.filtering import filtered_magnitudes, may_filter
from subbyte.execute.reference.ops.elementwise import activation_bound
from subbyte.execute.reference.step import UNIT, Row, Step, centred, f32, gamma, store
from subbyte.execute.reference.windows import patches
from subbyte.ir import Node, activation_function
from subbyte.ir.graph import pre_activation
from subbyte.quant import QTensor, clamp_bounds, conv_multiplier

_BATCH_NORM_ROUNDINGS = 8


def _accumulate(node: Node, x: np.ndarray) -> np.ndarray:
    """Σ x·w + bias in float64, [N, ..., O]; exact when all terms are integers below 2**31."""
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(bias, np.ndarray)
    w = (weight.values() if isinstance(weight, QTensor) else weight).astype(np.float64)
    if w.ndim == 2:
        return x @ w.T + bias
    groups, out_channels = node.attrs["groups"], w.shape[0]
    dilation = node.attrs.get("dilation", (1, 1))
    columns = patches(x, w.shape[1:3], node.attrs["stride"], node.attrs["pad"], dilation=dilation)
    n, ho, wo, taps, channels = columns.shape  # [N, Ho, Wo, kh*kw, C]
    columns = columns.reshape(n, ho, wo, taps, groups, channels // groups)
    w = w.reshape(groups, out_channels // groups, taps, channels // groups)
    if channels == groups and out_channels == groups:  # depthwise
        result = np.einsum("nhwtc,ct->nhwc", columns[..., 0], w[:, 0, :, 0])
    else:
        result = np.stack(
            [np.tensordot(columns[..., g, :], w[g], axes=([3, 4], [1, 2])) for g in range(groups)], axis=3
        ).reshape(n, ho, wo, out_channels)
    return result + bias


def _layer(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return _float_layer(step, arrays)
    node, x = step.node, step.grid(0)
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    acc = _accumulate(node, centred(arrays[0], x).astype(np.float64)).astype(np.int64)
    target = pre_activation(node, step.output)
    v = acc.astype(f32) * conv_multiplier(x, weight.scale, target)
    if target is None:
        return v
    if "table" in node.params:
        return node.params["table"][store(v, target)]  # type: ignore[index]
    y = step.target
    if len(arrays) == 2:
        r = step.grid(1)
        v = v + centred(arrays[1], r).astype(f32) * (f32(r.scale) / f32(y.scale))
    return store(v, y, *clamp_bounds(node.attrs["act"], y))


def _float_layer(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    sums = _accumulate(step.node, arrays[0].astype(np.float64))
    result = activation_function(step.node.attrs["act"])(sums)
    if len(arrays) == 2:
        result = result + arrays[1]
    return result.astype(f32)


def _layer_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    node, bare = step.node, _changed(step, attrs={**step.node.attrs, "act": "none"})
    pre = _float_layer(bare, arrays[:1])
    total = _float_layer(_magnitudes(bare, bias=True), [np.abs(arrays[0]) + errors[0]])
    spread = _float_layer(_magnitudes(bare, bias=False), [errors[0]])
    terms = int(np.prod(node.params["weight"].shape[1:]))
    rounded = gamma(terms + 2) * total.astype(np.float64)
    if may_filter(node):
        weight, bias = (np.abs(np.asarray(node.params[name], np.float64)) for name in ("weight", "bias"))
        sums = filtered_magnitudes(np.abs(arrays[0]) + errors[0], weight, node.attrs["pad"])
        rounded = np.maximum(rounded, gamma(arrays[0].shape[-1] + 9) * (sums + bias))
    bound = spread + rounded + UNIT * np.abs(pre)
    result = _float_layer(step, arrays[:1])
    bound = activation_bound(node.attrs["act"], pre, bound, result)
    if len(arrays) == 2:
        bound = bound + errors[1] + 2 * UNIT * np.abs(result + arrays[1])
    return bound


def _changed(step: Step, **changes: Any) -> Step:
    return replace(step, node=step.node.with_(**changes))


def _magnitudes(step: Step, bias: bool) -> Step:
    weight, offset = (np.asarray(step.node.params[role]) for role in ("weight", "bias"))
    params = {"weight": np.abs(weight), "bias": np.abs(offset) if bias else np.zeros_like(offset)}
    return _changed(step, params=params)


def _batch_norm(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    p = {role: np.asarray(param, np.float64) for role, param in step.node.params.items()}
    scale = p["weight"] / np.sqrt(p["var"] + step.node.attrs["eps"])
    return ((arrays[0] - p["mean"]) * scale + p["bias"]).astype(f32)


def _batch_norm_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    p = {role: np.asarray(param) for role, param in step.node.params.items()}
    positive = {"weight": np.abs(p["weight"]), "mean": -np.abs(p["mean"]), "bias": np.abs(p["bias"])}
    total = _batch_norm(_changed(step, params={**p, **positive}), [np.abs(arrays[0]) + errors[0]])
    scale = np.abs(p["weight"]) / np.sqrt(p["var"].astype(np.float64) + step.node.attrs["eps"])
    return scale * errors[0] + gamma(_BATCH_NORM_ROUNDINGS) * total.astype(np.float64)


ROWS = {
    "conv2d": Row(_layer, _layer_bound),
    "linear": Row(_layer, _layer_bound),
    "batch_norm": Row(_batch_norm, _batch_norm_bound),
}

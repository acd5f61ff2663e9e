"""quantize and dequantize, which need no bound: codes are equal; activation, add and mul."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import UNIT, Row, Step, centred, f32, gamma, store
from subbyte.ir import activation_function
from subbyte.ir.activations import parse_activation
from subbyte.quant import QTensor, gate_multiplier_scale


def _activation(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if step.quantized:
        return step.node.params["table"][arrays[0]]  # type: ignore[index]
    return activation_function(step.node.attrs["act"])(arrays[0].astype(np.float64)).astype(f32)


def activation_bound(act: str, x: np.ndarray, error: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Of act(x) = result where x has an error."""
    row, parameters = parse_activation(act)
    grown = row.slope(*parameters) * error
    return grown if row.exact else grown + 8 * UNIT * np.abs(result) + 2 * UNIT * np.abs(x)


def _activation_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    return activation_bound(step.node.attrs["act"], arrays[0], errors[0], _activation(step, arrays))


def _add(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return arrays[0] + arrays[1]
    a, b, y = step.grid(0), step.grid(1), step.target
    left = centred(arrays[0], a).astype(f32) * (f32(a.scale) / f32(y.scale))
    right = centred(arrays[1], b).astype(f32) * (f32(b.scale) / f32(y.scale))
    return store(left + right, y)


def _add_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    return errors[0] + errors[1] + 2 * UNIT * np.abs(arrays[0] + arrays[1])


def _channel_scale(step: Step) -> np.ndarray | None:
    scale = step.node.params.get("channel_scale")
    assert not isinstance(scale, QTensor)
    return scale


def _gate_factors(step: Step, codes: np.ndarray) -> np.ndarray:
    """The Q15 factors G of op `mul`, int64, shape of `codes`."""
    x, gate, y = step.grid(0), step.grid(1), step.target
    scaled = centred(codes, gate).astype(f32) * gate_multiplier_scale(x, gate, y, _channel_scale(step))
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int64)


def _mul(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        scale = _channel_scale(step)
        return arrays[0] * (arrays[1] if scale is None else arrays[1] * scale)
    x, y, factors = step.grid(0), step.target, _gate_factors(step, arrays[1])
    product = centred(arrays[0], x).astype(np.int64) * 128 * factors
    return np.clip(((product + (1 << 14)) >> 15) + y.zero_point, 0, y.qmax).astype(np.uint8)


def _mul_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    (x, gate), (dx, dg) = (np.abs(a).astype(np.float64) for a in arrays), errors
    scale, roundings = _channel_scale(step), 1
    if scale is not None:
        gate, dg, roundings = gate * scale, dg * scale, 2
    moved = x * dg + gate * dx + dx * dg
    # the executor's roundings are of what it multiplies, the reference's of its own product
    return moved + gamma(roundings) * (moved + 2 * x * gate)


ROWS = {
    "quantize": Row(lambda step, arrays: step.target.quantize(arrays[0])),
    "dequantize": Row(lambda step, arrays: step.grid(0).dequantize(arrays[0])),
    "activation": Row(_activation, _activation_bound),
    "add": Row(_add, _add_bound),
    "mul": Row(_mul, _mul_bound),
}

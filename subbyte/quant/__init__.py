"""Quantized numbers: grids, tensors, bit packing and requantization (numpy only)."""

from subbyte.quant.qparams import QParams, qparams_from_range
from subbyte.quant.qtensor import QTensor, quantize_weight, uniform_levels
from subbyte.quant.requant import (
    activation_table,
    clamp_bounds,
    conv_multiplier,
    gate_multiplier_scale,
    quantize_bias,
)

__all__ = [
    "QParams",
    "QTensor",
    "activation_table",
    "clamp_bounds",
    "conv_multiplier",
    "gate_multiplier_scale",
    "qparams_from_range",
    "quantize_bias",
    "quantize_weight",
    "uniform_levels",
]

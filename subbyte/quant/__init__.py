"""Quantized numbers: grids, tensors, bit packing and requantization (numpy only)."""

from subbyte.quant.format import Format, activation_format, uniform_levels, weight_format
from subbyte.quant.qparams import QParams, nearest_levels, qparams_from_range
from subbyte.quant.qtensor import QTensor, quantize_weight
from subbyte.quant.requant import (
    activation_table,
    clamp_bounds,
    conv_multiplier,
    gate_multiplier_scale,
    moved_bias,
    product_multiplier,
    quantize_bias,
)

__all__ = [
    "Format",
    "QParams",
    "QTensor",
    "activation_format",
    "activation_table",
    "clamp_bounds",
    "conv_multiplier",
    "gate_multiplier_scale",
    "moved_bias",
    "nearest_levels",
    "product_multiplier",
    "qparams_from_range",
    "quantize_bias",
    "quantize_weight",
    "uniform_levels",
    "weight_format",
]

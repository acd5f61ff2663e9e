"""The operator table: how each ATen operator becomes nodes.

A new operator is a new row: its name without overload, and a rule (subbyte.importers.rules.arguments).
"""

from __future__ import annotations

from subbyte.importers.rules import elementwise, layers
from subbyte.importers.rules.arguments import Rule

#: Rules whose result is another view of a value; whoever cannot read it blames them.
VIEWS = (layers.pad, elementwise.reshape, elementwise.expand)

#: ATen operator (any overload) to its rule.
RULES: dict[str, Rule] = {
    "conv2d": layers.convolution,
    "convolution": layers.convolution,
    "linear": layers.linear,
    "addmm": layers.addmm,
    "mm": layers.matmul,
    "matmul": layers.matmul,
    "batch_norm": layers.batch_norm,
    "_native_batch_norm_legit_no_training": layers.batch_norm,
    "relu": elementwise.activation("relu"),
    "relu6": elementwise.activation("relu6"),
    "hardtanh": elementwise.clamp,
    "clamp": elementwise.clamp,
    "clamp_min": elementwise.clamp,
    "clamp_max": elementwise.clamp,
    "silu": elementwise.activation("silu"),
    "hardswish": elementwise.activation("hard_swish"),
    "sigmoid": elementwise.activation("sigmoid"),
    "hardsigmoid": elementwise.activation("hard_sigmoid"),
    "gelu": elementwise.gelu,
    "tanh": elementwise.activation("tanh"),
    "leaky_relu": elementwise.activation("leaky_relu", "negative_slope"),
    "prelu": elementwise.prelu,
    "_prelu_kernel": elementwise.prelu,
    "rrelu": elementwise.rrelu,
    "elu": elementwise.activation("elu", "alpha", "scale", "input_scale"),
    "selu": elementwise.selu,
    "celu": elementwise.celu,
    "mish": elementwise.activation("mish"),
    "softplus": elementwise.softplus,
    "add": elementwise.add,
    "mul": elementwise.mul,
    "sub": elementwise.sub,
    "rsub": elementwise.rsub,
    "div": elementwise.div,
    "neg": elementwise.neg,
    "mean": layers.mean,
    "adaptive_avg_pool2d": layers.adaptive_avg_pool2d,
    "avg_pool2d": layers.avg_pool2d,
    "adaptive_max_pool2d": layers.adaptive_max_pool2d,
    "amax": layers.amax,
    "max_pool2d": layers.max_pool2d,
    "max_pool2d_with_indices": layers.max_pool2d,
    "cat": elementwise.cat,
    "pad": layers.pad,
    "constant_pad_nd": layers.pad,
    "view": elementwise.reshape,
    "_unsafe_view": elementwise.reshape,
    "reshape": elementwise.reshape,
    "flatten": elementwise.reshape,
    "squeeze": elementwise.reshape,
    "unsqueeze": elementwise.reshape,
    "expand": elementwise.expand,
    "clone": elementwise.identity,
    "contiguous": elementwise.identity,
    "alias": elementwise.identity,
    "detach": elementwise.identity,
    "dropout": elementwise.identity,
    "feature_dropout": elementwise.identity,
    "native_dropout": elementwise.identity,
    "to": elementwise.identity,
    "_to_copy": elementwise.identity,
    "_assert_tensor_metadata": elementwise.assertion,
}

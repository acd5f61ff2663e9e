"""The operator table: how each builtin operator becomes nodes.

A new operator is a new row: its name in the schema, and a rule (subbyte.importers.tflite.call).
"""

from __future__ import annotations

from subbyte.importers.tflite import elementwise, layers, moves
from subbyte.importers.tflite.call import Rule

#: Builtin operator to its rule.
RULES: dict[str, Rule] = {
    "CONV_2D": layers.conv_2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv_2d,
    "TRANSPOSE_CONV": layers.transpose_conv,
    "FULLY_CONNECTED": layers.fully_connected,
    "MAX_POOL_2D": layers.max_pool_2d,
    "AVERAGE_POOL_2D": layers.average_pool_2d,
    "MEAN": layers.mean,
    "PAD": layers.pad,
    "PADV2": layers.pad,
    "RELU": elementwise.activation("relu"),
    "RELU6": elementwise.activation("relu6"),
    "RELU_N1_TO_1": elementwise.activation("clip"),
    "RELU_0_TO_1": elementwise.activation("clip:0.0:1.0"),
    "LOGISTIC": elementwise.activation("sigmoid"),
    "TANH": elementwise.activation("tanh"),
    "HARD_SWISH": elementwise.activation("hard_swish"),
    "ELU": elementwise.activation("elu"),
    "GELU": elementwise.gelu,
    "LEAKY_RELU": elementwise.leaky_relu,
    "PRELU": elementwise.prelu,
    "ADD": elementwise.add,
    "SUB": elementwise.sub,
    "MUL": elementwise.mul,
    "DIV": elementwise.div,
    "CONCATENATION": elementwise.concatenation,
    "RESHAPE": elementwise.reshape,
    "SQUEEZE": elementwise.squeeze,
    "EXPAND_DIMS": elementwise.expand_dims,
    "TRANSPOSE": moves.transpose,
    "SLICE": moves.slice_,
    "STRIDED_SLICE": moves.strided_slice,
    "SPLIT": moves.split,
    "SPLIT_V": moves.split_v,
    "DEPTH_TO_SPACE": moves.depth_to_space,
    "SPACE_TO_DEPTH": moves.space_to_depth,
    "RESIZE_BILINEAR": moves.resize("resize_bilinear", 2, 3),
    "RESIZE_NEAREST_NEIGHBOR": moves.resize("resize_nearest", 0, 1),
    "MIRROR_PAD": moves.mirror_pad,
    "QUANTIZE": elementwise.quantize,
    "DEQUANTIZE": elementwise.dequantize,
}

#: Rules whose result is another view of a value; whoever cannot read it blames them.
VIEWS = (layers.pad, elementwise.reshape, elementwise.squeeze, elementwise.expand_dims)

#: What to say of operators that have no rule, and the names.
_ADVICE = {
    "leave it out and apply it to the outputs": "SOFTMAX LOG_SOFTMAX ARG_MAX ARG_MIN TOPK_V2",
    "the file's weights are stored without their zeros; make it without that": "DENSIFY",
    "the graph has no branches and loops": "IF WHILE CALL CALL_ONCE",
    "there are no recurrent layers": (
        "LSTM RNN UNIDIRECTIONAL_SEQUENCE_RNN UNIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN "
        "BIDIRECTIONAL_SEQUENCE_LSTM SVDF"
    ),
    "boxes are to be selected from the outputs": "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5",
}


def advice(kind: str) -> str:
    """One clause on an operator that has no rule."""
    for text, names in _ADVICE.items():
        if kind in names.split():
            return text
    if kind.startswith("CUSTOM"):
        return "only TensorFlow Lite's own operators are known"
    return "the importer has no rule for it; build the network from others, or leave it out"

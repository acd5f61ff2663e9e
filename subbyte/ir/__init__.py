"""The graph that everything between capture and the engine reads and rewrites (numpy only)."""

from subbyte.ir.activations import ACTIVATIONS, CLAMP_ACTIVATIONS, activation_function
from subbyte.ir.graph import Graph, Node, Param, Value
from subbyte.ir.ops import OPS, Kind, OpDef, is_weighted, macs
from subbyte.ir.verify import verify

__all__ = [
    "ACTIVATIONS",
    "CLAMP_ACTIVATIONS",
    "OPS",
    "Graph",
    "Kind",
    "Node",
    "OpDef",
    "Param",
    "Value",
    "activation_function",
    "is_weighted",
    "macs",
    "verify",
]

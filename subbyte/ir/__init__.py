"""The graph that everything between capture and the engine reads and rewrites (numpy only)."""

from subbyte.ir.activations import ACTIVATIONS, CLAMP_ACTIVATIONS, activation_function
from subbyte.ir.cost import macs
from subbyte.ir.graph import Graph, Node, Param, Value
from subbyte.ir.ops import OPS, OpDef
from subbyte.ir.verify import verify

__all__ = [
    "ACTIVATIONS",
    "CLAMP_ACTIVATIONS",
    "OPS",
    "Graph",
    "Node",
    "OpDef",
    "Param",
    "Value",
    "activation_function",
    "macs",
    "verify",
]

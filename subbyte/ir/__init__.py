"""The graph that everything between capture and the engine reads and rewrites (numpy only)."""

from subbyte.ir.graph import Graph, Node, Param, Value
from subbyte.ir.ops import ACTIVATIONS, OPS, OpDef, TABLE_ACTIVATIONS
from subbyte.ir.verify import verify

__all__ = [
    "ACTIVATIONS",
    "Graph",
    "Node",
    "OPS",
    "OpDef",
    "Param",
    "TABLE_ACTIVATIONS",
    "Value",
    "verify",
]

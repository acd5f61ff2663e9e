"""The graph that everything between capture and the engine reads and rewrites (numpy only)."""

from subbyte.ir.cost import macs
from subbyte.ir.graph import Graph, Node, Param, Value
from subbyte.ir.ops import ACTIVATIONS, OPS, TABLE_ACTIVATIONS, OpDef
from subbyte.ir.verify import verify

__all__ = [
    "ACTIVATIONS",
    "OPS",
    "TABLE_ACTIVATIONS",
    "Graph",
    "Node",
    "OpDef",
    "Param",
    "Value",
    "macs",
    "verify",
]

"""Devices: what layers cost on them in time, bytes and energy, what networks need, and bytes of a file."""

from subbyte.device.host import Host
from subbyte.device.size import artifact_bytes, node_bytes
from subbyte.device.table import TARGETS, find_target
from subbyte.device.target import Cost, Layer, Memory, Target, layers

__all__ = [
    "TARGETS",
    "Cost",
    "Host",
    "Layer",
    "Memory",
    "Target",
    "artifact_bytes",
    "find_target",
    "layers",
    "node_bytes",
]

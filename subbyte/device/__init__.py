"""What layers cost on a device: latency tables, and bytes of a file."""

from subbyte.device.host import Host
from subbyte.device.size import artifact_bytes, node_bytes
from subbyte.device.target import Layer, Target, layers

__all__ = ["Host", "Layer", "Target", "artifact_bytes", "layers", "node_bytes"]

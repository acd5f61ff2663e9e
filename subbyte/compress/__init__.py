"""From a float32 graph to a quantized one (torch)."""

from subbyte.compress.graph import compress

__all__ = ["compress"]

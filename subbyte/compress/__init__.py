"""From a float32 graph to a quantized one (torch)."""

from subbyte.compress.pipeline import compress

__all__ = ["compress"]

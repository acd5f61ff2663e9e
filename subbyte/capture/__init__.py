"""torch modules to graphs. The only place that knows ATen operators."""

from subbyte.capture.trace import capture

__all__ = ["capture"]

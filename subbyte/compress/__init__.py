"""From a float32 graph to a quantized one (torch)."""

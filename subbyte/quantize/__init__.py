"""Rounding to nearest: from a float32 graph and what calibration saw to a quantized graph (torch)."""

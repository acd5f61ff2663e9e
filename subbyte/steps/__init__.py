"""What is done after rounding to nearest: biases corrected, blocks or the whole network trained (torch)."""

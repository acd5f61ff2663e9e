"""What each layer's bit-width costs in accuracy (torch)."""

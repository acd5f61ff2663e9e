"""The torch executor: the reference's integers, fast and differentiable."""

"""What outputs are worth: accuracy and its statistics, robustness, error of layers (numpy)."""

from subbyte.metrics.accuracy import (
    Accuracy,
    Predictions,
    agreement,
    score,
    wilson_interval,
)

__all__ = ["Accuracy", "Predictions", "agreement", "score", "wilson_interval"]

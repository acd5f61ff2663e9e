"""Accuracy, latency, peers and the report (numpy and pillow only; peers import their own runtimes)."""

from subbyte.evaluate.accuracy import (
    Accuracy,
    Predictions,
    agreement,
    predict,
    score,
    wilson_interval,
)
from subbyte.evaluate.data import (
    Sample,
    batches,
    labelled_folder,
    load_picture,
    picture_folder,
    subset,
    with_resize,
)

__all__ = [
    "Accuracy",
    "Predictions",
    "Sample",
    "agreement",
    "batches",
    "labelled_folder",
    "load_picture",
    "picture_folder",
    "predict",
    "score",
    "subset",
    "wilson_interval",
    "with_resize",
]

"""Images: read, decoded, preprocessed, corrupted, held back (numpy and pillow)."""

from subbyte.data.samples import (
    Sample,
    batches,
    labelled_folder,
    load_picture,
    picture_folder,
    subset,
    with_resize,
)

__all__ = [
    "Sample",
    "batches",
    "labelled_folder",
    "load_picture",
    "picture_folder",
    "subset",
    "with_resize",
]

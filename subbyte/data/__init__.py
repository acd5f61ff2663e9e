"""Images: read, decoded, preprocessed, corrupted, held back (numpy and pillow)."""

from subbyte.data.samples import (
    Sample,
    batches,
    image_folder,
    labelled_folder,
    load_image,
    subset,
    with_resize,
)

__all__ = [
    "Sample",
    "batches",
    "image_folder",
    "labelled_folder",
    "load_image",
    "subset",
    "with_resize",
]

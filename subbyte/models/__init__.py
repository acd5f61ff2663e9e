"""The EfficientNet families: definitions, pretrained weights and preprocessing."""

from subbyte.models.catalog import ENTRIES, entry
from subbyte.models.weights import LoadedModel, create, load
from subbyte.preprocess import Preprocessing

__all__ = ["LoadedModel", "create", "list_models", "load", "preprocessing"]


def list_models() -> list[str]:
    """The names that `create` and `load` know, sorted."""
    return sorted(ENTRIES)


def preprocessing(name: str) -> Preprocessing:
    """The input that the model's default checkpoint expects; `load` gives that of other weights.

    Raises InputError for an unknown name.
    """
    return entry(name).preprocessing

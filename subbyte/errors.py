"""The errors a user can meet. Each carries one sentence: what is wrong and what to do."""

from typing import Any


class SubbyteError(Exception):
    """Base of every error this package raises on purpose."""


class GraphError(SubbyteError):
    """A graph breaks a rule of the intermediate representation."""


class UnsupportedOperatorError(SubbyteError):
    """A model uses operators outside the supported set. problems: all of them, as the importer describes
    them; the message is of the first."""

    def __init__(self, message: str, problems: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class ArtifactError(SubbyteError):
    """A file is not a valid artifact."""


class InputError(SubbyteError):
    """An input array, image, folder or option is unusable."""


class RecipeError(SubbyteError):
    """A recipe is unknown or inconsistent."""


class DivergenceError(SubbyteError):
    """Training left what numbers or grids can hold: names layer and parameter, and what to change."""

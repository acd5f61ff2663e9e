"""subbyte: extreme quantization and real-time inference of efficient convolutional networks.

The names below are imported when they are first used: `import subbyte` needs numpy only, and torch is
imported by what captures and compresses, not by what loads and runs.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it, without the time to import typing
if TYPE_CHECKING:
    from subbyte.allocate.budget import Budget
    from subbyte.artifact import Artifact, load, save
    from subbyte.compress.model import compress_model
    from subbyte.errors import SubbyteError
    from subbyte.execute.native import Session, available_isas
    from subbyte.importers import import_model
    from subbyte.ir import Graph
    from subbyte.preprocess import Preprocessing
    from subbyte.recipes import Recipe, list_recipes, load_recipe
    from subbyte.system.version import __version__ as __version__

_HOME = {
    "Artifact": "subbyte.artifact",
    "Budget": "subbyte.allocate.budget",
    "Graph": "subbyte.ir",
    "Preprocessing": "subbyte.preprocess",
    "Recipe": "subbyte.recipes",
    "Session": "subbyte.execute.native",
    "SubbyteError": "subbyte.errors",
    "__version__": "subbyte.system.version",
    "available_isas": "subbyte.execute.native",
    "compress_model": "subbyte.compress.model",
    "import_model": "subbyte.importers",
    "list_recipes": "subbyte.recipes",
    "load": "subbyte.artifact",
    "load_recipe": "subbyte.recipes",
    "save": "subbyte.artifact",
}

__all__ = [
    "Artifact",
    "Budget",
    "Graph",
    "Preprocessing",
    "Recipe",
    "Session",
    "SubbyteError",
    "available_isas",
    "compress_model",
    "import_model",
    "list_recipes",
    "load",
    "load_recipe",
    "save",
]


if not TYPE_CHECKING:  # type checkers see the imports above

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'subbyte' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

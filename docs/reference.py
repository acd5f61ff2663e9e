"""The API reference: a page for every module of the package, from its docstrings and types, by pdoc.

    python -m docs.reference build/reference

Anything that pdoc warns of, as a type that it cannot resolve, stops it.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from pkgutil import walk_packages

import pdoc

import subbyte


def public_modules() -> list[str]:
    """Every module of the package without an underscore in front of its name."""
    found = [module.name for module in walk_packages(subbyte.__path__, "subbyte.")]
    return ["subbyte", *(name for name in found if "._" not in name)]


def build(folder: Path) -> None:
    """Writes the pages; index.html is the first. Raises UserWarning for what cannot be documented."""
    for name in subbyte.__all__:  # imported when they are used, and pdoc looks where they then are
        setattr(subbyte, name, getattr(subbyte, name))
    pdoc.render.configure(docformat="google", footer_text=f"subbyte {subbyte.__version__}", show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # packages without __all__ bring their modules along
        warnings.filterwarnings("ignore", "The module specification .* has already been added")
        pdoc.pdoc(*public_modules(), output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))

"""What pyproject.toml declares, and Python that can import nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement

from tests.boundary.tree import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: Modules that carry another name than their package.
SPELT = {"pillow": "PIL", "opencv_python_headless": "cv2"}
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ModuleNotFoundError(f"{name} is blocked here", name=name)

sys.meta_path.insert(0, Blocker())
"""


def names(requirements: Iterable[str]) -> set[str]:
    """Distributions, as modules are spelt."""
    return {Requirement(text).name.lower().replace("-", "_") for text in requirements}


def modules(requirements: Iterable[str]) -> set[str]:
    return {SPELT.get(name, name) for name in names(requirements)}


BASE = modules(PROJECT["dependencies"])
#: Of what the package imports: "all" is all of these, and "docs" only reads it.
EXTRA_TEXTS = {
    name: texts for name, texts in PROJECT["optional-dependencies"].items() if name not in ("all", "docs")
}
EXTRA = {name: modules(texts) - {"subbyte"} for name, texts in EXTRA_TEXTS.items()}


def closure(*extras: str) -> set[str]:
    """Every module that the base and these extras bring: what their distributions require, and so on."""
    seen = {"subbyte"}
    todo = [Requirement(text) for text in PROJECT["dependencies"]]
    todo += [Requirement(text) for extra in extras for text in EXTRA_TEXTS[extra]]
    while todo:
        one = todo.pop()
        name = one.name.lower().replace("-", "_")
        if name not in seen and (one.marker is None or one.marker.evaluate({"extra": ""})):
            seen.add(name)
            todo += [Requirement(text) for text in metadata.requires(one.name) or ()]
    homes = metadata.packages_distributions().items()
    return {"subbyte"} | {module for module, of in homes if {o.lower().replace("-", "_") for o in of} & seen}


def installed(code: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code where only the base and these extras can be imported."""
    blocked = f"allowed = set({sorted(closure(*extras))!r})\n{BLOCKER}{code}"
    return subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True)

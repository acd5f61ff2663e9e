"""What pyproject.toml declares is what the code imports: running an artifact needs only the base, the command
line its extra, some commands another."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from subbyte.artifact import save
from subbyte.cli.console import EXTRAS
from tests.boundary.tree import ROOT
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
#: Modules that carry another name than their package.
MODULES = {"pillow": "PIL"}
#: What reads, runs and rewrites artifacts, of the base alone.
RUNNING = ("quant", "ir", "reference", "passes", "artifact", "runtime", "device")
#: Where torch is imported: what these import may be of the extra "torch", and of "cli", which that brings.
COMPRESSING = ("models", "capture", "compress")

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
    return {MODULES.get(name, name) for name in names(requirements)}


BASE = modules(PROJECT["dependencies"])
EXTRA_TEXTS = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "all"}
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


def imports(path: Path) -> set[str]:
    """The third-party modules that a file imports anywhere, or asks for by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "peer_module":
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - {"subbyte", "__future__"}


USED = {
    path.relative_to(ROOT / "subbyte"): imports(path) for path in sorted((ROOT / "subbyte").rglob("*.py"))
}
ALL_USED = set().union(*USED.values())


def test_what_is_imported_is_declared() -> None:
    assert ALL_USED - BASE - set().union(*EXTRA.values()) - {"tomllib"} == set()


def test_what_is_declared_is_imported() -> None:
    assert BASE <= ALL_USED
    for name, declared in EXTRA.items():
        assert declared <= ALL_USED, name


def test_running_needs_the_base() -> None:
    for path, used in USED.items():
        if path.parts[0] in RUNNING:
            assert used <= BASE, path


def test_compressing_needs_one_extra() -> None:
    for path, used in USED.items():
        if path.parts[0] in COMPRESSING:
            assert used <= BASE | EXTRA["cli"] | EXTRA["torch"], path


def test_every_extra_brings_the_command_line() -> None:
    """Without it `subbyte compress` would not start, nor an image be read from Python."""
    for name, texts in EXTRA_TEXTS.items():
        assert name == "cli" or "subbyte[cli]" in texts


def test_a_missing_package_is_hinted_at_with_an_extra_that_brings_it() -> None:
    assert set(EXTRAS) == set().union(*EXTRA.values())
    for module, extra in EXTRAS.items():
        assert module in EXTRA[extra]
    (whole,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(whole).extras == set(EXTRA)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier, and beside it a folder of two labelled images."""
    import random

    b = Builder(random.Random(0), (8, 8, 3))
    x = b.qconv(b.quantize("image"), 8, (3, 3), act="relu")
    pooled = b.flatten(b.add("global_avg_pool", [x], b.grid()))
    folder = tmp_path_factory.mktemp("base")
    save(folder / "a.subbyte", wrap(b.finish(b.qlinear(pooled, 3))))
    (folder / "set").mkdir()
    for i in range(2):
        Image.fromarray(np.full((9, 9, 3), 90 * i, np.uint8)).save(folder / "set" / f"{i}.png")
    (folder / "set" / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n")
    return folder / "a.subbyte"


def installed(code: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code where only the base and these extras can be imported."""
    blocked = f"allowed = set({sorted(closure(*extras))!r})\n{BLOCKER}{code}"
    return subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True)


def command(*arguments: object, extras: tuple[str, ...] = ("cli",)) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return installed(f"sys.argv[1:] = {words!r}\nfrom subbyte.__main__ import main\nmain()", *extras)


def test_running_an_artifact_from_python(artifact: Path) -> None:
    code = f"""
import numpy as np
import subbyte
from subbyte.execute import reference

artifact = subbyte.load({str(artifact)!r})
session = subbyte.Session(artifact)
x = np.ones((1, 8, 8, 3), np.float32)
assert np.array_equal(session.run(x), reference.run(artifact.graph, x)[artifact.graph.outputs[0]])
assert session.plan()
subbyte.save({str(artifact.with_name("again.subbyte"))!r}, artifact)
found = {{name.split(".")[0] for name in sys.modules if not name.startswith("_")}}
print(*sorted(found - set(sys.stdlib_module_names)))
"""
    result = installed(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["numpy", "subbyte"]
    assert artifact.read_bytes() == artifact.with_name("again.subbyte").read_bytes()


@pytest.mark.parametrize("words", [(), ("--help",), ("run", "a.subbyte", "0.png")], ids=len)
def test_the_command_line_without_its_extra(words: tuple[str, ...]) -> None:
    result = command(*words, extras=())
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: the command line needs typer: pip install 'subbyte[cli]'\n"


@pytest.mark.parametrize(
    ("code", "module"),
    [("from subbyte.tasks import predict", "PIL"), ("import subbyte; subbyte.load_recipe", "pydantic")],
)
def test_what_the_base_lacks_is_a_module_not_found(code: str, module: str) -> None:
    result = installed(f"try:\n    {code}\nexcept ModuleNotFoundError as error:\n    print(error.name)")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{module}\n", "")
    assert EXTRAS[module] == "cli"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "ARTIFACT", "IMAGES/0.png"),
        ("inspect", "ARTIFACT"),
        ("evaluate", "ARTIFACT", "--data", "IMAGES", "--against", "ARTIFACT"),
        ("bench", "ARTIFACT", "--seconds", "0.01"),
        ("recipes",),
    ],
    ids=lambda words: words[0],
)
def test_commands_that_need_no_other_extra(artifact: Path, words: tuple[str, ...]) -> None:
    images = str(artifact.parent / "set")
    result = command(*(w.replace("ARTIFACT", str(artifact)).replace("IMAGES", images) for w in words))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("evaluate", "ARTIFACT", "--data", "IMAGES", "--corruptions", "fog"), "report"),
        (("report", "ARTIFACT", "--data", "IMAGES", "--output", "IMAGES/r.html"), "report"),
        (("bench", "ARTIFACT", "--against", "onnxruntime", "--seconds", "0.01"), "peers"),
        (
            ("compress", "tf_efficientnet_lite0", "--weights", "random", "--recipe", "fp32", "--output", "x"),
            "torch",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_missing_is_one_line(artifact: Path, words: tuple[str, ...], extra: str) -> None:
    images = str(artifact.parent / "set")
    result = command(*(w.replace("ARTIFACT", str(artifact)).replace("IMAGES", images) for w in words))
    assert result.returncode == 1, result.stderr
    assert re.search(rf"^error: .*subbyte\[{extra}\]", result.stderr, re.MULTILINE), result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_importing_subbyte_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import subbyte; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in found.stdout.split()} <= {"subbyte", *sys.stdlib_module_names}

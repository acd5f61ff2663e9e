"""What pyproject.toml declares is what the code imports: running an artifact needs only the base, the command
line its extra, some commands another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import subbyte
from subbyte.artifact import save
from subbyte.cli.console import EXTRAS
from tests.boundary.declared import BASE, EXTRA, EXTRA_TEXTS, PROJECT, installed
from tests.boundary.modules import MODULES
from tests.boundary.tree import ROOT
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

ALL_USED = set().union(*(module.third_parties for module in MODULES.values()))


def test_what_is_imported_is_declared() -> None:
    assert ALL_USED - BASE - set().union(*EXTRA.values()) - {"tomllib"} == set()


def test_what_is_declared_is_imported() -> None:
    assert BASE <= ALL_USED
    for name, declared in EXTRA.items():
        assert declared <= ALL_USED, name


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
            (
                "compress",
                "tf_efficientnet_lite0",
                "--weights",
                "random",
                "--recipe",
                "fp32",
                "--output",
                "x.subbyte",
            ),
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
    """Not even the rest of the package: names are imported when they are used."""
    code = "import sys; before = set(sys.modules); import subbyte; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {name for name in found.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names}
    assert ours == {"subbyte"}


def test_the_version_is_the_project_s() -> None:
    assert subbyte.__version__ == PROJECT["version"]


def test_the_commands_load_without_scipy() -> None:
    """Its OpenBLAS asks for memory for ever where little is left, before any code of ours could notice."""
    code = "import sys, subbyte.cli\nassert not {name for name in sys.modules if name.startswith('scipy')}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

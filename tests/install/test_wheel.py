"""A wheel runs networks where there is neither torch nor a compiler; the sdist holds what builds one."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from bench.install import CONSTRAINTS, commands
from bench.wheels import sdist
from subbyte.execute.native import available_isas
from tests.boundary.tree import ROOT, tracked
from tests.unit.artifact.store import STORED

SHIPPED = ("subbyte", "native", "cmake")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of what the editable installation compiled."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (path,) = folder.glob("*.whl")
    return path


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)


def test_the_commands_work_without_torch_and_compiler(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", symlinks=True)
    python = tmp_path / "empty" / "bin" / "python"
    pip("--python", str(python), "install", "--no-compile", "--constraint", str(CONSTRAINTS), f"{wheel}[cli]")
    told = commands(python)
    assert told["stored"] == dict.fromkeys(available_isas(), len(list(STORED.rglob("*.subbyte"))))
    assert set(told["commands"]) == {"run", "evaluate", "inspect", "bench"}


def test_the_wheel_holds_the_package_and_needs_numpy_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {Path(name) for name in file.namelist()}
        (metadata,) = (name for name in names if name.name == "METADATA")
        needs = message_from_bytes(file.read(str(metadata))).get_all("Requires-Dist")
        compiled = {name for name in names if name.suffix == ".so"}
        assert all(name.parts[0] == "subbyte" or ".dist-info" in name.parts[0] for name in names)
    assert {path for path in tracked() if path.parts[0] == "subbyte"} | compiled == {
        name for name in names if name.parts[0] == "subbyte"
    }
    assert [name.stem.partition(".")[0] for name in compiled] == ["_native"]
    assert [need for need in needs or [] if "extra ==" not in need] == ["numpy>=1.26"]
    assert wheel.stat().st_size < 3e6


def test_the_sdist_holds_every_source_and_nothing_else(tmp_path: Path) -> None:
    path = sdist(tmp_path)
    with tarfile.open(path) as file:
        names = {Path(*Path(member.name).parts[1:]) for member in file.getmembers() if member.isfile()}
    top = {"pyproject.toml", "CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md", "PKG-INFO"}
    assert names == {file for file in tracked() if file.parts[0] in SHIPPED} | set(map(Path, top))
    assert path.stat().st_size < 1e6

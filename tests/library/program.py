"""The library without Python, tried through its programs: subbyte_run and the installed example."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import Artifact, save
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing

ROOT = Path(__file__).resolve().parents[2]
#: A graph in a plain file, or a file as it says.
Network = Graph | Artifact


def tool(name: str) -> str:
    """A program of PATH or, installed by pip, beside the interpreter."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.fail(
            f"the engine's tests need {name}: pip install cmake ninja, and a C++ compiler with binutils"
        )
    return found


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=800)
    assert result.returncode == 0, (
        f"{' '.join(map(str, command))}\n{result.stdout[-4000:]}{result.stderr[-4000:]}"
    )
    return result.stdout


def configure(source: Path, build: Path, *options: str) -> None:
    """Runs CMake for `source`, unless `build` is configured already."""
    if not (build / "CMakeCache.txt").exists():
        run(
            tool("cmake"),
            "-S",
            source,
            "-B",
            build,
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
            *options,
        )


def saved(folder: Path, network: Network) -> Path:
    """The network as a file."""
    path = folder / "network.subbyte"
    if isinstance(network, Graph):
        height, width = network.value(network.input).shape[:2]
        network = Artifact(network, {}, Preprocessing(height, width, (0.5,) * 3, (0.5,) * 3))
    save(path, network)
    return path


STEP = (
    "name",
    "kernel",
    "requested_weights",
    "executed_weights",
    "requested_activations",
    "executed_activations",
)


def outputs(
    program: Sequence[str | Path], folder: Path, network: Network, images: np.ndarray, isa: str, threads: int
) -> list[np.ndarray]:
    """What subbyte_run makes of float32 images [n, H, W, C]; every step must have run a kernel of `isa`."""
    graph = network if isinstance(network, Graph) else network.graph
    steps = plan(program, folder, network, images, isa, threads)
    assert steps
    assert all(isa in step["kernel"] for step in steps), steps
    shapes = [(len(images), *graph.value(name).shape) for name in graph.outputs]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    values = np.split(np.fromfile(folder / "output", np.float32), ends)
    assert values.pop().size == 0
    return [v.reshape(shape) for v, shape in zip(values, shapes, strict=True)]


def plan(
    program: Sequence[str | Path], folder: Path, network: Network, images: np.ndarray, isa: str, threads: int
) -> list[dict[str, str]]:
    """What subbyte_run prints of the steps, by STEP; leaves the outputs in `folder`."""
    path = saved(folder, network)
    np.ascontiguousarray(images, np.float32).tofile(folder / "images")
    lines = run(*program, path, folder / "images", folder / "output", isa, str(threads)).splitlines()
    return [dict(zip(STEP, line.split("|"), strict=True)) for line in lines]


def example(install: Path, build: Path, *options: str) -> Path:
    """The example program, built with the package that `cmake --install` put into `install`."""
    configure(ROOT / "native" / "examples", build, f"-DCMAKE_PREFIX_PATH={install}", *options)
    run(tool("cmake"), "--build", build)
    return build / "classify"

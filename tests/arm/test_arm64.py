"""64-bit ARM: cross-built here, run under qemu: every kernel, and whole networks, equal to the definition.

Needs Debian's g++-aarch64-linux-gnu and qemu-user (.ci/run installs them); skipped where they are absent.
"""

from __future__ import annotations

import functools
import platform
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte import models
from subbyte.compress import compress
from subbyte.data.samples import image_folder, load_image
from subbyte.importers.torch_export import capture
from subbyte.ir import Graph
from subbyte.passes import optimize
from subbyte.recipes import load_recipe
from tests.contract.agreement import expected_outputs, random_images, same
from tests.fuzz import graphs
from tests.library.program import ROOT, configure, example, outputs, run, saved, tool

BUILD = ROOT / "build" / "arm"  # kept, so that a second run only rebuilds what changed
ISAS = ("neondotprod", "neoni8mm")
SIDE = 224
NATIVE = platform.machine() in ("aarch64", "arm64")
EMULATOR = [] if NATIVE else ["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"]


TOOLCHAIN = [] if NATIVE else [f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'cmake' / 'aarch64-linux-gnu.cmake'}"]

missing = [] if NATIVE else [n for n in ("aarch64-linux-gnu-g++", "qemu-aarch64") if shutil.which(n) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"no {' or '.join(missing)}: apt-get install g++-aarch64-linux-gnu qemu-user"
)


@pytest.fixture(scope="module")
def build() -> Path:
    configure(ROOT, BUILD, "-DSUBBYTE_TESTS=ON", *TOOLCHAIN)
    run(tool("cmake"), "--build", BUILD)
    return BUILD


def program(build: Path) -> list[str | Path]:
    return [*EMULATOR, build / "subbyte_run"]


@pytest.fixture(scope="module")
def isas(build: Path) -> list[str]:
    """What the emulated CPU has: both, or these tests would pass without testing."""
    found = run(*program(build), "--isas").split()
    assert found[0] == "portable"
    if not NATIVE:
        assert found[1:] == list(ISAS)
    return found


def test_an_older_cpu_is_offered_portable_only(build: Path) -> None:
    if NATIVE:
        pytest.skip("runs on this machine's own CPU")
    command = [*EMULATOR[:2], "cortex-a53", *EMULATOR[3:]]
    assert run(*command, build / "subbyte_run", "--isas").split() == ["portable"]


def test_every_kernel_equals_the_definition(build: Path, isas: list[str]) -> None:
    output = run(*EMULATOR, build / "subbyte_kernel_test")
    print(output)
    checks = dict(re.findall(r"^(\w+): (\d+) checks, 0 failures", output, re.MULTILINE))
    assert set(checks) == {path.parent.name for path in (ROOT / "native" / "kernels").glob("*/kernels.inc")}
    assert all(int(count) > 1000 for count in checks.values())
    for row in re.findall(r"^SKIPPED (\w+):", output, re.MULTILINE):
        assert row.rsplit("_", 1)[-1] not in isas


def test_no_instruction_set_exports_vague_linkage(build: Path) -> None:
    """A weak symbol compiled for a later CPU could be the one the linker keeps for every CPU."""
    nm = "nm" if NATIVE else "aarch64-linux-gnu-nm"
    objects = sorted(build.rglob("kernels/*/arm64_*.cc.o"))
    assert len(objects) == 4 * len(ISAS)  # no Winograd kernels
    for path in objects:
        lines = [line.split() for line in run(nm, "--defined-only", path).splitlines()]
        letters = {fields[-2] for fields in lines if len(fields) >= 2}
        assert "T" in letters, path  # the kernels themselves
        assert not letters & set("WwVvu"), path


@functools.cache
def network() -> tuple[Graph, np.ndarray, np.ndarray]:
    """EfficientNetV2-B0 with seeded random weights, calibration images, test image."""
    loaded = models.load("tf_efficientnetv2_b0", "random:0")
    preprocessing = replace(loaded.preprocessing, height=SIDE, width=SIDE)
    graph = optimize(capture(loaded.module, (SIDE, SIDE, 3)))
    folders = [(ROOT / "demo" / "calibration", 4), (ROOT / "demo" / "images", 1)]
    images = [
        np.stack([load_image(sample.path, preprocessing) for sample in image_folder(folder)[:count]])
        for folder, count in folders
    ]
    return graph, images[0], images[1]


@pytest.mark.parametrize("recipe", ["w8a8", "w4a8", "w2a8"])
def test_network_equals_the_reference(build: Path, isas: list[str], tmp_path: Path, recipe: str) -> None:
    float_graph, calibration, images = network()
    graph = compress(float_graph, load_recipe(recipe), [calibration])
    (expected,) = expected_outputs(graph, images)
    assert len(np.unique(expected)) > 300  # the network did not collapse
    for isa, threads in zip(isas[1:], (1, 2), strict=True):
        assert same(outputs(program(build), tmp_path, graph, images, isa, threads), [expected]), (
            f"{isa}, {threads} threads"
        )


GRAPHS = {
    "8 bits": lambda: graphs.quantized(random.Random(1), 8),
    "4 bits": lambda: graphs.quantized(random.Random(2), 4),
    "3 bits": lambda: graphs.quantized(random.Random(7), 3),
    "2 bits": lambda: graphs.quantized(random.Random(3), 2),
    "narrow activations": lambda: graphs.narrow(random.Random(4)),
    "small network": lambda: graphs.middle(random.Random(5)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_equals_the_reference(build: Path, isas: list[str], tmp_path: Path, name: str) -> None:
    graph = GRAPHS[name]()
    x = random_images(graph, 2, 6)
    expected = expected_outputs(graph, x)
    for isa in isas:
        for threads in (1, 3):
            assert same(outputs(program(build), tmp_path, graph, x, isa, threads), expected), (
                f"{isa}, {threads} threads"
            )


def test_an_installed_package_builds_the_example(build: Path, isas: list[str], tmp_path: Path) -> None:
    run(tool("cmake"), "--install", build, "--prefix", tmp_path / "prefix")
    # the toolchain file looks for packages on the target's root only
    classify = example(
        tmp_path / "prefix", tmp_path / "build", *TOOLCHAIN, "-DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH"
    )
    graph = GRAPHS["small network"]()
    (expected,) = expected_outputs(graph, x := random_images(graph, 1, 6))
    x.tofile(tmp_path / "image.f32")
    lines = run(*EMULATOR, classify, saved(tmp_path, graph), tmp_path / "image.f32").splitlines()
    best = np.argsort(-expected.reshape(-1), kind="stable")[: len(lines)]
    assert [int(line.split()[1]) for line in lines] == best.tolist()

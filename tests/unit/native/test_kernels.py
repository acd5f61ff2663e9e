"""Builds native/'s kernel test with CMake and runs it; inspects the objects of the instruction sets."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from subbyte.execute.native import available_isas
from tests.library.program import ROOT, configure, run, tool

BUILD = ROOT / "build" / "kernels"  # kept, so that a second run only rebuilds what changed


@pytest.fixture(scope="module")
def build() -> Path:
    configure(ROOT, BUILD, "-DSUBBYTE_TESTS=ON")
    run(tool("cmake"), "--build", BUILD, "--target", "subbyte_kernel_test", "subbyte_kernel_bench")
    return BUILD


def test_every_kernel_equals_the_definition(build: Path) -> None:
    output = run(build / "subbyte_kernel_test")
    print(output)
    checks = dict(re.findall(r"^(\w+): (\d+) checks, 0 failures", output, re.MULTILINE))
    families = {path.parent.name for path in (ROOT / "native" / "kernels").glob("*/kernels.inc")}
    assert set(checks) == families
    assert all(int(count) > 1000 for count in checks.values())
    # what was left out is named, and is of an instruction set that this CPU lacks
    for row in re.findall(r"^SKIPPED (\w+):", output, re.MULTILINE):
        assert row.rsplit("_", 1)[-1] not in available_isas()


def rows() -> dict[str, str]:
    """Rows of all tables that this compiler's machine has, as the preprocessor sees them: name to its ISA."""
    found = {}
    for table in (ROOT / "native" / "kernels").glob("*/kernels.inc"):
        text = run(tool("c++"), "-E", "-P", "-x", "c++", "-DSUBBYTE_KERNEL(...)=ROW __VA_ARGS__;", table)
        for row in re.findall(r"ROW ([^;]*);", text):
            isa, *words = (word.strip() for word in row.split(","))
            (name,) = (word for word in words if "_" in word)
            found[name] = isa
    return found


def test_the_benchmark_lists_every_row(build: Path) -> None:
    """Each with a rate, or as one that this CPU cannot run. Nothing is said of how fast."""
    lines = run(build / "subbyte_kernel_bench", "", "0.00001").splitlines()
    listed = {line.split()[0] for line in lines}
    assert listed == set(rows())
    assert len(listed) > 30
    for line in lines:
        name = line.split()[0]
        rate = re.search(r" [0-9.]+ G ((float )?MAC/s +[0-9.]+ % of peak|(elements|inputs|outputs)/s)$", line)
        runs = name.rsplit("_", 1)[-1] in available_isas()
        assert (rate is not None) == runs, line
        assert ("cannot run" in line) != runs, line


def test_the_benchmark_filters_by_name(build: Path) -> None:
    lines = run(build / "subbyte_kernel_bench", "u8s4", "0.00001").splitlines()
    assert {line.split()[0] for line in lines} == {name for name in rows() if "u8s4" in name}


def symbols(path: Path) -> dict[str, str]:
    """Defined symbols of an object file: name to nm's letter."""
    lines = run(tool("nm"), "--defined-only", path).splitlines()
    return {fields[-1]: fields[-2] for fields in map(str.split, lines) if len(fields) >= 2}


def test_no_instruction_set_exports_vague_linkage(build: Path) -> None:
    """A weak symbol compiled for AVX-512 could be the one the linker keeps for every CPU."""
    prefix = "x86_" if platform.machine() in ("x86_64", "AMD64") else "arm64_"
    sources = sorted((ROOT / "native" / "kernels").glob(f"*/{prefix}*.cc"))
    assert sources or prefix == "arm64_"
    for source in sources:
        (path,) = build.rglob(f"kernels/{source.parent.name}/{source.name}.o")
        found = symbols(path)
        assert "T" in found.values(), path  # the kernels themselves
        weak = {name for name, letter in found.items() if letter in "WwVvu"}
        assert not weak, f"{source.parent.name}/{source.name}: {sorted(weak)[:5]}"


def test_weak_symbols_would_be_seen(tmp_path: Path) -> None:
    """The letter that the test above looks for, from the smallest function with vague linkage."""
    source = tmp_path / "x86_weak.cc"
    source.write_text("template <typename T> T twice(T x) { return x + x; }\ntemplate int twice<int>(int);\n")
    run(tool("c++"), "-c", source, "-o", tmp_path / "x86_weak.o")
    assert set(symbols(tmp_path / "x86_weak.o").values()) & set("WwVvu")

"""What `python -m bench.install` counts, without installing anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.install import NETWORK, sizes, table
from subbyte.artifact import save
from tests.fuzz.graphs import seeds


def test_a_distribution_and_its_libraries_are_one_package(tmp_path: Path) -> None:
    for name, count in {
        "numpy/a.py": 5,
        "numpy/core/b.so": 7,
        "numpy.libs/c.so": 100,
        "numpy-2.0.dist-info/RECORD": 1,
        "single.py": 3,
        "pip/d.py": 1000,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(count))
    assert list(sizes(tmp_path).items()) == [("numpy", 113), ("single", 3)]


def test_the_table_adds_up() -> None:
    result = {
        "wheel": "a.whl",
        "wheel_bytes": 1_140_000,
        "packages": {"numpy": 71_400_000, "subbyte": 3_300_000},
        "import_ms": 0.3,
        "imported": ["numpy"],
        "cli": {
            "packages": {"numpy": 71_400_000, "PIL": 20_000_000, "subbyte": 3_300_000},
            "help_ms": 99.6,
            "commands": {"stored": {"avx2": 9}},
        },
    }
    assert table(result).splitlines()[2:] == [
        "| numpy | 71.4 | 71.4 |",
        "| PIL | 0.0 | 20.0 |",
        "| subbyte | 3.3 | 3.3 |",
        "| **together** | **74.7** | **94.7** |",
        "| **without numpy** | **3.3** | **23.3** |",
        "",
        "a.whl: 1.14 MB",
        "`import subbyte`: 0.3 ms; `subbyte --help`: 100 ms",
        "a network's run imports: numpy",
        'without torch or a compiler: {"stored": {"avx2": 9}}',
    ]


def test_what_running_a_network_imports(tmp_path: Path) -> None:
    save(tmp_path / "a.subbyte", seeds()["mixed"])
    command = [sys.executable, "-c", NETWORK, str(tmp_path / "a.subbyte")]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(found) == ["numpy", "subbyte"]

"""An exporter is added by its row and a package.

Here: a format that lists the operations as text. A real one touches one existing file,
subbyte/exporters/__init__.py (its row), and adds a package beside it with `export` and `OPS`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from subbyte.errors import InputError
from subbyte.exporters import EXPORTERS, Exporter, write_graph
from subbyte.ir import OPS, Graph
from tests.contract.test_ops import assert_takes_or_disclaims_all
from tests.fuzz.builder import Builder


def export(graph: Graph, *, batch: int) -> bytes:
    return "\n".join([str(batch), *(node.op for node in graph.nodes)]).encode()


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    package = ModuleType("listing")
    vars(package).update(export=export, OPS=tuple(OPS))
    monkeypatch.setitem(sys.modules, "listing", package)
    monkeypatch.setitem(EXPORTERS, "listing", Exporter("listing", "listing", ".ops"))
    b = Builder(random.Random(0), (4, 4, 3))
    return b.finish(b.fconv("image", 4, 3, act="relu"))


def test_it_writes_files_of_its_suffix(graph: Graph, tmp_path: Path) -> None:
    write_graph(graph, tmp_path / "a.ops", batch=2)
    assert (tmp_path / "a.ops").read_text() == "2\nconv2d"


def test_it_owes_every_operation(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_takes_or_disclaims_all(EXPORTERS["listing"])
    monkeypatch.setattr(sys.modules["listing"], "OPS", ("conv2d",))
    with pytest.raises(AssertionError):
        assert_takes_or_disclaims_all(EXPORTERS["listing"])


def test_another_suffix_names_the_known_ones(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in one of \.onnx, \.tflite, \.ops"):
        write_graph(graph, tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_those_that_there_are_write_files(graph: Graph, name: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnx", "tflite": "ai_edge_litert"}[name])
    path = tmp_path / f"a{EXPORTERS[name].suffix}"
    write_graph(graph, path)
    assert path.stat().st_size > 4 * 3 * 3 * 3 * 4  # the weights alone

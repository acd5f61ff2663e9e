"""An exporter is added by its row and a package.

Here: a format that lists the operations as text. A real one touches one existing file,
subbyte/exporters/__init__.py (its row), and adds a package beside it with `export`, `executed` and `OPS`.
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


def executed(graph: Graph, data: bytes) -> dict[str, str]:
    return dict.fromkeys((node.name for node in graph.nodes), "text")


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    package = ModuleType("listing")
    vars(package).update(export=export, executed=executed, OPS=tuple(OPS))
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
    with pytest.raises(InputError, match=r"must end in one of \.onnx, \.tflite, \.qonnx\.onnx, \.ops"):
        write_graph(graph, tmp_path / "a.bin")
    assert not list(tmp_path.iterdir())


def test_it_says_what_its_target_executes(graph: Graph) -> None:
    row = EXPORTERS["listing"]
    assert row.executed(graph, row.export(graph)) == {"conv2d0": "text"}


def test_options_are_those_of_its_row(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the format listing has no option 'wide'"):
        write_graph(graph, tmp_path / "a.ops", wide=True)


@pytest.mark.parametrize("name", ["onnx", "qonnx", "tflite"])
def test_those_that_there_are_write_files(graph: Graph, name: str, tmp_path: Path) -> None:
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(name, "onnx"))
    path = tmp_path / f"a{EXPORTERS[name].suffix}"
    write_graph(graph, path)
    assert path.stat().st_size > 4 * 3 * 3 * 3 * 4  # the weights alone

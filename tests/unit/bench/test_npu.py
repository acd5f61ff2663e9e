"""Costs beside Vela's: its report read, operators given to nodes, zeros of 2:4, and what is printed."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import npu
from bench.vela import Row, by_node, compiled
from bench.zigzag import searched
from subbyte.artifact import Artifact, save
from subbyte.device import Layer, find_target
from subbyte.device.network import asked, price
from subbyte.device.npu import Npu
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.quant.format import INT8, UINT8
from tests.fuzz.builder import Builder

DEVICE = "ethos-u85-256"


@pytest.fixture
def graph() -> Graph:
    b = Builder(random.Random(5), (8, 8, 4))
    x = b.qconv(b.quantize("image"), 16, (3, 3), act="relu6")
    x = b.qconv(x, 16, (3, 3), residual=x)
    return b.finish(b.add("dequantize", [b.qconv(x, 8)]))


def rows(graph: Graph, factor: float) -> list[Row]:
    """A report in which every layer takes `factor` of what the model says, parts of it under own names."""
    found = []
    for row, cost in zip(asked(graph), price(find_target(DEVICE), asked(graph)).costs, strict=True):
        name, cycles = graph.node(row.name).output, factor * (cost.cycles or 0.0)
        if row.layer.residual:
            found.append(Row("Conv2D", f"{name}/sum", "NPU", 0.75 * cycles, cycles))
            cycles *= 0.25
        found.append(Row(row.layer.op, name, "NPU", cycles, cycles))
    return [*found, Row("Softmax", "elsewhere", "CPU", 0.0, 0.0)]


def test_operators_of_a_node(graph: Graph) -> None:
    found = by_node(graph, rows(graph, 1.0))
    assert [row.name for row in found[""]] == ["elsewhere"]
    second = [node for node in graph.nodes if node.op == "conv2d"][1]
    assert [row.operator for row in found[second.name]] == ["Conv2D", "conv2d"]


def test_the_error_is_printed(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(npu, "exported", lambda graph: b"")
    monkeypatch.setattr(npu, "compiled", lambda data, device: rows(graph, 2.0))
    npu.beside_vela(graph, DEVICE)
    printed = capsys.readouterr().out
    assert "3 layers" in printed
    assert "0.500 of them" in printed
    assert "median error of a layer 100 %, 0 % within 25 %" in printed


def test_zeros_of_two_in_four(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = npu.sparse(graph)
    for node in made.nodes:
        weight = node.params.get("weight")
        if isinstance(weight, QTensor):
            groups = (weight.codes != 0).reshape(-1, 4)
            assert (groups.sum(axis=1) <= 2).all()
            kept = graph.node(node.name).params["weight"]
            assert isinstance(kept, QTensor)
            assert np.array_equal(weight.codes[weight.codes != 0], kept.codes[weight.codes != 0])
    reports = {"dense": rows(graph, 2.0), "sparse": rows(graph, 1.0)}
    monkeypatch.setattr(npu, "exported", lambda one: b"dense" if one is graph else b"sparse")
    monkeypatch.setattr(npu, "compiled", lambda data, device: reports[data.decode()])
    npu.with_and_without(graph, DEVICE)
    assert ": 2.00 times faster;" in capsys.readouterr().out


def test_operators_that_leave_the_npu(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(npu, "compiled", lambda data, device: rows(graph, 1.0))
    npu.operators(b"", DEVICE)
    printed = capsys.readouterr().out
    assert f"operators on {DEVICE}, 1 not" in printed
    assert "1 x Softmax: elsewhere" in printed


def test_what_is_missing_is_said(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install ethos-u-vela"):
        compiled(b"", DEVICE)
    assert npu.main(["vela", str(tmp_path / "none.subbyte")]) == 1
    assert "error: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        npu.main(["vela"])


def test_zigzags_energies_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(device: Npu, layer: Layer) -> tuple[float, float]:
        cost = replace(device, static=0.0).cost(layer, INT8, UINT8)
        return (cost.energy or 0.0) / 2, (cost.cycles or 0.0) / 4

    monkeypatch.setattr(npu, "searched", half)
    assert npu.main(["zigzag"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(npu.ASKED)
    assert all(line.split(" | ")[3] == "2.00" and line.endswith(" | 4.00") for line in lines)
    monkeypatch.setattr(npu, "searched", searched)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert npu.main(["zigzag"]) == 1
    assert "pip install zigzag-dse" in capsys.readouterr().err


def test_calibration_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert npu.main(["calibrate"]) == 0
    printed = capsys.readouterr().out
    assert "V1: 50.3 MMAC, 788 thousand weights" in printed
    assert "v2-npu as it is: 12.00 ms, 2.16" in printed


@pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="ethos-u-vela is not installed")
def test_vela_takes_the_network(graph: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert")
    preprocessing = Preprocessing(8, 8, (0.5,) * 4, (0.5,) * 4)
    path = tmp_path / "a.subbyte"
    save(path, Artifact(graph, {"name": "test"}, preprocessing))
    assert npu.main(["operators", str(path), DEVICE]) == 0
    assert f"operators on {DEVICE}, 0 not" in capsys.readouterr().out
    assert npu.main(["vela", str(path), DEVICE]) == 0
    assert "3 layers" in capsys.readouterr().out

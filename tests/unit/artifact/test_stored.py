"""Files that released format versions wrote load for ever, and compute the same integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import load, save
from subbyte.artifact.file import version_of
from subbyte.execute import reference
from subbyte.execute.native import Session, available_isas
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from tests.contract.agreement import engine_outputs
from tests.unit.artifact.compare import same_array, same_artifact
from tests.unit.artifact.store import STORED

FILES = sorted(STORED.rglob("*.subbyte"))
pytestmark = pytest.mark.parametrize("path", FILES, ids=[f"{p.parent.name}-{p.stem}" for p in FILES])


def answers(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The stored input and outputs."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
        arrays = dict(stored)
    return arrays.pop("x"), arrays


def assert_equal(graph: Graph, actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected) == set(graph.outputs)
    for name in graph.outputs:
        assert same_array(actual[name] + 0, expected[name] + 0), name  # -0.0 and 0.0 are equal numbers


def test_reference(path: Path) -> None:
    x, expected = answers(path)
    graph = load(path).graph
    assert_equal(graph, reference.run(graph, x), expected)


def test_torch_executor(path: Path) -> None:
    x, expected = answers(path)
    graph = load(path).graph
    assert_equal(graph, torch_executor.run(graph, x), expected)


@pytest.mark.parametrize("isa", available_isas())
def test_engine(path: Path, isa: str) -> None:
    x, expected = answers(path)
    graph = load(path).graph
    outputs = engine_outputs(Session(path, isa=isa), x)
    grids = {name: graph.value(name).q for name in graph.outputs}
    numbers = {name: y if (q := grids[name]) is None else q.dequantize(y) for name, y in expected.items()}
    assert_equal(graph, dict(zip(graph.outputs, outputs, strict=True)), numbers)


def test_saved_again_it_means_the_same(path: Path, tmp_path: Path) -> None:
    artifact = load(path)
    save(tmp_path / "again.subbyte", artifact)
    assert same_artifact(load(tmp_path / "again.subbyte"), artifact)
    if path.parent.name == version_of(artifact):
        assert (tmp_path / "again.subbyte").read_bytes() == path.read_bytes()

"""An executor is added by its row and a folder of its own.

Here: the reference, an image at a time. A real one touches one existing file, subbyte/execute/__init__.py
(its row; subbyte/ir/ops.py too, if it lacks operations), and adds a module with `prepare` and `OPS`. The
contract suite then runs over it, as tests/contract/test_executors.py does with every row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
import pytest

from subbyte.execute import EXECUTORS, Executor
from subbyte.execute.images import checked
from subbyte.execute.reference import executor as reference
from subbyte.execute.reference.ops import OPS
from subbyte.ir import Graph, verify
from tests.contract.executor_suite import CASES
from tests.contract.test_ops import assert_takes_or_disclaims_all


@dataclass(frozen=True)
class Prepared:
    graph: Graph

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        images = checked(self.graph, x)
        parts = [reference.run(self.graph, images[i : i + 1]) for i in range(len(images))]
        empty = reference.run(self.graph, images[:0])
        return {name: np.concatenate([empty[name], *(part[name] for part in parts)]) for name in empty}


def prepare(graph: Graph) -> Prepared:
    return Prepared(verify(graph))


@pytest.fixture(autouse=True)
def single(monkeypatch: pytest.MonkeyPatch) -> None:
    home = ModuleType("one_at_a_time")
    home.prepare, home.OPS = prepare, OPS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, home.__name__, home)
    monkeypatch.setitem(EXECUTORS, "single", Executor("single", home.__name__, ("numpy",), "equal"))


@pytest.mark.parametrize("case", CASES)
def test_it_keeps_the_contract(case: str) -> None:
    CASES[case](EXECUTORS["single"])


def test_it_takes_every_op() -> None:
    assert_takes_or_disclaims_all(EXECUTORS["single"])


def _one_more(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array ^ 1 if array.dtype == np.uint8 else array for name, array in outputs.items()}


@pytest.mark.parametrize(
    ("wrong", "case"),
    [
        (lambda run, x: _one_more(run(x)), "narrow activations"),
        (lambda run, x: {n: a.astype(np.float32) for n, a in run(x).items()}, "narrow activations"),
        (lambda run, x: dict(list(run(x).items())[:-1]), "width 4"),
        (lambda run, x: {n: a * np.float32(1 + 2**-20) for n, a in run(x).items()}, "floats"),
        (lambda run, x: run(np.nan_to_num(x)), "bad input, nan"),
        (lambda run, x: run(x[:1]), "batches"),
    ],
)
def test_the_suite_finds_what_is_wrong(
    wrong: Callable[..., dict[str, np.ndarray]], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Prepared.run
    monkeypatch.setattr(Prepared, "run", lambda self, x: wrong(partial(right, self), x))
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError)):
        CASES[case](EXECUTORS["single"])

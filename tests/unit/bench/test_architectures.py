"""bench/architectures.py: what it compares, and what it says of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench import architectures
from subbyte.execute import EXECUTORS
from subbyte.execute.native import available_isas
from tests.contract.agreement import random_images
from tests.fuzz import graphs


def test_equal_networks() -> None:
    graph = graphs.quantized(random.Random(3), 4)
    graph = replace(graph, outputs=graph.outputs[:1])
    found = architectures.comparison(graph, random_images(graph, 1, 3))
    names = ["torch", *(f"engine {isa}" for isa in available_isas())]
    assert found["executors"] == dict.fromkeys(names, "equal")


def test_what_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graphs.quantized(random.Random(3), 4)
    x = random_images(graph, 1, 3)
    assert architectures.layers(graph, x, "torch", {}) == "layers equal"
    wrong = graph.nodes[3]
    prepare = type(EXECUTORS["torch"]).prepare

    class Damaged:
        """The torch executor, with one value changed."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
            values: dict[str, np.ndarray] = self.inner.run(x)
            return values | {wrong.output: values[wrong.output] ^ 1}

    monkeypatch.setattr(
        type(EXECUTORS["torch"]), "prepare", lambda row, graph, **options: Damaged(prepare(row, graph))
    )
    assert architectures.layers(graph, x, "torch", {}) == f"differs at {wrong.name} ({wrong.op})"


def test_nothing_stays_constant() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LayerNorm(5))
    for name, tensor in [*architectures.randomize(model).state_dict().items()]:
        assert tensor.ndim == 0 or len(torch.unique(tensor)) > 1, name
    assert float(model.state_dict()["1.running_var"].min()) > 0.4


def test_the_table() -> None:
    row: dict[str, Any] = {"input": [64, 64, 3], "exact": True, "operations": 7, "correlation": 0.99}
    results = {
        "one": row | {"executors": {"torch": "equal", "engine avx2": "equal"}},
        "two": row | {"exact": False, "executors": {"torch": "equal", "engine avx2": "layers equal"}},
        "three": row | {"executors": {"torch": "differs", "engine avx2": "equal"}},
        "four": {"input": [64, 64, 3], "refused": "operator a | b is not supported"},
    }
    text = architectures.table(results)
    assert text.startswith("3 of 4 networks tried are captured. Of these 1 give equal\n")
    assert "1 more, which have float32 operations inside" in text
    assert "; 1 differ." in text
    assert "| two | 64×64×3 | 7 | yes | equal, layers equal | 0.9900 |" in text
    assert "| four | 64×64×3 | – | – | refused: operator a   b is not supported | – |" in text

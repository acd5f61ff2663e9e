"""Losses of distillation beside their formulas, and what a teacher has to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subbyte.artifact import Artifact, load, save
from subbyte.compress import compress
from subbyte.errors import ArtifactError, InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.recipes import Distillation, Recipe
from subbyte.steps.losses import Losses, attention_loss, feature_loss, output_loss
from subbyte.steps.teacher import block_pairs, check_normalization, gate_pairs, teacher_of
from subbyte.tasks.table import TASKS
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images

CLASSIFIER = TASKS["classification"]


def asked(**options: Any) -> Distillation:
    return Distillation(epochs=1.0, **options)


def random_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made, wanted = torch.randn(2, *shape, generator=generator)
    return made, wanted


def rounded(graph: Graph) -> Graph:
    recipe = Recipe.model_validate({"name": "x", "weights": {"bits": 4}})
    return compress(graph, recipe, [random_images(graph, 8)])


def loss_of(options: Distillation, student: Graph, teacher: Graph, labels: np.ndarray | None = None) -> float:
    losses = Losses(CLASSIFIER, options, student, teacher_of(teacher, options.teacher), labels)
    x = torch_executor.nchw(random_images(student, 6))
    return float(losses(student, torch_executor.state_of(student), x, torch.arange(6)))


def test_temperature() -> None:
    made, wanted = (y.double() for y in random_pair(5, 10))
    p, q = (np.exp(y.numpy() / 3.0) for y in (wanted, made))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    expected = (p * np.log(p / q)).sum(1).mean() * 9.0
    assert float(output_loss(CLASSIFIER, [made], [wanted], 3.0)) == pytest.approx(expected, rel=1e-12)
    plain = float(output_loss(CLASSIFIER, [made], [wanted]))
    assert plain == float(CLASSIFIER.distillation_loss([made], [wanted]))


def test_features() -> None:
    first, second = random_pair(4, 3, 5, 5), random_pair(4, 7)
    expected = [((m - w) ** 2).mean() / (w**2).mean() for m, w in (first, second)]
    assert float(feature_loss([first, second])) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    assert float(feature_loss([(first[1], first[1])])) == 0.0


def test_attention() -> None:
    made, wanted = (x.double() for x in random_pair(4, 3, 5, 6))
    expected = 0.0
    for m, w in zip(made.numpy(), wanted.numpy(), strict=True):
        a, b = ((x**2).sum(0).ravel() for x in (m, w))
        expected += ((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2).sum() / 4
    assert float(attention_loss([(made, wanted)])) == pytest.approx(expected, rel=1e-12)
    # scale and sign of a map do not matter
    assert float(attention_loss([(-2.0 * wanted, wanted)])) == pytest.approx(0.0, abs=1e-30)


def test_a_loss_is_the_weighted_sum_of_its_parts() -> None:
    graph = efficientnet_like()
    student, labels = rounded(graph), np.arange(6)
    parts: dict[str, dict[str, Any]] = {
        "logits": {},
        "features": {"logits": 0.0, "features": 1.0},
        "attention": {"logits": 0.0, "attention": 1.0},
        "gates": {"logits": 0.0, "gates": 1.0},
        "labels": {"logits": 0.0, "labels": 1.0},
    }
    alone = {name: loss_of(asked(**options), student, graph, labels) for name, options in parts.items()}
    assert all(value > 0.0 for value in alone.values())
    weights = {"logits": 0.5, "features": 2.0, "attention": 3.0, "gates": 4.0, "labels": 0.25}
    whole = loss_of(asked(**weights), student, graph, labels)
    # five float32 products and sums
    assert whole == pytest.approx(sum(weights[name] * value for name, value in alone.items()), rel=1e-6)


def test_losses_look_at_real_numbers_of_blocks_and_gates() -> None:
    graph = efficientnet_like()
    student = rounded(graph)
    assert block_pairs(student, graph) == [("stem:out", "stem:out"), ("project:out", "project:out")]
    assert gate_pairs(student, graph) == [("excite:out", "excite:out")]
    x = torch_executor.nchw(random_images(graph, 6))
    state = torch_executor.state_of(student)
    values = torch_executor.forward(student, x, state, keep=True, exact=False)
    exact = torch_executor.forward(graph, x, keep=True)
    expected = []
    for name in ("stem:out", "project:out"):
        q, wanted = student.value(name).grid, exact[name]
        made = (values[name] - q.zero_point) * q.scale
        expected.append(float((made - wanted).square().mean() / wanted.square().mean()))
    found = loss_of(asked(logits=0.0, features=1.0), student, graph)
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_nothing_is_kept_for_a_loss_that_is_off() -> None:
    graph = efficientnet_like()
    losses = Losses(CLASSIFIER, asked(), rounded(graph), teacher_of(graph, None))
    assert losses.pairs == []


def written(graph: Graph, path: Path) -> str:
    height, width, _ = graph.value(graph.input).shape
    preprocessing = Preprocessing(width, height, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0, "center")
    save(path, Artifact(graph, {}, preprocessing, None, {}))
    return str(path)


def other_network(classes: int = 10, side: int = 8) -> Graph:
    net = FloatNetwork((side, side, 3), seed=5)
    x = net.conv("only", "image", 12, 3, "relu")
    return net.graph(net.linear("last", net.flatten(net.pool(x)), classes))


def test_a_teacher_is_an_artifact_too(tmp_path: Path) -> None:
    graph = efficientnet_like()
    student = rounded(graph)
    options = asked(features=1.0, gates=1.0, teacher=written(graph, tmp_path / "same.subbyte"))
    own = asked(features=1.0, gates=1.0)
    # float convolutions of a file are those of memory
    assert loss_of(options, student, graph) == loss_of(own, student, graph)
    quantized = asked(features=1.0, teacher=written(student, tmp_path / "itself.subbyte"))
    assert loss_of(quantized, student, graph) == 0.0


def test_a_teacher_of_another_architecture_teaches_logits(tmp_path: Path) -> None:
    graph = efficientnet_like()
    student = rounded(graph)
    for side in (8, 12):
        path = written(other_network(side=side), tmp_path / f"{side}.subbyte")
        assert loss_of(asked(teacher=path), student, graph) > 0.0
    for loss in ("features", "attention", "gates"):
        with pytest.raises(InputError, match="learn from logits alone"):
            loss_of(asked(teacher=path, **{loss: 1.0}), student, graph)
    plain = other_network()
    with pytest.raises(InputError, match="no squeeze-and-excitation gates"):
        loss_of(asked(gates=1.0), rounded(plain), plain)


def test_what_cannot_teach_is_one_clear_error_before_any_work(tmp_path: Path) -> None:
    graph, told = efficientnet_like(), []
    images = random_images(graph, 8)

    def refused(message: str, **options: Any) -> None:
        error = ArtifactError if "cannot read" in message else InputError
        base = {"name": "x", "weights": {"bits": 4}, "steps": ["distill"]}
        recipe = Recipe.model_validate({**base, "distill": {"epochs": 1, **options}})
        with pytest.raises(error, match=message):
            compress(graph, recipe, [images], progress=lambda *what: told.append(what))
        assert told == []

    refused("cannot read", teacher=str(tmp_path / "missing.subbyte"))
    refused("choose a teacher of the same", teacher=written(other_network(classes=7), tmp_path / "a.subbyte"))
    refused("needs labels", labels=1.0)


def test_a_teacher_of_other_images_is_refused(tmp_path: Path) -> None:
    path = written(efficientnet_like(), tmp_path / "a.subbyte")
    own = load(path).preprocessing
    check_normalization(path, own)
    with pytest.raises(InputError, match="choose a teacher of the same normalization"):
        check_normalization(path, replace(own, std=(0.5, 1.0, 1.0)))


def test_options_of_class_scores_need_class_scores() -> None:
    graph = efficientnet_like()
    recipe = {"name": "x", "weights": {"bits": 4}, "steps": ["distill"]}
    for options in ({"temperature": 2.0}, {"labels": 1.0}):
        asks = Recipe.model_validate({**recipe, "distill": {"epochs": 1, **options}})
        with pytest.raises(InputError, match="is for class scores; the network's task is regression"):
            compress(graph, asks, [random_images(graph, 8)], labels=np.arange(8), task="regression")
    asks = Recipe.model_validate({**recipe, "distill": {"epochs": 1, "labels": 1.0}})
    with pytest.raises(InputError, match=r"labels must be 0\.\.9, got 0\.\.10"):
        compress(graph, asks, [random_images(graph, 11)], labels=np.arange(11))

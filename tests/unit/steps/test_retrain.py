"""Training of the float network: towards a teacher, over kept answers, and on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from subbyte.artifact import Artifact, save
from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.passes.resized import resized
from subbyte.preprocess import Preprocessing
from subbyte.recipes import BlockRemoval, Recipe, Retraining
from subbyte.steps.losses import Losses, output_loss
from subbyte.steps.teacher import Teacher, teacher_of
from subbyte.tasks.table import TASKS
from tests.unit.compress.networks import efficientnet_like, random_images
from tests.unit.steps.test_training import error, same

COUNT = 24


def recipe(**options: Any) -> Recipe:
    """30 steps towards a teacher, in float32."""
    base = {"steps": 30, "batch": 8, "weight": 0.02}
    table = {"name": "again", "precision": "fp32", "steps": ["retrain"], "retrain": {**base, **options}}
    return Recipe.model_validate(table)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """The artifact of a network of larger images, at the mean of which the student starts."""
    path = tmp_path / "teacher.subbyte"
    graph = efficientnet_like()
    kept = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
    save(path, Artifact(graph, {"name": "fp32"}, kept, None, {}))
    return str(path)


def student() -> Graph:
    return resized(efficientnet_like(), 6, 6)


def distance(graph: Graph, path: str, images: np.ndarray) -> float:
    """Mean square error to the teacher's outputs, over their variance."""
    x = torch_executor.nchw(images)
    (wanted,) = teacher_of(student(), path)(x).values()
    made = torch.from_numpy(torch_executor.run(graph, images)[graph.outputs[0]])
    return float((made - wanted).square().mean() / wanted.var())


@pytest.mark.parametrize("options", [{}, {"views": 2}, {"logits": 0.0, "features": 1.0}])
def test_the_network_comes_closer_to_a_teacher_of_larger_images(
    options: dict[str, Any], teacher: str
) -> None:
    graph = student()
    images = random_images(graph, COUNT)
    made = compress(graph, recipe(teacher=teacher, **options), [images])
    assert distance(made, teacher, images) < 0.7 * distance(graph, teacher, images)
    assert all(value.q is None for value in made.values.values())


def test_without_a_teacher_it_learns_from_what_it_was_before_other_steps() -> None:
    graph = efficientnet_like()
    images = random_images(graph, COUNT)
    table = {"steps": ("remove_blocks", "retrain"), "remove_blocks": BlockRemoval(share=0.9)}
    asked = recipe().model_copy(update=table)
    cut = compress(graph, asked.model_copy(update={"steps": ("remove_blocks",)}), [images])
    made = compress(graph, asked, [images])
    assert error(graph, made, images) < 0.7 * error(graph, cut, images)


def test_it_goes_on_from_kept_answers_to_the_same_result(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subbyte.steps.train.SAVED_EVERY", 8)
    graph = student()
    images, asked = random_images(graph, COUNT), recipe(teacher=teacher, views=2)
    whole = compress(graph, asked, [images])

    def stopped(stage: str, done: int) -> None:
        if stage.startswith("retrain") and done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(graph, asked, [images], work=tmp_path, progress=stopped)
    told: list[int] = []
    made = compress(graph, asked, [images], work=tmp_path, progress=lambda stage, done: told.append(done))
    assert told[0] in (9, 17)  # the first step after a state, which may be written every 8
    assert same(made, whole)


def test_each_view_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    ask = Teacher.__call__

    def counted(self: Teacher, x: torch.Tensor, values: Any = ()) -> dict[str, torch.Tensor]:
        seen.append(len(x))
        return ask(self, x, values)

    monkeypatch.setattr(Teacher, "__call__", counted)
    graph = student()
    compress(graph, recipe(views=2), [random_images(graph, 4)])
    assert 4 <= sum(seen) <= 8


def test_outputs_count_as_told() -> None:
    task = TASKS["regression"]
    made, wanted = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    alone = [float(output_loss(task, [m], [w])) for m, w in zip(made, wanted, strict=True)]
    weighted = output_loss(task, list(made), list(wanted), weights=(1.0, 0.0, 0.5))
    assert float(weighted) == pytest.approx(alone[0] + 0.5 * alone[2], rel=1e-6)
    graph = student()
    with pytest.raises(InputError, match="outputs has 2 weights; the network has 1 outputs"):
        Losses(task, Retraining(epochs=1.0, outputs=(1.0, 2.0)), graph, teacher_of(graph, None))


def test_outputs_that_a_task_does_not_judge_count_as_numbers() -> None:
    made, wanted = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    classes, numbers = TASKS["classification"].at((1,)), TASKS["regression"]
    alone = [float(numbers.distillation_loss([m], [w])) for m, w in zip(made, wanted, strict=True)]
    alone[1] = float(classes.distillation_loss([made[1]], [wanted[1]]))
    assert float(output_loss(classes, list(made), list(wanted))) == pytest.approx(sum(alone) / 3, rel=1e-6)
    weighted = output_loss(classes, list(made), list(wanted), weights=(0.0, 2.0, 1.0))
    assert float(weighted) == pytest.approx(2 * alone[1] + alone[2], rel=1e-6)


def test_views_keep_answers_and_no_maps() -> None:
    with pytest.raises(ValidationError, match="views keep what the teacher answers, not its maps"):
        recipe(views=2, features=1.0)


def test_a_quantized_network_is_rounded_from_the_retrained_one(teacher: str) -> None:
    graph = student()
    images = random_images(graph, COUNT)
    floats = recipe(teacher=teacher)
    made = compress(graph, floats.model_copy(update={"precision": "int"}), [images])
    trained = compress(graph, floats, [images])
    assert error(trained, made, images) < error(graph, made, images)

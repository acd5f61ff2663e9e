"""What each task makes of outputs: which fit, losses of all of them, answers, scores and agreement."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from subbyte.data.samples import Sample, fit, load_image
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.accuracy import wilson_interval
from subbyte.preprocess import Preprocessing
from subbyte.tasks import TASKS, Task, named, predict, task_of
from subbyte.tasks.prediction import frame
from subbyte.tasks.task import as_outputs, relative_error
from tests.unit.compress.networks import FloatNetwork

KEYPOINTS, REGRESSION, CLASSIFICATION = (
    TASKS[name] for name in ("keypoints", "regression", "classification")
)


def vector(count: int) -> Graph:
    net = FloatNetwork((5,))
    return net.graph(net.linear("a", "image", count))


def pair_map() -> Graph:
    """One map of 4 x 4 positions, x and y at each."""
    net = FloatNetwork((4, 4, 3))
    return net.graph(net.conv("a", "image", 2))


def wide_map() -> Graph:
    net = FloatNetwork((4, 4, 3))
    return net.graph(net.conv("a", "image", 4))


def several() -> Graph:
    net = FloatNetwork((5,))
    return net.graph(net.linear("a", "image", 4), net.linear("b", "image", 1))


@pytest.mark.parametrize(
    ("make", "fitting"),
    [
        (lambda: vector(6), {"classification", "keypoints", "regression"}),
        (lambda: vector(5), {"classification", "regression"}),
        (pair_map, {"keypoints", "regression", "segmentation"}),
        (wide_map, {"regression", "segmentation"}),
        (several, {"detection", "regression"}),
    ],
)
def test_which_outputs_fit(make, fitting: set[str]) -> None:  # type: ignore[no-untyped-def]
    graph = make()
    for name in TASKS:
        if name in fitting:
            assert task_of(graph, name) is TASKS[name]
        else:
            with pytest.raises(InputError, match="the network's outputs have the shapes"):
                task_of(graph, name)


def test_without_a_name_one_vector_is_classified_and_the_error_names_the_option() -> None:
    assert task_of(vector(6)) is CLASSIFICATION
    with pytest.raises(InputError, match=r"no classifier.*--task .*keypoints, regression") as caught:
        task_of(several())
    assert str(caught.value).count("\n") == 0
    with pytest.raises(InputError) as caught:
        task_of(several(), "classification")
    assert "--task" not in str(caught.value)
    with pytest.raises(InputError, match="unknown task 'hands'; known: classification, detection, keypoints"):
        named("hands")


def test_a_task_may_judge_some_of_the_outputs() -> None:
    """The first of `several` has 4 numbers, the second 1."""
    for name in ("keypoints@0", "classification@0", "regression@1", "detection@0,1"):
        assert task_of(several(), name).name == name
    outputs = [np.array([[0.0, 1.0, 2.0, 3.0]], np.float32), np.array([[4.0]], np.float32)]
    assert named("regression@1,0").judged(outputs) == outputs[::-1]
    assert named("regression").judged(outputs) == outputs
    assert predict_one("keypoints@0", outputs).xy.tolist() == [[[0.0, 1.0], [2.0, 3.0]]]
    with pytest.raises(InputError, match="key points are one output"):
        task_of(several(), "keypoints@1")
    with pytest.raises(InputError, match="is of the output 2, counted from 0; the network has 2"):
        task_of(several(), "regression@0,2")
    with pytest.raises(InputError, match="of one of them as classification@0"):
        task_of(several())
    for bad in ("keypoints@", "keypoints@-1", "keypoints@a", "keypoints@0,", "keypoints@1234"):
        with pytest.raises(InputError, match="behind @ must be counted from 0"):
            named(bad)


def predict_one(task: str, outputs: list[np.ndarray]) -> Any:
    """The task's answers to what a network makes of one image."""
    meant = named(task)
    return meant.answers(meant.judged(outputs))


@pytest.mark.parametrize("name", TASKS)
def test_distillation_is_0_where_outputs_are_equal_and_more_elsewhere(name: str) -> None:
    task, generator = TASKS[name], torch.Generator().manual_seed(0)
    wanted = [torch.randn(4, 6, generator=generator)]
    assert float(task.distillation_loss(wanted, wanted)) == 0.0
    assert float(task.distillation_loss([wanted[0] + torch.randn(4, 6, generator=generator)], wanted)) > 0.01


def test_distillation_sees_every_output() -> None:
    a, b = torch.randn(4, 3), torch.randn(4, 2, 5, 5)
    apart = REGRESSION.distillation_loss([a, b + 1], [a, b])
    assert float(apart) == pytest.approx(1 / (2 * float(b.var())), rel=1e-5)  # float32, 200 numbers


def test_a_landmark_head_is_not_distilled_by_softmax() -> None:
    """Softmax does not see what is added to all numbers; the points move by it."""
    points = torch.rand(4, 6)
    assert float(CLASSIFICATION.distillation_loss([points + 1], [points])) == pytest.approx(0, abs=1e-6)
    assert float(KEYPOINTS.distillation_loss([points + 1], [points])) > 1


def test_losses_against_labels() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    loss = CLASSIFICATION.label_loss([logits], torch.tensor([0, 2]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)
    made = torch.tensor([[0.5, 0.5, 0.25, 0.0]])
    labels = torch.tensor([[0.25, 0.5, math.nan, 0.5]])
    assert float(KEYPOINTS.label_loss([made], labels)) == pytest.approx((0.25 + 0 + 0.5) / 3)
    outputs = [torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0]])]
    assert float(REGRESSION.label_loss(outputs, torch.tensor([[1.0, 4.0, 5.0]]))) == pytest.approx(5 / 3)


def test_labels_of_maps_are_in_the_order_of_the_graph() -> None:
    """torch has channels first, labels and answers last."""
    y = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    answers = REGRESSION.answers([y])
    assert (
        float(REGRESSION.label_loss([torch.from_numpy(y).permute(0, 3, 1, 2)], torch.tensor(answers))) == 0.0
    )
    points = KEYPOINTS.answers([y]).xy
    assert points[1, 2].tolist() == y.reshape(2, 12, 2)[1, 2].tolist()


def test_key_points_by_hand() -> None:
    """An image of 200 x 100 pixels; the points span 100 pixels, so that 10 pixels are within 0.1."""
    task = KEYPOINTS
    label = (0.25, 0.5, 0.75, 0.5, math.nan, math.nan)
    answers = task.answers(
        [np.array([[0.25, 0.6, 0.80, 0.62, 9.0, 9.0]], np.float32)], np.array([[0, 0, 1, 1, 200, 100]])
    )
    samples = [Sample(Path("a.png"), label)]
    # the first is 10 pixels too low: correct up to float32's rounding of 0.6; the second 10 right and 12 low
    assert task.measured(answers, samples)["nme"] == pytest.approx((0.1 + math.hypot(0.1, 0.12)) / 2)
    near = task.answers(
        [np.array([[0.25, 0.59, 0.80, 0.62, 9.0, 9.0]], np.float32)], np.array([[0, 0, 1, 1, 200, 100]])
    )
    score = task.score(near, samples)
    assert (score.rate, score.n) == (0.5, 1)
    assert score.interval() == wilson_interval(0.5, 1)
    assert task.guess(near, 0, samples[0], None).right is False
    assert task.true_marks(samples[0]).tolist() == [[0.25, 0.5], [0.75, 0.5]]


def test_key_points_in_pixels_with_further_numbers() -> None:
    """Input 8 wide and 4 high, 3 numbers a point."""
    net = FloatNetwork((4, 8, 1))
    graph = net.graph(net.linear("a", net.flatten(net.pool("image")), 6))
    task = task_of(graph, "keypoints:8x4:3")
    assert task.name == "keypoints:8x4:3"
    output = np.array([[2.0, 1.0, 99.0, 8.0, 4.0, -1.0]], np.float32)
    assert task.answers([output]).xy.tolist() == [[[0.25, 0.25], [1.0, 1.0]]]
    loss = task.label_loss([torch.from_numpy(output)], torch.tensor([[0.25, 0.5, math.nan, 1.0]]))
    assert float(loss) == pytest.approx(0.25 / 3)
    with pytest.raises(InputError, match="is not of the network's input"):
        task_of(graph, "keypoints:4x8:3")
    with pytest.raises(InputError, match="the 4 numbers of each point in turn"):
        task_of(graph, "keypoints:8x4:4")
    for form in ("8x4", "8x4:1", "8:3", "0x4:3"):
        with pytest.raises(InputError, match="written like keypoints:224x224:3"):
            named(f"keypoints:{form}")


def test_one_key_point_is_measured_by_the_image() -> None:
    frames = np.array([[0, 0, 1, 1, 100, 50]])
    answers = KEYPOINTS.answers([np.array([[0.5, 0.5]], np.float32)], frames)
    assert KEYPOINTS.credit(answers, [Sample(Path("a"), (0.5625, 0.5))]).tolist() == [
        1.0
    ]  # 6.25 of 100 pixels
    assert KEYPOINTS.credit(answers, [Sample(Path("a"), (0.5, 0.75))]).tolist() == [0.0]  # 12.5 of 100


def test_agreement_of_key_points_takes_the_other_for_the_label() -> None:
    one = KEYPOINTS.answers([np.array([[0, 0, 1, 0, 0.5, 0.5]], np.float32)])
    other = KEYPOINTS.answers([np.array([[0.05, 0, 1, 0.3, 0.5, 0.5]], np.float32)])
    assert KEYPOINTS.alike(one, one).tolist() == [1.0]
    assert KEYPOINTS.alike(other, one).tolist() == [pytest.approx(2 / 3)]


def test_r_squared_by_hand() -> None:
    labels = [(0.0, 7.0), (2.0, 7.0), (4.0, 7.0)]  # variance 8/3; the second number explains nothing
    samples = [Sample(Path(f"{i}"), label) for i, label in enumerate(labels)]
    answers = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 5.0]])
    score = REGRESSION.score(answers, samples)
    assert score.rate == pytest.approx(1 - (1 / 3) / (8 / 3))
    assert REGRESSION.measured(answers, samples) == {
        "mae": pytest.approx(3 / 6),
        "rmse": pytest.approx(math.sqrt(5 / 6)),
    }
    assert score.interval()[0] < score.rate < score.interval()[1] <= 1
    with pytest.raises(InputError, match="labels differ"):
        REGRESSION.score(answers[:1], samples[:1])


def test_agreement_of_numbers_is_1_only_where_they_are_equal() -> None:
    exact = np.array([[0.0], [2.0], [4.0]])
    assert REGRESSION.alike(exact, exact).tolist() == [1.0, 1.0, 1.0]
    alike = REGRESSION.alike(np.array([[0.0], [3.0], [40.0]]), exact)
    assert alike.tolist() == [1.0, pytest.approx(1 - 1 / (8 / 3)), 0.0]


def test_relative_error_counts_each_output_in_its_own_unit() -> None:
    exact = [np.array([[0.0], [2.0]]), np.array([[0.0], [200.0]])]
    made = [np.array([[1.0], [2.0]]), np.array([[0.0], [100.0]])]
    assert relative_error(made, exact) == pytest.approx((0.5 / 1 + 5000 / 10000) / 2)
    assert relative_error([np.ones((2, 1))], [np.ones((2, 1))]) == 0.0


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_outputs_must_be_finite(task: Task[object], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    way = Preprocessing(4, 4, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(InputError, match="NaN or infinity"):
        predict(
            lambda x: np.full((len(x), 4), np.nan, np.float32),
            [Sample(tmp_path / "a.png")],
            way,
            task=task.name,
        )
    with pytest.raises(InputError, match="NaN or infinity"):
        as_outputs((np.zeros((1, 2)), np.array([[np.inf]])))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(90, 60), (31, 77)])
def test_places_in_the_input_become_places_in_the_image(
    tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    """A white dot is found in the input where `fit` put it; its place in the image is where it was drawn."""
    way = Preprocessing(48, 48, (0.0,), (1.0,), "bilinear", 0.8, mode)
    x, y = 0.45, 0.6
    pixels = np.zeros((size[1], size[0]), np.uint8)
    column, row = int(x * size[0]), int(y * size[1])
    pixels[row, column] = 255
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    sample = Sample(tmp_path / "dot.png")
    image = load_image(sample.path, way)[..., 0]
    centre = [
        float((image * np.arange(0.5, 48)[shape]).sum() / image.sum() / 48)
        for shape in (None, np.s_[:, None])
    ]
    answers = KEYPOINTS.answers([np.array([centre], np.float32)], np.array([frame(sample, way)]))
    # half a pixel of the input: PIL's filter is symmetric, 8 bits round
    assert answers.xy[0, 0] == pytest.approx([(column + 0.5) / size[0], (row + 0.5) / size[1]], abs=0.5 / 48)
    assert answers.size.tolist() == [list(map(float, size))]
    assert fit(Image.open(sample.path), way).size == (48, 48)


def test_predict_maps_points_by_each_image_s_own_way(tmp_path: Path) -> None:
    Image.new("RGB", (80, 40)).save(tmp_path / "wide.png")
    way = Preprocessing(40, 40, (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0)
    samples = [Sample(tmp_path / "wide.png"), Sample(tmp_path / "wide.png", None, "squash")]
    corner = predict(lambda x: np.zeros((len(x), 2), np.float32), samples, way, task="keypoints", batch=1)
    assert corner.xy.tolist() == [[[0.25, 0.0]], [[0.0, 0.0]]]

"""Counts, intervals and agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data.classes import class_names, default_classes, distinct, read_classes
from subbyte.data.samples import Sample, image_folder
from subbyte.errors import InputError
from subbyte.ir import Graph, Value
from subbyte.metrics import accuracy as acc
from subbyte.preprocess import Preprocessing
from subbyte.tasks import predict

SQUARE = Preprocessing(4, 4, (0.0,) * 3, (1.0,) * 3, "nearest", 1.0)


def samples(*labels: int) -> list[Sample]:
    return [Sample(Path(f"{i}.png"), label) for i, label in enumerate(labels)]


def test_counts_top1_and_top5() -> None:
    logits = np.zeros((3, 8), np.float32)
    logits[0, 6] = 1  # the label itself
    logits[1, 7] = 1  # label 3 is fourth: ties go to lower indices
    logits[2, 7] = 1  # label 6 is seventh
    result = acc.score(acc.top_classes(logits), samples(6, 3, 6))
    assert result == acc.Accuracy(n=3, top1=1, top5=2)
    assert (result.top1_rate, result.top5_rate) == (1 / 3, 2 / 3)


def test_fewer_than_five_classes() -> None:
    predictions = acc.top_classes(np.array([[0.0, 2.0]], np.float32))
    assert predictions.top.tolist() == [[1, 0]]
    assert acc.score(predictions, samples(0)) == acc.Accuracy(1, 0, 1)


def test_probabilities_are_a_softmax_and_do_not_overflow() -> None:
    predictions = acc.top_classes(np.array([[1000.0, 1000.0 + np.log(3.0)]], np.float32))
    np.testing.assert_allclose(predictions.probability, [[0.75, 0.25]], rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_must_be_finite_logits(bad: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        acc.top_classes(np.array([[bad, 1.0]], np.float32))
    with pytest.raises(InputError, match="no classifier"):
        acc.top_classes(np.zeros((1, 2, 2), np.float32))


def test_wilson_interval_solves_its_equation() -> None:
    """Its ends are the p with |k/n - p| = z sqrt(p (1-p) / n)."""
    for k, n in ((1, 10), (50, 100), (984, 1150)):
        for p in acc.wilson_interval(k, n):
            assert abs(k / n - p) == pytest.approx(acc.Z95 * np.sqrt(p * (1 - p) / n), rel=1e-9)
    assert acc.wilson_interval(0, 7)[0] == 0.0
    assert acc.wilson_interval(7, 7)[1] == 1.0
    assert acc.Accuracy(100, 50, 60).interval() == acc.wilson_interval(50, 100)


def test_agreement() -> None:
    a = acc.top_classes(np.array([[1, 0], [1, 0], [0, 1]], np.float32))
    b = acc.top_classes(np.array([[1, 0], [0, 1], [0, 1]], np.float32))
    assert acc.agreement(a, b) == 2
    with pytest.raises(InputError, match="same images"):
        acc.agreement(a, acc.top_classes(np.array([[1, 0]], np.float32)))


def test_predict_runs_every_image_once(tmp_path: Path) -> None:
    for i in range(5):
        Image.new("RGB", (4, 4), (i * 50, 0, 0)).save(tmp_path / f"{i}.png")
    sizes: list[int] = []

    def brightest(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return -np.abs(x[:, 0, 0, :1] * np.float32(5.1) - np.arange(6, dtype=np.float32))

    predictions = predict(brightest, image_folder(tmp_path), SQUARE, batch=2)
    assert sizes == [2, 2, 1]
    assert predictions.top[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert predictions.top.shape == (5, 5)


def test_accuracy_needs_labels() -> None:
    predictions = acc.top_classes(np.array([[1, 0]], np.float32))
    with pytest.raises(InputError, match="one labelled image per prediction"):
        acc.score(predictions, [Sample(Path("a"))])
    with pytest.raises(InputError, match="one labelled image per prediction"):
        acc.score(predictions, samples(0, 1))
    with pytest.raises(InputError, match="no images"):
        predict(lambda x: x, [], SQUARE)


def test_class_names(tmp_path: Path) -> None:
    names = default_classes(1000)
    assert names is not None
    assert (names[0], names[388], names[999]) == ("tench", "giant panda", "toilet tissue")
    assert default_classes(10) is None
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n\n")
    assert read_classes(path) == ("cat", "dog")
    path.write_text("\ufeffcat\r\ndog\r\n", "utf-8")  # as Windows writes it
    assert read_classes(path) == ("cat", "dog")
    path.write_text("cat\n\ndog\n")
    with pytest.raises(InputError, match="one class name per line"):
        read_classes(path)
    with pytest.raises(InputError, match="cannot read class names"):
        read_classes(tmp_path / "missing.txt")


def test_class_names_fit_the_network() -> None:
    shape = (3,)
    graph = Graph("x", ("x",), {"x": Value("x", shape)}, ())
    assert class_names(None, graph) is None
    assert class_names(("crane", "crane", "ox"), graph) == ("crane", "crane", "ox")
    with pytest.raises(InputError, match="there are 2 class names, but the network has 3 outputs"):
        class_names(("crane", "ox"), graph)
    for bad in ("a\x1b[2J", "x" * 257, ""):
        with pytest.raises(InputError, match=r"the name of class 1, .* is not 1\.\.256 printable"):
            class_names(("crane", bad, "ox"), graph)


def test_names_of_several_classes_are_told_apart() -> None:
    assert distinct(["crane", "ox", "crane"]) == ["crane (0)", "ox", "crane (2)"]
    names = default_classes(1000)
    assert names is not None
    assert len(set(names)) < 1000
    assert len(set(distinct(names))) == 1000
    assert distinct(names)[134] == "crane (134)"

"""Detection and segmentation: which outputs fit, how boxes are decoded, what a labelled folder says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subbyte.data.boxes import boxes_folder
from subbyte.data.masks import masked_folder
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.tasks import named
from subbyte.tasks.detection import Boxes
from tests.unit.compress.networks import FloatNetwork

SIZES = {"images": [{"id": 7, "file_name": "a.png", "width": 200, "height": 100}]}
SIZES |= {"categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}]}


def two(boxes: int, scores: int) -> Graph:
    net = FloatNetwork((8, 16, 1))
    x = net.flatten(net.pool(net.conv("a", "image", 3)))
    return net.graph(net.linear("boxes", x, boxes), net.linear("scores", x, scores))


@pytest.mark.parametrize(
    ("name", "boxes", "scores", "fits"),
    [
        ("detection", 12, 3, True),
        ("detection", 12, 6, True),
        ("detection", 12, 4, False),
        ("detection", 10, 5, False),
        ("detection:16x8:8x2,4x1", 48, 12, True),
        ("detection:16x8:8x2,4x1", 72, 24, True),
        ("detection:16x8:8x2,4x1", 36, 12, False),
        ("detection:8x16:8x2,4x1", 48, 12, False),
    ],
)
def test_which_outputs_are_boxes(name: str, boxes: int, scores: int, fits: bool) -> None:
    if fits:
        named(name).check(two(boxes, scores))
        return
    with pytest.raises(InputError):
        named(name).check(two(boxes, scores))


@pytest.mark.parametrize("name", ["detection:8x2", "detection:16x8:", "detection:a", "detection:16x8:0x1"])
def test_a_form_that_cannot_be_read_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="written like detection:192x192"):
        named(name)
    for other in ("segmentation:x", "segmentation:nan", "keypoints:1", "detections"):
        with pytest.raises(InputError):
            named(other)


def test_one_box_of_each_cell_is_decoded() -> None:
    """Input 16 x 8, cells of 8: two, centres at x = 4 and 12, y = 4. Scores are logits."""
    task = named("detection:16x8:8x1")
    raw = np.array([[0, 0, 8, 4, 99], [2, -1, 4, 4, 99]], np.float32).reshape(1, 10)
    rows = task.answers([raw, np.array([[0.0, np.log(3.0)]], np.float32)]).rows[0]
    expected = [[12 / 16, 1 / 8, 1.0, 5 / 8, 0.75, 0], [0, 2 / 8, 8 / 16, 6 / 8, 0.5, 0]]
    np.testing.assert_allclose(rows, expected, atol=1e-7)


def test_boxes_lie_in_the_image_and_those_of_a_class_do_not_overlap() -> None:
    """The input is the left half of the image."""
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [-1, 0.5, 0.5, 2]]], np.float32)
    scores = np.array([[[0.9, 0.1], [0.8, 0.7], [0.3, 0.2]]], np.float32)
    frame = np.array([[0.0, 0.0, 0.5, 1.0, 20.0, 10.0]])
    found = named("detection").answers([boxes, scores], frame)
    assert found.classes == 2
    large, small = [0, 0, 0.5], [0, 0.5, 0.25, 1]
    expected = [[*large, 1, 0.9, 0], [*large, 0.9, 0.7, 1], [*small, 0.3, 0], [*small, 0.2, 1]]
    np.testing.assert_allclose(found.rows[0], expected, atol=1e-7)


def rows(*listed: tuple[float, ...]) -> np.ndarray:
    return np.array(listed, np.float64).reshape(-1, 6)


def test_two_networks_boxes_are_paired_where_both_are_sure() -> None:
    task = named("detection")
    one = rows((0, 0, 1, 1, 0.9, 0), (0, 0, 0.5, 0.5, 0.6, 0), (0.5, 0.5, 1, 1, 0.4, 0))
    other = rows((0, 0, 1, 0.9, 0.8, 0), (0, 0, 0.5, 0.5, 0.7, 1))
    answers, reference = Boxes((one, rows(), one), 2), Boxes((other, rows(), one), 2)
    assert task.alike(answers, reference).tolist() == [0.5, 1.0, 1.0]  # of another class it is another box
    found = task.agreement_json(answers, reference)
    assert found["agreement"] == pytest.approx(2.5 / 3)
    # Class 1 is never found. Of class 0, three are there; found are, by score, the first image's (overlap
    # 0.9), the third's first, a wrong one, the third's second, two wrong ones. Up to 0.9 precision is 1 up to
    # recall 2/3 and 3/4 behind it; at 0.95 it is 1/2 up to 2/3.
    up_to_090, at_095 = (67 + 34 * 3 / 4) / 101, 67 / 2 / 101
    assert found["agreement_map"] == pytest.approx((9 * up_to_090 + at_095) / 10 / 2)


def labels(folder: Path, table: Mapping[str, Any] | list[int]) -> Path:
    Image.new("RGB", (200, 100)).save(folder / "a.png")
    (folder / "labels.json").write_text(json.dumps(table))
    return folder


def test_boxes_of_a_coco_file(tmp_path: Path) -> None:
    boxes = [
        {"image_id": 7, "category_id": 9, "bbox": [20, 10, 40, 50.0]},
        {"image_id": 7, "category_id": 4, "bbox": [0, 0, 200, 100], "iscrowd": 1},
    ]
    (sample,) = boxes_folder(labels(tmp_path, {**SIZES, "annotations": boxes}), 2)
    assert sample.label == pytest.approx((0.1, 0.1, 0.3, 0.6, 1, 0, 0, 0, 1, 1, 0, 1))
    task = named("detection")
    answers = Boxes((rows((0.1, 0.1, 0.3, 0.6, 0.9, 1), (0.5, 0.5, 0.6, 0.6, 0.95, 0)),), 2)
    assert task.score(answers, [sample]).to_json() == {"map": 1.0, "map50": 1.0}
    assert task.guess(answers, 0, sample, None).right is False  # a box in the crowd is one too many here
    with pytest.raises(InputError, match="needs a box"):
        task.score(answers, [Sample(sample.path, ())])


BOX = {"image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1]}
IMAGE = {"id": 1, "width": 1, "height": 1}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "must hold lists"),
        ({"annotations": 3}, "must hold lists"),
        ({"annotations": [{**BOX, "image_id": 8}]}, "not listed"),
        ({"annotations": [{**BOX, "bbox": [0, 0, 0, 1]}]}, "needs a bbox"),
        ({"annotations": [{**BOX, "bbox": [0, 0, "1", 1]}]}, "needs a bbox"),
        ({"annotations": [{**BOX, "category_id": 9.5}]}, "whole numbers"),
        ({"categories": []}, "0 categories"),
        ({"images": [IMAGE]}, "no file_name"),
        ({"images": [{**IMAGE, "file_name": "../a.png"}]}, "inside the folder"),
        ({"images": []}, "no labelled images"),
    ],
)
def test_other_labels_of_boxes_are_an_error(tmp_path: Path, table: Any, message: str) -> None:
    whole = table if isinstance(table, list) else {**SIZES, "annotations": [], **table}
    with pytest.raises(InputError, match=message):
        boxes_folder(labels(tmp_path, whole), 2)


def test_regions_are_compared_with_a_mask_pixel_by_pixel(tmp_path: Path) -> None:
    """The input is the middle half of the image's width; its map has 2 x 2 positions, the mask 4 x 8."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (8, 4)).save(tmp_path / "images" / "a.png")
    mask = np.full((4, 8), 3, np.uint8)  # outside of the input's window nothing is said
    mask[:, 2:6] = [[0, 0, 1, 1], [0, 0, 1, 255], [1, 1, 1, 1], [1, 1, 1, 1]]
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    (sample,) = masked_folder(tmp_path)
    task = named("segmentation")
    logits = np.zeros((1, 2, 2, 2), np.float32)
    logits[0, :, :, 1] = [[-1, 1], [-1, 1]]
    answers = task.answers([logits], np.array([[0.25, 0.0, 0.5, 1.0, 8.0, 4.0]]))
    score = task.score(answers, [sample])
    # class 0: 4 pixels of the 8 that are found; class 1: 7 of 11
    assert score.rate == pytest.approx((4 / 8 + 7 / 11) / 2)
    assert score.to_json()["pixels"] == pytest.approx(11 / 15)
    assert task.alike(answers, answers).tolist() == [1.0]
    mask[0, 3] = 2
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match="has the class 2"):
        task.score(answers, [sample])


def test_one_channel_is_a_foreground_above_a_threshold() -> None:
    x = np.array([0.2, 0.4, 0.6, -0.1], np.float32).reshape(1, 2, 2, 1)
    for name, expected in (("segmentation", [0, 0, 1, 0]), ("segmentation:0", [1, 1, 1, 0])):
        found = named(name).answers([x])
        assert (found.classes, found.maps[0].ravel().tolist()) == (2, expected)
        assert named(name).name == name


def test_folders_without_masks_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the folders images and masks"):
        masked_folder(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (8, 4)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="0 masks"):
        masked_folder(tmp_path)
    Image.new("RGB", (8, 4)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match="grey or has a palette"):
        named("segmentation").score(
            named("segmentation").answers([np.zeros((1, 2, 2, 3), np.float32)]), masked_folder(tmp_path)
        )

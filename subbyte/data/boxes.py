"""Boxes as labels: `labels.json` beside the images, in the form of COCO's annotations of objects.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
     "annotations": [{"image_id": 1, "category_id": 3, "bbox": [left, top, width, height]}, ...],
     "categories": [{"id": 3, "name": "cat"}, ...]}

An annotation with "iscrowd": 1 is around a crowd, in which any number of boxes is neither right nor wrong.

Classes are the categories in the order of their ids. An image without annotations has nothing to be found.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from subbyte.data.samples import MAX_TABLE, Sample, listed_file
from subbyte.errors import InputError
from subbyte.system.text_file import read_json

TABLE = "labels.json"
NUMBERS = 6  # of a box in a label: left, top, right, bottom, class, whether it is around a crowd


def boxes_folder(root: Path | str, classes: int) -> list[Sample]:
    """The images that the table lists, in its order, with boxes as labels: NUMBERS for each, edges in 0..1 of
    the image's width and height.

    InputError: no table, one that is not of this form, other than `classes` categories, a box that is not
    finite or has no area, a file that does not exist or is outside the folder.
    """
    table = Path(root) / TABLE
    if not table.is_file():
        raise InputError(f"{root} has no labels: it needs a {TABLE} in the form of COCO")
    read = read_json("labels from", table, MAX_TABLE)
    names = ("images", "annotations", "categories")
    lists: list[Any] = [read.get(name) for name in names] if isinstance(read, dict) else []
    if not lists or not all(isinstance(x, list) and all(isinstance(y, dict) for y in x) for x in lists):
        raise InputError(f"{table} must hold lists of images, annotations and categories")
    images, annotations, categories = lists
    ids = sorted(_whole(table, "categories", i, row.get("id")) for i, row in enumerate(categories))
    if len(ids) != classes or len(set(ids)) != len(ids):
        raise InputError(f"{table} has {len(set(ids))} categories, but the network has {classes} classes")
    sizes: dict[int, tuple[int, int]] = {}
    labels: dict[int, list[float]] = {}
    for i, row in enumerate(images):
        key = _whole(table, "images", i, row.get("id"))
        if key in labels:
            raise InputError(f"{table}: two images have the id {key}")
        width, height = (_whole(table, "images", i, row.get(side)) for side in ("width", "height"))
        if width < 1 or height < 1:
            raise InputError(f"{table}: entry {i} of images is {width} x {height}")
        sizes[key], labels[key] = (width, height), []
    for i, row in enumerate(annotations):
        key, kind = (_whole(table, "annotations", i, row.get(name)) for name in ("image_id", "category_id"))
        if key not in sizes or kind not in ids:
            raise InputError(
                f"{table}: entry {i} of annotations is of an image or category that is not listed"
            )
        crowd = _whole(table, "annotations", i, row.get("iscrowd", 0))
        labels[key] += [*_edges(table, i, row.get("bbox"), sizes[key]), ids.index(kind), float(bool(crowd))]
    samples = []
    for i, row in enumerate(images):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{table}: entry {i} of images has no file_name")
        samples.append(Sample(listed_file(table, i + 1, name), tuple(labels[row["id"]])))
    if not samples:
        raise InputError(f"{root} holds no labelled images")
    return samples


def _whole(table: Path, where: str, index: int, value: Any) -> int:
    if type(value) is not int:
        raise InputError(f"{table}: entry {index} of {where} needs whole numbers, got {value!r:.80}")
    return value


def _edges(table: Path, index: int, box: Any, size: tuple[int, int]) -> list[float]:
    good = isinstance(box, list) and len(box) == 4 and all(type(x) in (int, float) for x in box)
    if not good or not all(abs(x) < 1e9 and math.isfinite(x) for x in box) or min(box[2:]) <= 0:
        raise InputError(
            f"{table}: entry {index} of annotations needs a bbox [left, top, width, height], got {box!r:.80}"
        )
    left, top, width, height = box
    return [left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1]]

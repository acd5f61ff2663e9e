"""From the outputs of a palm detector to palms: anchors, scores, and detections merged by their overlap.

The network is an SSD (Liu et al. 2016, arXiv:1512.02325) with square anchors of one size, as MediaPipe's
palm_detection is (google-ai-edge/mediapipe, mediapipe/modules/palm_detection/palm_detection_cpu.pbtxt): at
each anchor 18 numbers in pixels of its input, the centre of a box relative to the anchor's, its width and
height, and seven key points relative to the anchor's centre, of which the first is the wrist and the third
the middle finger's knuckle; and a score before its sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from subbyte.errors import InputError
from subbyte.hands.region import INPUT, Region, from_palm, whole
from subbyte.hands.source import Source, session
from subbyte.hands.warp import warp

# Maps on which anchors lie: their stride and how many anchors each pixel has.
ANCHORS = ((8, 2), (16, 6))
NUMBERS = 18  # of an anchor
KEYPOINTS = 7
WRIST, MIDDLE = 0, 2  # among the key points
MIN_SCORE = 0.5
MIN_OVERLAP = 0.3
MAX_SCORE = 100.0  # before the sigmoid


@dataclass(frozen=True, eq=False)
class Palm:
    """score: 0..1. box: float64 [4], left, upper, right and lower edge. points: float64 [7, 2]. All in
    pixels."""

    score: float
    box: np.ndarray
    points: np.ndarray

    def region(self, size: int = INPUT) -> Region:
        """The square that a landmark network is given. Raises InputError of a box without extent."""
        return from_palm(self.box, self.points[WRIST], self.points[MIDDLE], size)


class PalmDetector:
    """A palm detection network in the engine.

    source, threads, isa: as Session takes them. Raises InputError of a network whose input is not square or
    whose outputs are not a detector's, and what Session raises.
    """

    def __init__(self, source: Source, threads: int = 1, isa: str | None = None) -> None:
        self.session, self.size = session(source, threads, isa)
        self._anchors = anchors(self.size)
        graph = self.session.graph
        sizes = [prod(graph.value(name).shape) for name in graph.outputs]
        count = len(self._anchors)
        if sizes != [NUMBERS * count, count]:
            raise InputError(
                f"the network's outputs have {sizes} numbers; a palm detector of {self.size} x {self.size} "
                f"pixels has {NUMBERS * count} of boxes and {count} of scores"
            )

    def find(self, image: np.ndarray) -> list[Palm]:
        """The palms in an image uint8 [H, W, 3], the most certain first."""
        region = whole(image, self.size)
        boxes, scores = self.session.run(warp(image, region, black=True))
        return decode(boxes[0], scores[0], self._anchors, region)


def anchors(size: int) -> np.ndarray:
    """float64 [n, 2]: the anchors' centres for an input of size x size pixels, map by map, row by row."""
    centres = []
    for stride, each in ANCHORS:
        line = (np.arange(-(-size // stride)) + 0.5) * size / -(-size // stride)
        y, x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), each, axis=0))
    return np.concatenate(centres)


def decode(boxes: np.ndarray, scores: np.ndarray, anchors: np.ndarray, region: Region) -> list[Palm]:
    """Palms in pixels of the image, the most certain first.

    boxes: [n * 18]; scores: [n], before the sigmoid; anchors: [n, 2]; region: what of the image the network
    saw.
    """
    certain = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -MAX_SCORE, MAX_SCORE)))
    some = np.flatnonzero(certain >= MIN_SCORE)
    rows = boxes.reshape(-1, NUMBERS)[some].astype(np.float64)
    centres = rows[:, :2] + anchors[some]
    half = rows[:, 2:4] / 2
    points = rows[:, 4:].reshape(-1, KEYPOINTS, 2) + anchors[some, None]
    corners = np.concatenate(
        [centres[:, None] - half[:, None], centres[:, None] + half[:, None], points], axis=1
    )
    return merged(region.to_image(corners), certain[some])


def merged(corners: np.ndarray, scores: np.ndarray) -> list[Palm]:
    """Detections whose boxes overlap, as one each: their mean, weighted by score, with the best one's score.

    corners: float64 [n, 2 + 7, 2], the box's upper left and lower right corner and the key points. scores:
    [n]. The best box takes all whose intersection with it is more than 0.3 of their union; then the best of
    the others.
    """
    palms = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        best = order[0]
        near = overlap(corners[best, :2], corners[order, :2]) > MIN_OVERLAP
        near[0] = True
        taken = order[near]
        mean = np.average(corners[taken], axis=0, weights=scores[taken])
        palms.append(Palm(float(scores[best]), mean[:2].reshape(4), mean[2:]))
        order = order[~near]
    return palms


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box [2, 2] (two corners) with boxes [n, 2, 2]; 0 where there is no
    union."""
    sides = np.minimum(box[1], boxes[:, 1]) - np.maximum(box[0], boxes[:, 0])
    common = np.clip(sides, 0, None).prod(axis=1)
    union = (box[1] - box[0]).prod() + (boxes[:, 1] - boxes[:, 0]).prod(axis=1) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0)

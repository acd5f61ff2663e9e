"""The square of an image that shows one hand upright: where it is, and points there and back.

The rules are MediaPipe's, as its graphs publish them (google-ai-edge/mediapipe,
mediapipe/modules/hand_landmark/palm_detection_detection_to_roi.pbtxt, hand_landmark_landmarks_to_roi.pbtxt
and calculators/hand_landmarks_to_rect_calculator.cc), because its networks were trained on such squares.

Coordinates are pixels, x to the right and y downward; that of a pixel's centre is its index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from subbyte.errors import InputError
from subbyte.hands.skeleton import JOINTS, MIDDLE, WRIST

FARTHEST = 1 << 24  # pixels; wider apart is nothing that an image shows
INPUT = 224  # pixels along a side of the landmark networks' input
# What the square is spanned by: the wrist, the thumb without its tip, and of each finger its two lower
# joints.
SPANNED = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
INDEX, RING = 5, 13
LANDMARKS_SCALE, LANDMARKS_SHIFT = 2.0, -0.1
PALM_SCALE, PALM_SHIFT = 2.6, -0.5


@dataclass(frozen=True)
class Region:
    """A square in an image, turned, that a network sees as `size` x `size` pixels.

    x, y: its centre; side: its length, in pixels of the image. angle: by how much the image of an upright
    hand was turned clockwise, in radians. Raises InputError unless side and size are positive and no number
    is beyond 2^24.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0
    size: int = INPUT

    def __post_init__(self) -> None:
        known = all(abs(v) <= FARTHEST for v in (self.x, self.y, self.side, self.angle))
        if not known or self.side <= 0:
            raise InputError(
                f"a hand's square must have a positive side and numbers up to {FARTHEST}, not {self}"
            )
        if self.size < 1:
            raise InputError(f"a hand's square must have a positive size, not {self.size}")

    @property
    def axes(self) -> np.ndarray:
        """float64 [2, 2]: one pixel to the right and one downward in the network's input, in the image's."""
        scale = self.side / self.size
        c, s = scale * math.cos(self.angle), scale * math.sin(self.angle)
        return np.array([[c, s], [-s, c]])

    def sized(self, size: int) -> Region:
        """The same square for a network with another input."""
        return replace(self, size=size)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the network's input as points of the image, float64."""
        away = np.asarray(points, np.float64) - self.size / 2
        places: np.ndarray = away @ self.axes + (self.x, self.y)
        return places

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the image as points of the network's input, float64."""
        away = np.asarray(points, np.float64) - (self.x, self.y)
        places: np.ndarray = away @ self.axes.T * (self.size / self.side) ** 2 + self.size / 2
        return places


def from_landmarks(points: np.ndarray, size: int = INPUT) -> Region:
    """The square around a hand whose landmarks are known: twice as large as what is spanned by its palm and
    lower joints, moved up by a tenth of their height, and upright along the line from the wrist to the
    knuckles.

    points: [21, 2] or more columns, of which the first two are used; pixels. Raises InputError if they are
    not finite, or span nothing.
    """
    points = checked(points)[:, :2]
    knuckles = ((points[INDEX] + points[RING]) / 2 + points[MIDDLE]) / 2
    angle = upright(points[WRIST], knuckles)
    axes = Region(0, 0, 1, angle, 1).axes
    spanned = points[list(SPANNED)] @ axes.T
    low, high = spanned.min(axis=0), spanned.max(axis=0)
    width, height = high - low
    x, y = ((low + high) / 2 + (0, LANDMARKS_SHIFT * height)) @ axes
    return Region(float(x), float(y), LANDMARKS_SCALE * float(max(width, height)), angle, size)


def from_palm(box: np.ndarray, wrist: np.ndarray, middle: np.ndarray, size: int = INPUT) -> Region:
    """The square around a hand whose palm was found: 2.6 times as large as the palm's box, moved by half of
    it toward the fingers, and upright along the line from the wrist to the middle finger's knuckle.

    box: [4], its left, upper, right and lower edge; wrist, middle: [2]; pixels. Raises InputError if they are
    not finite, or the box is empty.
    """
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    angle = upright(wrist, middle)
    width, height = high - low
    x, y = (low + high) / 2 + PALM_SHIFT * height * np.array([-math.sin(angle), math.cos(angle)])
    return Region(float(x), float(y), PALM_SCALE * float(max(width, height)), angle, size)


def whole(image: np.ndarray, size: int) -> Region:
    """The square around all of an image [H, W, 3]."""
    height, width = image.shape[:2]
    return Region(width / 2, height / 2, max(height, width), size=size)


def upright(wrist: np.ndarray, knuckle: np.ndarray) -> float:
    """By how much a hand is turned clockwise, in radians from -pi to pi: 0 where the knuckle is above the
    wrist."""
    x, y = np.asarray(knuckle, np.float64) - np.asarray(wrist, np.float64)
    return math.atan2(x, -y)


def checked(points: np.ndarray) -> np.ndarray:
    """float64 [21, columns]. InputError unless there are 21 finite points of at least two coordinates."""
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or len(array) != JOINTS or array.shape[1] < 2:
        raise InputError(f"a hand has {JOINTS} points of x and y, not an array of shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError("a hand's points must be finite")
    return array

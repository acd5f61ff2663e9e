"""Where the names of points go, so that nothing hides anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

CHARACTER, HEIGHT = 7.6, 15.0  # pixels of a letter of the plots' type in a wide font
RADII = (16, 26, 40, 56, 74, 94, 116, 140)
DIRECTIONS = 16

Box = tuple[float, float, float, float]  # left, top, right, bottom


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], taken: Sequence[Box], within: Box
) -> list[Box]:
    """A box for each point's name: near it, inside `within`, on no other label and, where there is
    room, on nothing `taken` (markers, error bars). Equal input gives equal output."""
    placed: list[Box] = []
    for point, name in zip(points, names, strict=True):
        options = list(_around(point, CHARACTER * len(name)))
        costs = [_cost(box, away, placed, taken, within) for box, away in options]
        placed.append(options[costs.index(min(costs))][0])
    return placed


def _around(point: tuple[float, float], width: float) -> list[tuple[Box, float]]:
    """Boxes in circles around a point, and how far away they are."""
    result = []
    for radius in RADII:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            x, y = point[0] + radius * math.cos(angle), point[1] - radius * math.sin(angle)
            left = (
                x - width * (1 - math.cos(angle)) / 2
            )  # beside the point it starts there, above it is centred
            result.append(((left, y - HEIGHT / 2, left + width, y + HEIGHT / 2), float(radius)))
    return result


def _cost(box: Box, away: float, placed: Sequence[Box], taken: Sequence[Box], within: Box) -> float:
    outside = box[0] < within[0] or box[1] < within[1] or box[2] > within[2] or box[3] > within[3]
    return (
        away
        + 10_000 * outside
        + 3_000 * sum(_overlap(box, other) for other in placed)
        + 250 * sum(_overlap(box, other) for other in taken)
    )


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

"""Tiny networks with the outputs of a palm detector and of a landmark network: a hand is where it is
bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import subbyte
from subbyte.hands.palm import NUMBERS, anchors
from subbyte.preprocess import Preprocessing
from tests.unit.hands.test_region import UPRIGHT

SIZE = 32
BRIGHT = 0.2  # the mean of an input above which there is a hand
STEEP = 100.0
INPUT = Preprocessing(SIZE, SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
#: Points that the landmark network always finds, pixels of its input: an upright hand in the middle.
POINTS = (UPRIGHT - UPRIGHT.mean(axis=0)) / 10 + SIZE / 2
BEST = 13  # the anchor at which the palm is found


class Palm(nn.Module):
    """A palm of 8 x 8 pixels around one anchor, its wrist below its middle finger's knuckle."""

    def __init__(self) -> None:
        super().__init__()
        count = len(anchors(SIZE))
        self.boxes, self.scores = nn.Linear(3, NUMBERS * count), nn.Linear(3, count)
        boxes = np.zeros((count, NUMBERS), np.float32)
        boxes[BEST] = [0, 0, 8, 8, 0, 4, 0, 0, 0, -4, *([0] * 8)]
        scores = np.full(count, -9, np.float32)
        scores[BEST] = -STEEP * BRIGHT
        with torch.no_grad():
            self.boxes.weight.zero_()
            self.boxes.bias.copy_(torch.from_numpy(boxes.ravel()))
            self.scores.weight.zero_()
            self.scores.weight[BEST] = STEEP / 3
            self.scores.bias.copy_(torch.from_numpy(scores))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = x.mean((2, 3))
        return self.boxes(mean), self.scores(mean)


class Landmarks(nn.Module):
    """POINTS with depth 1, a presence that grows with the input's mean, surely a right hand, and points in
    metres."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.presence = nn.Linear(3, 63), nn.Linear(3, 1)
        self.right, self.world = nn.Linear(3, 1), nn.Linear(3, 63)
        points = np.concatenate([POINTS, np.ones((21, 1))], axis=1).astype(np.float32)
        with torch.no_grad():
            for layer in (self.points, self.right, self.world):
                layer.weight.zero_()
            self.points.bias.copy_(torch.from_numpy(points.ravel()))
            self.presence.weight.fill_(STEEP / 3)
            self.presence.bias.fill_(-STEEP * BRIGHT)
            self.right.bias.fill_(5)
            self.world.bias.copy_(torch.from_numpy(points.ravel() / 100))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = x.mean((2, 3))
        return (
            self.points(mean),
            torch.sigmoid(self.presence(mean)),
            torch.sigmoid(self.right(mean)),
            self.world(mean),
        )


def write(folder: Path) -> tuple[Path, Path]:
    """Both as artifacts: the palm detector's file and the landmark network's."""
    paths = folder / "palm.subbyte", folder / "landmarks.subbyte"
    for module, path in zip((Palm(), Landmarks()), paths, strict=True):
        subbyte.save(path, subbyte.compress_model(module.eval(), "fp32", preprocessing=INPUT))
    return paths

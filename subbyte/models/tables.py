"""The EfficientNet families as block tables. No torch here: this file is the architecture.

A network is: stem convolution (3x3, stride 2), the stages from top to bottom, a 1x1 head
convolution, global average pooling, a linear classifier. Every row of a table is a stage:

  cn  convolution + batch norm + activation
  er  fused MBConv ("edge residual"): k x k expansion convolution, 1x1 projection
  ds  depthwise separable: depthwise k x k, 1x1 projection
  ir  MBConv ("inverted residual"): 1x1 expansion, depthwise k x k, 1x1 projection

Sources: EfficientNet (arXiv 1905.11946), EfficientNet-EdgeTPU (Google AI blog, August 2019),
EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite), EfficientNetV2
(arXiv 2104.00298).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Stage:
    """`repeats` equal blocks; only the first one has `stride` and changes the width.

    expand: width of the expanded tensor over the width of the block's input.
    se: width of the squeeze over the width of the block's input, 0 for no
    squeeze-and-excitation.
    expand_from: counts the expansion from this width instead of the block's input
    (EdgeTPU's first stage was searched with a 24-wide stem and trained with a 32-wide one).
    residual: add the block's input to its output wherever the shapes agree.
    """

    kind: Literal["cn", "er", "ds", "ir"]
    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int
    se: float = 0.0
    expand_from: int = 0
    residual: bool = True


@dataclass(frozen=True)
class Architecture:
    """A whole network, resolved: what `EfficientNet` builds. Widths are in channels."""

    stem: int
    stages: tuple[Stage, ...]
    head: int
    activation: Literal["silu", "relu", "relu6"]
    same_padding: bool = False
    bn_eps: float = 1e-5
    channels: int = 3  # of the images: RGB


#                 kind reps  k  s  e  out   se
V2_BASE = Architecture(
    stem=32,
    stages=(
        Stage("cn", 1, 3, 1, 1, 16),
        Stage("er", 2, 3, 2, 4, 32),
        Stage("er", 2, 3, 2, 4, 48),
        Stage("ir", 3, 3, 2, 4, 96, 0.25),
        Stage("ir", 5, 3, 1, 6, 112, 0.25),
        Stage("ir", 8, 3, 2, 6, 192, 0.25),
    ),
    head=1280,
    activation="silu",
)

V2_S = Architecture(
    stem=24,
    stages=(
        Stage("cn", 2, 3, 1, 1, 24),
        Stage("er", 4, 3, 2, 4, 48),
        Stage("er", 4, 3, 2, 4, 64),
        Stage("ir", 6, 3, 2, 4, 128, 0.25),
        Stage("ir", 9, 3, 1, 6, 160, 0.25),
        Stage("ir", 15, 3, 2, 6, 256, 0.25),
    ),
    head=1280,
    activation="silu",
)

V2_M = Architecture(
    stem=24,
    stages=(
        Stage("cn", 3, 3, 1, 1, 24),
        Stage("er", 5, 3, 2, 4, 48),
        Stage("er", 5, 3, 2, 4, 80),
        Stage("ir", 7, 3, 2, 4, 160, 0.25),
        Stage("ir", 14, 3, 1, 6, 176, 0.25),
        Stage("ir", 18, 3, 2, 6, 304, 0.25),
        Stage("ir", 5, 3, 1, 6, 512, 0.25),
    ),
    head=1280,
    activation="silu",
)

V2_L = Architecture(
    stem=32,
    stages=(
        Stage("cn", 4, 3, 1, 1, 32),
        Stage("er", 7, 3, 2, 4, 64),
        Stage("er", 7, 3, 2, 4, 96),
        Stage("ir", 10, 3, 2, 4, 192, 0.25),
        Stage("ir", 19, 3, 1, 6, 224, 0.25),
        Stage("ir", 25, 3, 2, 6, 384, 0.25),
        Stage("ir", 7, 3, 1, 6, 640, 0.25),
    ),
    head=1280,
    activation="silu",
)

# For small images and short training: V2-B0 at about half its width and depth, with a narrower head.
V2_XS = Architecture(
    stem=16,
    stages=(
        Stage("cn", 1, 3, 1, 1, 16),
        Stage("er", 1, 3, 2, 4, 32),
        Stage("er", 2, 3, 2, 4, 48),
        Stage("ir", 2, 3, 2, 4, 64, 0.25),
        Stage("ir", 3, 3, 1, 4, 80, 0.25),
        Stage("ir", 4, 3, 2, 6, 112, 0.25),
    ),
    head=512,
    activation="silu",
)

EDGETPU = Architecture(
    stem=32,
    stages=(
        Stage("er", 1, 3, 1, 4, 24, expand_from=24, residual=False),
        Stage("er", 2, 3, 2, 8, 32),
        Stage("er", 4, 3, 2, 8, 48),
        Stage("ir", 5, 5, 2, 8, 96),
        Stage("ir", 4, 5, 1, 8, 144),
        Stage("ir", 2, 5, 2, 8, 192),
    ),
    head=1280,
    activation="relu",
)

B0 = Architecture(
    stem=32,
    stages=(
        Stage("ds", 1, 3, 1, 1, 16, 0.25),
        Stage("ir", 2, 3, 2, 6, 24, 0.25),
        Stage("ir", 2, 5, 2, 6, 40, 0.25),
        Stage("ir", 3, 3, 2, 6, 80, 0.25),
        Stage("ir", 3, 5, 1, 6, 112, 0.25),
        Stage("ir", 4, 5, 2, 6, 192, 0.25),
        Stage("ir", 1, 3, 1, 6, 320, 0.25),
    ),
    head=1280,
    activation="silu",
)

# EfficientNet-Lite is B0 without squeeze-and-excitation and with ReLU6.
LITE = replace(B0, stages=tuple(replace(s, se=0.0) for s in B0.stages), activation="relu6")


def round_channels(channels: float, shrink_limit: float = 0.9) -> int:
    """Nearest multiple of 8 (halves up, at least 8), one step up if below shrink_limit * channels.

    The width rule of the EfficientNet papers' code; EfficientNetV2-B* has no shrink limit (0).
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < shrink_limit * channels else nearest


def scale(base: Architecture, width: float, depth: float, shrink_limit: float = 0.9) -> Architecture:
    """Compound scaling: widths times `width` and rounded, repeats times `depth` and up."""

    def wide(channels: int) -> int:
        return round_channels(channels * width, shrink_limit)

    stages = tuple(
        replace(
            stage,
            repeats=math.ceil(stage.repeats * depth),
            channels=wide(stage.channels),
            expand_from=wide(stage.expand_from) if stage.expand_from else 0,
        )
        for stage in base.stages
    )
    return replace(base, stem=wide(base.stem), stages=stages, head=wide(base.head))


def scale_lite(width: float, depth: float) -> Architecture:
    """Lite scaling: stem and head keep their width, the first and last stage their depth."""
    scaled = scale(LITE, width, depth)
    first, *middle, last = scaled.stages
    ends = (LITE.stages[0].repeats, LITE.stages[-1].repeats)
    stages = (replace(first, repeats=ends[0]), *middle, replace(last, repeats=ends[1]))
    return replace(scaled, stem=LITE.stem, stages=stages, head=LITE.head)


def tensorflow(architecture: Architecture) -> Architecture:
    """The conventions of the TensorFlow originals: SAME padding and batch-norm epsilon 1e-3."""
    return replace(architecture, same_padding=True, bn_eps=1e-3)

"""Random views of images, so that training on a thousand of them does not learn them by heart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augmented(x: Tensor, generator: torch.Generator, smallest: float = 0.7, mix: float = 0.0) -> Tensor:
    """Random crops of images [N, C, H, W], resized to their size, half of them mirrored. smallest: the least
    side of a crop, as a share of the image's. mix: the share of crops that are then mixed with a neighbour,
    in proportions drawn evenly (mixup, arXiv 1710.09412)."""
    count, _, height, width = x.shape
    u = torch.rand(4, count, generator=generator).to(x.device)
    side = smallest + (1.0 - smallest) * u[0]
    mirror = torch.where(u[1] < 0.5, -1.0, 1.0)
    shift = (1.0 - side) * (2.0 * u[2:4] - 1.0)
    theta = torch.zeros(count, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, 0, 2], theta[:, 1, 2] = shift[0], shift[1]
    grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
    cropped = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    mixed = round(mix * count)
    if mixed:
        own = torch.rand(mixed, 1, 1, 1, generator=generator).to(x.device)
        cropped = torch.cat([torch.lerp(cropped.roll(1, 0)[:mixed], cropped[:mixed], own), cropped[mixed:]])
    return cropped.contiguous(memory_format=torch.channels_last)

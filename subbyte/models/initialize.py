"""Seeded random weights on which a network behaves like a trained one: for speed and for tests.

Convolutions are drawn with variance 1 / fan-in and the batch norms get the statistics of the
network's own activations, so values neither vanish nor explode however deep it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from subbyte.errors import InputError

CALIBRATION_SHAPE = (4, 3, 64, 64)


def randomize(module: nn.Module, seed: int) -> None:
    """Fill every parameter and batch-norm statistic of `module` from `seed`, in place.

    The numbers come from numpy's PCG64 and are measured in float64, so the same seed gives the
    same network on every host up to the rounding of the statistics to float32.
    """
    if seed < 0:
        raise InputError(f"The seed of random weights must be 0 or more, not {seed}.")
    rng = np.random.default_rng(seed)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.copy_(_draw(rng, name, parameter))
    _measure_statistics(module, torch.from_numpy(rng.standard_normal(CALIBRATION_SHAPE)))


def _draw(rng: np.random.Generator, name: str, parameter: Tensor) -> Tensor:
    """Matrices and kernels N(0, 1 / fan-in), batch-norm gains U(0.5, 1.5), biases N(0, 0.25^2)."""
    shape = tuple(parameter.shape)
    if len(shape) > 1:
        fan_in = parameter[0].numel()
        values = rng.standard_normal(shape, dtype=np.float32) / np.float32(fan_in**0.5)
    elif name.endswith("weight"):
        values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    else:
        values = 0.25 * rng.standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values)


def _measure_statistics(module: nn.Module, pictures: Tensor) -> None:
    """Run once with the batch's own statistics and keep them as the running ones."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    was_training = module.training
    module.double().train()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        module(pictures)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.zero_()
    module.float().train(was_training)

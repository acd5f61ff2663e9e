"""Seeded random weights with activations scaled as in a trained network: for speed and for tests.

Kernels are drawn with variance 1 / fan-in and every batch norm is set to the size of what reaches
it, so values neither vanish nor explode however deep the network is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from subbyte.errors import InputError

# A gate that follows its input multiplies every error of scale, once per block; trained gates
# learn not to. Small weights keep random ones near sigmoid(bias).
GATE_GAIN = 0.1


def randomize(module: nn.Module, seed: int, shape: tuple[int, int, int]) -> None:
    """Fill every parameter and batch-norm statistic of `module` from `seed`, in place.

    shape: (H, W, C) of the input to set the statistics at, that of the network's use.
    The numbers come from numpy's PCG64 and the statistics are rounded to powers of two, so that
    the same seed gives the same network whatever order a host adds floats in.
    Raises InputError for a negative seed.
    """
    if seed < 0:
        raise InputError(f"The seed of random weights must be 0 or more, not {seed}.")
    rng = np.random.default_rng(seed)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.copy_(_draw(rng, name, parameter))
    height, width, channels = shape
    image = rng.standard_normal((1, channels, height, width), dtype=np.float32)
    _normalize(module, torch.from_numpy(image))


def _draw(rng: np.random.Generator, name: str, parameter: Tensor) -> Tensor:
    """Kernels N(0, 1 / fan-in), batch-norm gains U(0.5, 1.5), biases N(0, 0.25^2)."""
    shape = tuple(parameter.shape)
    if len(shape) > 1:
        gain = GATE_GAIN if ".se." in name else 1.0
        fan_in = parameter[0].numel()
        values = np.float32(gain / fan_in**0.5) * rng.standard_normal(shape, dtype=np.float32)
    elif name.endswith("weight"):
        values = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    else:
        values = np.float32(0.25) * rng.standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values)


def _normalize(module: nn.Module, image: Tensor) -> None:
    """Run once; every batch norm divides by the root mean square of what reaches it.

    One number per batch norm, about zero, not a mean and a variance per channel: in a random
    network these would be tiny differences between images, which further layers blow up.
    """

    def normalize(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        norm.get_buffer("running_mean").zero_()
        mean_square = float(inputs[0].square().mean())
        norm.get_buffer("running_var").fill_(2.0 ** round(math.log2(mean_square)))

    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(normalize) for norm in norms]
    with torch.no_grad():
        module(image)
    for hook in hooks:
        hook.remove()

"""Random weights for captured modules, and the comparison with torch."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from subbyte.execute.reference.bounds import run_with_bounds
from subbyte.importers.torch_export import capture
from subbyte.ir import Graph

SEED = 20240601


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _randomize(module: nn.Module, seed: int = SEED) -> nn.Module:
    """Weights that keep variances near 1, biases and statistics that cannot go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim >= 2:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.3 * noise)
    return module.eval()


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    return _randomize


def _agrees_with_torch(
    module: nn.Module, shape: tuple[int, int, int], seed: int = SEED, wide: bool = False
) -> Graph:
    """Captures the randomized module; asserts that each output is within the float32 bound of torch's.

    wide: torch computes in float64, where its float32 operators round more often than numerics.md allows.
    """
    _randomize(module, seed)
    graph = capture(module, shape)
    x = (3 * np.random.default_rng(seed).standard_normal((2, *shape))).astype(np.float32)
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        results = copy.deepcopy(module).double()(images.double()) if wide else module(images)
    results = [results] if isinstance(results, torch.Tensor) else list(results)
    assert len(results) == len(graph.outputs)
    computed = run_with_bounds(graph, x)
    for name, result in zip(graph.outputs, results, strict=True):
        expected = result.numpy()
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        elif expected.ndim == 3:  # a sequence is a map of one row
            expected = expected[:, None]
        got, bound = computed[name]
        assert got.shape == expected.shape
        assert np.ptp(expected) > 0, "a constant output would hide mistakes"
        assert bound.max() <= 1e-3 * np.abs(expected).max(), "the bound is too loose to prove anything"
        assert (np.abs(got - expected.astype(np.float64)) <= bound).all()
    return graph


@pytest.fixture
def agrees_with_torch() -> Callable[..., Graph]:
    return _agrees_with_torch

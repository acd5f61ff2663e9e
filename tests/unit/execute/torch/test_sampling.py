"""Rounding, look-up and their gradients in one pass, against the same in torch operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from subbyte.execute.torch import sampling
from subbyte.execute.torch.training_ops import _NarrowProducts

SHAPES = [(1, 1), (4, 10), (3, 5, 7, 9), (2, 64, 40, 40)]  # the last is shared among threads


def map_of(shape: tuple[int, ...], scale: float, seed: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_and_looking_up(shape: tuple[int, ...], threads: int) -> None:
    v, table = map_of(shape, 200.0, 1) + 100.0, map_of((256,), 1.0, 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result, index = sampling.round_and_look_up(v, table)
        gradient = map_of(shape, 1.0, 3)
        moved, sums = sampling.slope_and_sum(gradient, table, index)
    finally:
        torch.set_num_threads(before)
    codes = v.clamp(0.0, 255.0).round().long()
    assert torch.equal(result, table[codes])
    assert torch.equal(moved, gradient * table[codes])
    exact = torch.zeros(256, dtype=torch.float64).index_add_(0, codes.flatten(), gradient.flatten().double())
    # a double sum of n numbers in any order is within n · 2^-53 of the sum of their magnitudes
    bound = gradient.numel() * 2.0**-53 * gradient.abs().double().sum()
    assert (sums - exact).abs().max() <= 2 * bound


def test_ties_go_to_even_and_what_is_no_number_to_zero() -> None:
    table = torch.arange(256.0)
    v = torch.tensor([0.5, 1.5, 2.5, 254.5, 255.5, -0.5, -1e30, 1e30, float("inf"), float("nan")])
    result, _ = sampling.round_and_look_up(v[None], table)
    assert result[0].tolist() == [0, 2, 2, 254, 255, 0, 0, 255, 255, 0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_does_not_matter(layout: torch.memory_format) -> None:
    v = (torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(4)) * 99).contiguous(
        memory_format=layout
    )
    table = torch.arange(256.0).flip(0)
    result, index = sampling.round_and_look_up(v, table)
    assert torch.equal(result, table[v.clamp(0, 255).round().long()])
    moved, _ = sampling.slope_and_sum(v, table, index)
    assert torch.equal(moved, v * table[v.clamp(0, 255).round().long()])


@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_from_bfloat16_are_those_of_float32_to_its_digits(groups: int) -> None:
    generator = torch.Generator().manual_seed(5)
    codes = torch.randint(0, 256, (2, 4, 9, 9), generator=generator).float().requires_grad_()
    weight = torch.randn(8, 4 // groups, 3, 3, generator=generator).requires_grad_()
    bias = torch.randn(8, generator=generator).requires_grad_()
    arguments = ([2, 2], [1, 1], groups)
    narrow = _NarrowProducts.apply(codes, weight, bias, *arguments)  # type: ignore[no-untyped-call]
    exact = torch.nn.functional.conv2d(codes, weight, bias, [2, 2], [1, 1], 1, groups)
    assert torch.equal(narrow, exact)  # forward is float32
    upward = torch.randn(exact.shape, generator=generator)
    leaves = (codes, weight, bias)
    found = torch.autograd.grad(narrow, leaves, upward)
    wanted = torch.autograd.grad(exact, leaves, upward)
    # both factors and the result are rounded to 8 digits: three times 2^-8 of the sum of magnitudes
    x, w, b = sizes = [leaf.detach().abs().requires_grad_() for leaf in leaves]
    largest = torch.autograd.grad(
        torch.nn.functional.conv2d(x, w, b, [2, 2], [1, 1], 1, groups), sizes, upward.abs()
    )
    for one, other, most in zip(found, wanted, largest, strict=True):
        assert ((one - other).abs() <= 3.1 * 2.0**-8 * most + 1e-6).all()
    assert not torch.equal(found[1], wanted[1])

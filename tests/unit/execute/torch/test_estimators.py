"""Gradients of roundings are those of the smooth functions that stand for them, which changes no integer.

Central differences of step H of functions with third derivatives below 100, in float64, are off by less than
H²/6 · 100 + 2⁻⁵² · 300 / H < 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from subbyte.execute.torch.estimators import Estimator, derivatives, estimator, rounded, sampled_sums
from subbyte.execute.torch.step import Grid, slopes
from subbyte.execute.torch.straight_through import real
from subbyte.quant import uniform_levels
from subbyte.quantize.weights import nearest_level, usable
from subbyte.steps.rounding import nearest

H = 1e-5
HOWS = [Estimator(), Estimator("ewgs", 0.3), Estimator("soft", 3.0)]


def surrogate(v: Tensor, how: Estimator, sign: float) -> Tensor:
    """What `how` differentiates in place of rne(v), where gradients have this sign."""
    if how.name == "ewgs":
        return v + sign * how.strength * (v - v.round()).square() / 2
    if how.name == "soft":
        k, middle = how.strength, v.floor() + 0.5
        return middle + torch.tanh(k * (v - middle)) / (2.0 * math.tanh(k / 2.0))
    return v


def difference(f: Callable[[Tensor], Tensor], x: Tensor, step: float = H) -> Tensor:
    return (f(x + step) - f(x - step)) / (2.0 * step)


def points(low: float, high: float, count: int = 400) -> Tensor:
    """float64 [count], none of them a multiple of 0.5 by less than 2 H."""
    v = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = low + (high - low) * v
    return v[((v * 2.0) - (v * 2.0).round()).abs() > 8.0 * H]


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.name)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rounding_of_activations_differentiates_its_surrogate(how: Estimator, sign: float) -> None:
    v = points(-2.0, 9.0).requires_grad_()
    codes = rounded(v, None, 0.0, 7.0, how)
    assert torch.equal(codes, v.detach().round().clamp(0.0, 7.0))
    (sign * 2.0 * codes).sum().backward()
    inside = (v > -0.5) & (v < 7.5)
    exact = 2.0 * sign * difference(lambda x: surrogate(x, how, sign), v.detach()) * inside
    assert v.grad is not None
    assert torch.allclose(v.grad, exact, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.name)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("book", [[-2, -1, 0, 1], [-127, -40, 30, 90]], ids=["uniform", "learned"])
@pytest.mark.parametrize("fine", [1, 4])
def test_rounding_of_weights_differentiates_its_surrogate(
    how: Estimator, sign: float, book: list[int], fine: int
) -> None:
    import numpy as np

    levels = np.array(book, np.int8)
    grid = torch.tensor(book, dtype=torch.float64)
    grid = torch.from_numpy(np.interp(np.arange(3 * fine + 1) / fine, np.arange(4), grid.numpy()))
    position = points(-0.9, 3.0 * fine + 0.9)  # in steps of the grid
    gap = position.floor().clamp(0, 3 * fine - 1).long()
    size = grid[gap + 1] - grid[gap]
    v = (grid[gap] + (position - gap) * size).float().requires_grad_()
    values = nearest(v, levels, how, fine)
    closest = (v.detach().double()[:, None] - grid).abs().argmin(1)
    assert torch.allclose(values.double(), grid[closest], rtol=0.0, atol=1e-5)
    (sign * values).sum().backward()
    inside = (position > -0.5) & (position < 3 * fine + 0.5)
    exact = sign * difference(lambda x: surrogate(x, how, sign), position) * inside
    assert v.grad is not None
    # v is a float32 of up to 140, known to 2⁻¹⁷, of gaps of a fourth of a step or more: 2⁻¹⁵ in steps, and
    # slopes change by at most 3 · 3 a step
    assert torch.allclose(v.grad.double(), exact, rtol=0.0, atol=9.0 * 2.0**-15 + 1e-6)


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.name)
def test_estimators_round_weights_alike(how: Estimator) -> None:
    v = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * 3.0
    for levels in (uniform_levels(2), uniform_levels(8)):
        assert torch.equal(nearest(v, levels, how), nearest_level(v, usable(levels)))


def test_a_zero_point_moves_what_is_clipped() -> None:
    v, weight = points(-3.0, 11.0), torch.linspace(-1.0, 2.0, 400, dtype=torch.float64)
    weight = weight[: len(v)]
    zero = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    # real numbers are s (q − z): q is what `rounded` gives, and z itself is no parameter of who reads q
    (rounded(v + 2.0, zero, 0.0, 7.0, Estimator()) * weight).sum().backward()
    # the ends are those of rounded codes
    numbers = difference(lambda z: (((v + z).clamp(-0.5, 7.5) - z) * weight).sum(), zero.detach())
    assert zero.grad is not None
    assert torch.allclose(zero.grad, numbers, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("act", ["silu", "hard_swish", "sigmoid"])
@pytest.mark.parametrize("qmax", [15.0, 255.0])
def test_what_a_table_makes_has_the_gradients_of_its_function(act: str, qmax: float) -> None:
    """At whole sums, where a table and the function that it samples have one slope; none is a kink."""
    numbers = [torch.tensor(n, dtype=torch.float64) for n in (0.0487, 6.4 / qmax, 2.0)]
    s, s_y, z = (n.clone().requires_grad_() for n in numbers)
    v = torch.arange(-4.0, 261.0, dtype=torch.float64).requires_grad_()
    weight = torch.linspace(-1.0, 2.0, len(v), dtype=torch.float64)

    def soft(v: Tensor, s: Tensor, s_y: Tensor, z: Tensor) -> Tensor:
        """Codes before rounding, less what z adds to all of them."""
        function = real(act)((v.clamp(0.0, 255.0) - 100.0) * s)
        return (function / s_y + z).clamp(0.0, qmax) - z

    source, target = Grid(s, 100.0, 255.0), Grid(s_y, 2.0, qmax)
    codes = torch.arange(256.0, dtype=torch.float64)
    with torch.no_grad():
        exact = real(act)((codes - 100.0) * s) / s_y + z
    table = exact.round().clamp(0.0, qmax).requires_grad_()
    by = tuple(t.double() for t in slopes(act, source, target))
    made = sampled_sums(v, s, s_y, z, table, derivatives(exact, qmax, by, Estimator()))
    assert torch.equal(made.detach(), table.detach()[v.detach().clamp(0.0, 255.0).long()])
    (made * weight).sum().backward()
    for i, parameter in enumerate((s, s_y, z)):

        def total(x: Tensor, place: int = i) -> Tensor:
            changed = [x if j == place else n for j, n in enumerate(numbers)]
            return (soft(v.detach(), *changed) * weight).sum()

        expected = difference(total, numbers[i], 1e-7)  # a scale is small beside H
        assert parameter.grad is not None
        # `slopes` computes in float32
        assert torch.allclose(parameter.grad, expected, rtol=1e-4, atol=1e-3), i
    assert v.grad is not None
    inner = (v > 0.5) & (v < 254.5)
    slope = weight * difference(lambda x: soft(x, *numbers), v.detach())
    assert torch.allclose((v.grad * inner), slope * inner, rtol=1e-4, atol=1e-4)
    assert (v.grad[(v < -0.5) | (v > 255.5)] == 0.0).all()
    assert table.grad is not None
    sums = torch.zeros(256, dtype=torch.float64).index_add_(0, v.detach().clamp(0, 255).long(), weight)
    assert torch.allclose(table.grad, sums)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("how", HOWS[1:], ids=lambda how: how.name)
def test_estimators_act_on_the_rounding_of_a_table(how: Estimator, sign: float) -> None:
    v = torch.arange(0.0, 256.0, dtype=torch.float64).requires_grad_()
    one = torch.ones((), dtype=torch.float64)
    source, target = Grid(one * 0.04, 100.0, 255.0), Grid(one * 0.3, 1.0, 15.0)
    exact = real("silu")((v.detach() - 100.0) * 0.04) / 0.3 + 1.0
    by = tuple(t.double() for t in slopes("silu", source, target))
    tables = derivatives(exact, 15.0, by, how)
    made = sampled_sums(v, one, one, None, exact.round().clamp(0.0, 15.0), tables)
    (sign * made).sum().backward()
    assert v.grad is not None
    far = ((exact * 2.0) - (exact * 2.0).round()).abs() > 1e-3
    bent = sign * by[0] * difference(lambda x: surrogate(x, how, sign), exact)
    assert torch.allclose(v.grad[far], bent[far], rtol=0.0, atol=1e-6)


def test_an_estimator_has_a_usual_strength() -> None:
    assert estimator("soft").strength > 0.0
    assert estimator("ewgs", 0.7) == Estimator("ewgs", 0.7)
    assert estimator("ste").plain

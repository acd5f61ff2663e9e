"""Rounding with compensation: against least squares worked out anew for every weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.quantize.gptq import rounded
from subbyte.quantize.weights import nearest_level

LEVELS = np.array([-2, -1, 0, 1], np.int8)


def problem(outputs: int, inputs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [O, K], a Hessian [K, K] of correlated inputs and scales [O], float64."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, inputs)) @ rng.normal(size=(inputs, inputs))
    weight = rng.normal(size=(outputs, inputs))
    scale = np.abs(weight).max(1) / 2.0
    hessian = x.T @ x / len(x) + 0.01 * np.eye(inputs)
    return torch.from_numpy(weight), torch.from_numpy(hessian), torch.from_numpy(scale)


def error(values: Tensor, scale: Tensor, weight: Tensor, hessian: Tensor) -> Tensor:
    moved = values * scale[:, None] - weight
    return ((moved @ hessian) * moved).sum(1)


def nearest(weight: Tensor, scale: Tensor) -> Tensor:
    return nearest_level((weight / scale[:, None]).float(), LEVELS).double()


def test_the_definition_with_a_least_squares_solution_at_every_weight() -> None:
    weight, hessian, scale = problem(3, 7, seed=0)
    values, same = rounded(weight, hessian, scale, LEVELS, fits=0)
    assert torch.equal(same, scale)
    order = sorted(range(7), key=lambda k: -float(hessian[k, k]))
    for row, w, s in zip(values, weight, scale, strict=True):
        fixed: list[int] = []
        for k in order:
            # the others, those that are not rounded, as the rounded ones want them
            free = [i for i in range(7) if i not in fixed]
            moved = row[fixed] * s - w[fixed]
            best = w[free] - torch.linalg.solve(hessian[free][:, free], hessian[free][:, fixed] @ moved)
            wanted = best[free.index(k)] / s
            assert row[k] == nearest_level(wanted.float()[None], LEVELS)[0]
            fixed.append(k)


def test_blocks_of_columns_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, hessian, scale = problem(5, 23, seed=1)
    found = []
    for block in (1, 4, 64):
        monkeypatch.setattr("subbyte.quantize.gptq.BLOCK", block)
        found.append(rounded(weight, hessian, scale, LEVELS, fits=2))
    for values, scales in found[1:]:
        assert torch.equal(values, found[0][0])
        torch.testing.assert_close(scales, found[0][1])


def test_inputs_that_do_not_depend_on_each_other_are_rounded_to_nearest() -> None:
    weight, _, scale = problem(4, 9, seed=2)
    values, _ = rounded(weight, torch.eye(9, dtype=torch.float64), scale, LEVELS, fits=0)
    assert torch.equal(values, nearest(weight, scale))


@pytest.mark.parametrize("seed", range(3, 6))
def test_less_error_than_rounding_to_nearest(seed: int) -> None:
    weight, hessian, scale = problem(40, 30, seed)
    values, _ = rounded(weight, hessian, scale, LEVELS, fits=0)
    found = error(values, scale, weight, hessian).sum()
    assert found < error(nearest(weight, scale), scale, weight, hessian).sum()


def test_a_fitted_scale_is_the_one_of_least_error() -> None:
    weight, hessian, scale = problem(6, 12, seed=6)
    values, fitted = rounded(weight, hessian, scale, LEVELS, fits=1)
    least = error(values, fitted, weight, hessian)
    inside = (fitted > 0.5 * scale) & (fitted < 2.0 * scale)
    assert inside.all()
    for factor in (0.99, 1.01):
        assert (error(values, fitted * factor, weight, hessian) > least).all()


def test_a_scale_that_no_code_wants_stays() -> None:
    weight, hessian, scale = problem(2, 5, seed=7)
    values, fitted = rounded(weight * 1e-9, hessian, scale, LEVELS, fits=1)
    assert not values.any()
    assert torch.equal(fitted, scale)


def test_zeros_of_a_pattern_stay_and_others_make_up_for_them() -> None:
    weight, hessian, scale = problem(4, 10, seed=8)
    kept = torch.zeros(4, 10, dtype=torch.bool)
    kept[:, ::2] = True
    values, _ = rounded(weight, hessian, scale, LEVELS, fits=0, kept=kept)
    assert not values[~kept].any()
    plain = torch.where(kept, nearest(weight, scale), 0.0)
    assert error(values, scale, weight, hessian).sum() < error(plain, scale, weight, hessian).sum()

"""Bits of codes in training: none at the start, and gradients that are the tables' slopes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.quant import QTensor, weight_format
from subbyte.recipes import Reconstruction
from subbyte.steps.coded import UNSEEN, CodedBits

SEED = 8


def weight(spread: float, bits: int = 8) -> QTensor:
    print(f"seed {SEED}")
    half = 1 << (bits - 1)
    values = np.rint(np.random.default_rng(SEED).normal(size=(6, 50)) * spread).clip(-half, half - 1)
    return QTensor.from_values(values.astype(np.int8), np.ones(6, np.float32), weight_format(bits))


def test_nothing_is_more_at_the_start() -> None:
    weights = {"a": weight(2.0), "b": weight(9.0)}
    coded = CodedBits(weights)
    steps = {name: torch.from_numpy(w.values().astype(np.float32)) for name, w in weights.items()}
    # sums of 600 float32 numbers below 16
    assert abs(float(coded.more(steps))) < 600 * 16 * 2.0**-24


def test_only_eight_bits_are_coded() -> None:
    coded = CodedBits({"a": weight(2.0), "b": weight(2.0, 4)})
    assert set(coded.costs) == {"a"}
    assert coded.count == 300
    assert float(CodedBits({"b": weight(2.0, 4)}).more({})) == 0.0


def test_bits_are_what_frequencies_say() -> None:
    """A rarer code takes the logarithm of the ratio of frequencies more."""
    w = weight(1.0)
    coded = CodedBits({"a": w})
    counts = np.bincount(w.values().reshape(-1).astype(np.int64) + 128, minlength=256)
    moved = w.values().astype(np.float32)
    first = int(np.flatnonzero(moved == 0)[0])
    moved.reshape(-1)[first] = 3.0
    expected = np.log2((counts[128] + UNSEEN) / (counts[131] + UNSEEN)) / 300
    assert float(coded.more({"a": torch.from_numpy(moved)})) == pytest.approx(expected, rel=1e-4)


def test_gradients_are_slopes_between_codes() -> None:
    w = weight(3.0)
    coded = CodedBits({"a": w})
    steps = torch.from_numpy(w.values().astype(np.float32) + 0.25).requires_grad_()
    (gradient,) = torch.autograd.grad(coded.more({"a": steps}), steps)
    cost = coded.costs["a"].numpy()
    place = w.values().astype(np.int64) + 128
    np.testing.assert_allclose(gradient.numpy(), (cost[place + 1] - cost[place]) / 300, rtol=1e-5)


def test_it_is_for_latent_weights_alone() -> None:
    with pytest.raises(ValueError, match='coded is for rounding = "latent"'):
        Reconstruction(rounding="adaround", coded=1.0)

"""Pairs are mixed by the same share, and so are their labels."""

from __future__ import annotations

import torch

from subbyte.training.mixup import label_loss, mixed, shares, swapped


def test_shares_are_of_pairs_and_of_the_step() -> None:
    share = shares(3, 5, 8, 0.2)
    assert torch.equal(share[0::2], share[1::2])
    assert torch.equal(share, shares(3, 5, 8, 0.2))
    assert not torch.equal(share, shares(3, 6, 8, 0.2))
    assert bool(((share >= 0) & (share <= 1)).all())
    assert torch.equal(shares(3, 5, 8, 0.0), torch.ones(8))


def test_images_are_mixed_with_their_neighbours() -> None:
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    y = mixed(x, torch.tensor([0.75, 0.75, 0.5, 0.5]))
    assert y[:, 0, 0, 0].tolist() == [0.25, 0.75, 2.5, 2.5]
    assert swapped(torch.tensor([5, 6, 7, 8])).tolist() == [6, 5, 8, 7]


def test_the_loss_is_cross_entropy_with_mixed_and_smoothed_labels() -> None:
    """In float64; both ways add 20 products below 8: they differ by less than 20 * 8 * 2^-52."""
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([1, 0, 4, 4])
    share = torch.tensor([0.3, 0.3, 0.9, 0.9], dtype=torch.float64)
    hot = torch.nn.functional.one_hot(labels, 5).double()
    target = share[:, None] * hot + (1 - share[:, None]) * hot[[1, 0, 3, 2]]
    target = 0.9 * target + 0.1 / 5
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    assert abs(float(label_loss(logits, labels, share, 0.1) - expected)) < 160 * 2**-52

"""Two processes train as one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from subbyte.steps.train import read_state
from tests.unit.steps import two

Results = dict[str, dict[str, Tensor]]
U = 2.0**-24  # a rounding of float32 errs by at most this share of the result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.steps.two", str(rank), "2", str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        error = process.communicate()[1]
        assert process.returncode == 0, error
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[Results, Results]:
    return torch.load(folder / "0.result"), torch.load(folder / "1.result")


def test_both_end_with_equal_numbers(made: tuple[Results, Results]) -> None:
    a, b = made
    assert len(a["network"]) > 10
    for name in a:
        assert a[name].keys() == b[name].keys()
        assert all(torch.equal(a[name][key], b[name][key]) for key in a[name]), name


def test_where_sums_are_exact_they_are_those_of_one_process(made: tuple[Results, Results]) -> None:
    """With all options that read gradients: their order of addition is all that differs."""
    one = two.linear(two.EXACT, two.ALL)["w"]
    assert torch.equal(made[0]["exact"]["w"], one)
    assert bool((one != 0).all())


def test_parts_of_different_sizes_count_by_their_images(made: tuple[Results, Results]) -> None:
    """Three and two images of numbers from 1 to 2, which do not cancel.

    A mean gradient takes at most 4 additions, 2 divisions, 2 products with a share and a rounding of each
    share, so that two ways to it differ by at most 18 U of it. Adam's averages m and v are sums of positive
    terms: m differs by 18 U, the root of v by as much; the arithmetic of a step, a dozen roundings on either
    side of which v's count half, adds 24 U. As gradients are from 1 to 2, m / sqrt(v) is at most 2: a step
    differs by 2 rate (2 * 18 + 24) U, and is then added with a rounding of the parameter, on either side.
    """
    one = two.linear(two.POSITIVE, two.UNEVEN)["w"]
    rate, steps = two.UNEVEN.weight, two.UNEVEN.steps
    largest = float(one.abs().max())
    bound = steps * (2 * rate * 60 * U + 2 * largest * U)
    assert float((made[0]["uneven"]["w"] - one).abs().max()) <= bound
    assert largest > 1e4 * bound  # an equal share for either part would differ by more
    halves = torch.stack([two.POSITIVE[:3].mean(0), two.POSITIVE[3:5].mean(0)]).mean(0)
    assert float((halves - two.POSITIVE[:5].mean(0)).abs().max()) > 1e-3


def test_the_first_alone_writes(folder: Path) -> None:
    assert read_state(folder / "state.pt")["step"] == 25
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".partial")]
    assert "distill.pt" not in left  # it ended before the first state was due
    assert "block-001.pt" in left

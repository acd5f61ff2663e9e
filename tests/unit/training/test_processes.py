"""Two processes do what one does; devices that are not there are one error."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed as dist
from torch import nn

from subbyte.errors import InputError
from subbyte.training.processes import SharedBatchNorm2d, processes, shared_norms
from tests.boundary.tree import ROOT


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def train(size: int, *arguments: object) -> None:
    """With `size` processes under the environment that torchrun gives them."""
    words = [sys.executable, "-m", "tests.unit.training.training", *map(str, arguments)]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    running = [
        subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(size)
    ]
    assert [one.wait(300) for one in running] == [0] * size


def distance(one: Path, two: Path) -> float:
    """The largest difference of a weight or statistic, over the largest number of its tensor."""
    a, b = (load_file(out / "model.safetensors") for out in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max() / a[k].abs().max()) for k in a if a[k].is_floating_point())


def test_two_processes_do_what_one_does(source: Path, folder: Path, tmp_path: Path) -> None:
    """In float64. Sums are added in another order: one over images and pixels, 8 x 8 x 8 at most, differs by
    2^9 times 2^-53 of its terms. 2^-24, what float32 could not tell apart, leaves a factor of 2^20 for what 3
    layers and 11 steps make of that. What is wrong, such as statistics of each process alone, shows in the
    first digits."""
    folders = [tmp_path / name for name in ("one", "two", "local")]
    for out in folders:
        out.mkdir()
    one, two, local = folders
    train(1, f"{source}:build", folder, one, "double")
    train(2, f"{source}:build", folder, two, "double")
    train(2, f"{source}:build", folder, local, "double", "local")
    assert distance(one, two) < 2**-24
    assert distance(one, local) > 2**-7


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_shared_statistics_of_one_process_are_torch_s(
    alone: None, momentum: float | None, affine: bool
) -> None:
    """In float64: sums of 36 numbers, and what follows from them, differ by less than 36 * 2^-50 of 8."""
    torch.manual_seed(0)
    one = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    two = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    two.load_state_dict(one.state_dict())
    shared = shared_norms(two)
    assert isinstance(shared, SharedBatchNorm2d)
    for _ in range(2):
        x = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
        y, z = one(x), shared(x)
        weight = torch.randn_like(y)
        gradients = [torch.autograd.grad((each * weight).sum(), x)[0] for each in (y, z)]
        for a, b in ((y, z), gradients):
            assert float((a - b).detach().abs().max()) < 8 * 36 * 2**-50
    for key, value in one.state_dict().items():
        assert float((value - shared.state_dict()[key]).abs().max()) < 8 * 36 * 2**-50
    shared.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(x), shared.eval()(x))


@pytest.mark.parametrize("device", ["nowhere", "meta", "cuda:7"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(InputError, match="device"), processes(device):
        pass

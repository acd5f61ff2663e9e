"""The processes that train together: one, or as many as torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist

from subbyte.errors import InputError


@dataclass(frozen=True)
class Processes:
    """rank: of this one, from 0; the first one writes files. size: how many. device: this one's."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def prepared(self, module: nn.Module) -> nn.Module:
        """`module` on this device, channels last; of several processes, its batch norms share their
        statistics."""
        module = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.size == 1:
            return module
        if self.device.type == "cuda":
            synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            return synchronized
        return shared_norms(module)

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module` whose gradients are averaged over all processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Those of torchrun, else this one alone. device: cpu, cuda, or cuda:N for one process.

    Raises InputError if there is no such device.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = _device(device)
    if size == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"the device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all processes, for devices that torch's SyncBatchNorm does not know.

    All processes must hold equally many images of one size.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        size = dist.get_world_size()
        mean = _sum(x.mean((0, 2, 3))) / size
        centred = x - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().mean((0, 2, 3))) / size
        if self.running_mean is not None and self.running_var is not None:
            self._follow(mean.detach(), variance.detach(), size * x.numel() // x.shape[1])
        y = centred * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        normalized: Tensor = y.to(input.dtype)
        return normalized

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """The running statistics, with the unbiased variance, as torch's."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


def shared_norms(module: nn.Module) -> nn.Module:
    """The module with each BatchNorm2d in it, and itself if it is one, as a SharedBatchNorm2d of the same
    tensors."""
    if type(module) is nn.BatchNorm2d:
        norm = SharedBatchNorm2d(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        norm._parameters, norm._buffers = module._parameters, module._buffers
        return norm
    for name, child in module.named_children():
        setattr(module, name, shared_norms(child))
    return module


def mean_over(value: Tensor, size: int) -> Tensor:
    """The mean of a tensor over `size` processes."""
    if size == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / size

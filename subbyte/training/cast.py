"""Training in bfloat16: autocast, without what CPUs are slow at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from subbyte.system.cpus import cpuinfo

#: Instructions that multiply bfloat16, as /proc/cpuinfo of x86 and of ARM calls them.
FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    facts = cpuinfo()
    return bool(FLAGS & set(f"{facts.get('flags', '')} {facts.get('Features', '')}".split()))


@contextmanager
def bfloat16(device: torch.device) -> Iterator[None]:
    """Inside, convolutions and matrix products are bfloat16's; on a CPU depthwise ones stay in float32, where
    oneDNN has no kernel for their gradients (a strided one takes 39 ms instead of 0.9)."""
    with torch.autocast(device.type, torch.bfloat16):
        if device.type != "cpu":
            yield
            return
        with _FloatDepthwise():
            yield


class _FloatDepthwise(TorchFunctionMode):
    """Convolutions of one input channel per output are float32's; their outputs bfloat16 again."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and args[1].shape[1] == 1 and args[1].shape[0] > 1:
            x, weight, *rest = args
            with torch.autocast("cpu", enabled=False):
                y = func(x.float(), weight.float(), *rest, **(kwargs or {}))
            return y.to(torch.bfloat16)
        return func(*args, **(kwargs or {}))

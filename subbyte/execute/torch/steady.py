"""What compression sets in its process while it runs, and sets back: torch's threads, and kept memory."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from subbyte.errors import InputError
from subbyte.execute.torch.training_ops import bfloat16_pays
from subbyte.system.version import __version__

#: glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
#: Where glibc's own adjustment to large tensors ends, and its default number of mappings.
AFTER = {M_TRIM_THRESHOLD: 64 << 20, M_MMAP_THRESHOLD: 32 << 20, M_MMAP_MAX: 65536}


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Inside, torch computes with so many threads, whatever the environment or the caller has set.

    Sums of float32 numbers are split among threads, so that their last digits depend on how many there are.
    Raises InputError if `threads` is less than 1.
    """
    if threads < 1:
        raise InputError(f"compression needs at least 1 thread, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, the C library keeps the memory of freed tensors instead of giving it back to the system,
    which would have to clear its pages for the next ones: many thousands a training step.

    Only glibc can be told so; elsewhere nothing happens. May not be nested.
    """
    if not glibc():
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
    try:
        yield
    finally:
        for parameter, value in AFTER.items():  # what was set before cannot be asked for
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def glibc() -> bool:
    """Whether this process runs on the GNU C library."""
    return platform.libc_ver()[0] == "glibc"


def environment(threads: int) -> dict[str, object]:
    """What the digits of a result depend on beside its inputs; plain JSON."""
    return {
        "subbyte": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bfloat16_pays(),
        "threads": threads,
    }

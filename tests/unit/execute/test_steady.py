"""The same result whatever threads the process has been given, and what is set is set back."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from subbyte import Preprocessing, compress_model, save
from subbyte.analysis.sensitivity import analysis_key, sensitivity
from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.execute.torch import steady
from subbyte.execute.torch.steady import fixed_threads, kept_memory
from subbyte.quant import weight_format
from subbyte.quantize.variants import Variants
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import efficientnet_like, random_images

THREADS = (1, 2, 4)


def network() -> nn.Module:
    """Wide enough that torch splits its sums among threads."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.SiLU(), nn.Conv2d(32, 64, 1), nn.SiLU(), nn.Conv2d(64, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip


def test_the_callers_threads_change_nothing(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((16, 64, 64, 3)).astype(np.float32)
    preprocessing = Preprocessing(64, 64, (0.5,) * 3, (0.5,) * 3)
    files = []
    for threads in THREADS:
        with fixed_threads(threads):
            files.append(tmp_path / f"{threads}.subbyte")
            artifact = compress_model(network(), "w4a8-reconstruct", [images], preprocessing=preprocessing)
            save(files[-1], artifact)
            assert torch.get_num_threads() == threads
    assert artifact.provenance["threads"] == 1
    assert len({file.read_bytes() for file in files}) == 1


def test_an_analysis_is_made_with_the_threads_it_was_asked_for() -> None:
    graph, found = efficientnet_like(), []

    def progress(stage: str, done: int) -> None:
        found.append(torch.get_num_threads())

    with fixed_threads(2):
        variants, four = Variants(graph, load_recipe("w8a8")), weight_format(4)
        sensitivity(variants, random_images(graph, 4), weights=(four,), progress=progress)
        assert torch.get_num_threads() == 2
    assert set(found) == {1}


def test_another_version_is_another_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = efficientnet_like()
    variants, images = Variants(graph, load_recipe("w8a8")), random_images(graph, 4)
    keys = [analysis_key(variants, images, 1), analysis_key(variants, images, 2)]
    for module in (steady, torch, np):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__version__", "other")
            keys.append(analysis_key(variants, images, 1))
    assert len(set(keys)) == 5


def test_at_least_one_thread() -> None:
    with pytest.raises(InputError, match="needs at least 1 thread, got 0"), fixed_threads(0):
        pass


class Libc:
    """Records what the C library is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.told.append((parameter, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.told.append((pad,))
        return 1


def test_memory_is_kept_while_compressing_and_given_back_after_any_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libc, graph = Libc(), efficientnet_like()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(steady, "glibc", lambda: True)
    during: list[tuple[int, ...]] = []

    def progress(stage: str, done: int) -> None:
        during[:] = libc.told
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(graph, load_recipe("w4a8"), [random_images(graph, 4)], progress=progress)
    # malloc.h: -1 is the trim threshold, -3 the size from which memory is mapped, -4 the most mappings
    assert during == [(-4, 0), (-1, -1)]
    assert libc.told[len(during) :] == [(-1, 64 << 20), (-3, 32 << 20), (-4, 65536), (0,)]


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "glibc", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("there is no such function"))
    with kept_memory():
        pass

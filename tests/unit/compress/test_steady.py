"""The same result whatever threads the process has been given, and what is set is set back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from subbyte import Preprocessing, compress_model, save
from subbyte.compress import steady
from subbyte.compress.sensitivity import analysis_key, sensitivity
from subbyte.compress.steady import fixed_threads, kept_memory
from subbyte.compress.variants import Variants
from subbyte.errors import InputError
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import efficientnet_like, pictures

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
        sensitivity(Variants(graph, load_recipe("w8a8")), pictures(graph, 4), weights=(4,), progress=progress)
        assert torch.get_num_threads() == 2
    assert set(found) == {1}


def test_another_version_is_another_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = efficientnet_like()
    variants, images = Variants(graph, load_recipe("w8a8")), pictures(graph, 4)
    keys = [analysis_key(variants, images, 1), analysis_key(variants, images, 2)]
    for module in (steady.subbyte, steady.torch, steady.np):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__version__", "other")
            keys.append(analysis_key(variants, images, 1))
    assert len(set(keys)) == 5


def test_at_least_one_thread() -> None:
    with pytest.raises(InputError, match="needs at least 1 thread, got 0"), fixed_threads(0):
        pass


@pytest.mark.skipif(not steady.glibc(), reason="only glibc can keep memory")
def test_memory_of_freed_tensors_is_kept_and_then_given_back() -> None:
    """Tensors above what glibc maps by itself cost their pages once, not each time."""
    resource = pytest.importorskip("resource")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8):
            torch.ones(16 << 20)
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    each = faults()
    with kept_memory():
        torch.ones(16 << 20)
        kept = faults()
    assert kept < each / 8
    assert faults() > each / 2

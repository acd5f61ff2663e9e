"""Programs of torch.export.save: the same network as the module they were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from subbyte import Preprocessing, import_model
from subbyte.errors import InputError
from subbyte.execute.reference.executor import run

PREPROCESSING = Preprocessing(8, 6, (0.0,) * 3, (1.0,) * 3, crop_mode="squash", crop_fraction=1.0)


def test_an_archive_is_its_module(tmp_path: Path, randomize: Callable[[nn.Module], nn.Module]) -> None:
    module = randomize(
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(inplace=True)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5)),
        )
    )
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 8, 6),)), path)
    found, expected = (import_model(source, preprocessing=PREPROCESSING) for source in (path, module))
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    (got,), (wanted,) = (run(one.graph, x).values() for one in (found, expected))
    np.testing.assert_array_equal(got, wanted)
    assert found.provenance["weights"]["file"] == "net.pt2"
    other = Preprocessing(9, 6, (0.0,) * 3, (1.0,) * 3, crop_mode="squash", crop_fraction=1.0)
    with pytest.raises(InputError, match=r"takes \[1, 3, 8, 6\], not one image \[1, 3, 9, 6\]"):
        import_model(path, preprocessing=other)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.raises(InputError, match="there is no file"):
        import_model(path, preprocessing=PREPROCESSING)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"torch\.export\.load cannot read .*net\.pt2"):
        import_model(path, preprocessing=PREPROCESSING)

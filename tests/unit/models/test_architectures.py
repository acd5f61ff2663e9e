"""The networks are timm's: same tensors, same outputs; and the published sizes."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from subbyte import models
from subbyte.errors import SubbyteError
from subbyte.models.blocks import StochasticDepth, same_padding
from subbyte.models.catalog import entry
from subbyte.models.initialize import randomize
from subbyte.models.tables import round_channels

OWN = {"efficientnetv2_xs": 1_185_302}  # networks that nobody else has: parameters with 10 classes
NAMES = [name for name in models.list_models() if name not in OWN]
SEED = 20260701

# Learned parameters with 1000 classes.
PARAMETERS = {
    "efficientnet_b0": 5_288_548,
    "efficientnet_es": 5_438_392,
    "efficientnet_em": 6_899_496,
    "efficientnet_el": 10_589_712,
    "tf_efficientnet_b0": 5_288_548,
    "tf_efficientnet_es": 5_438_392,
    "tf_efficientnet_em": 6_899_496,
    "tf_efficientnet_el": 10_589_712,
    "tf_efficientnet_lite0": 4_652_008,
    "tf_efficientnet_lite1": 5_416_680,
    "tf_efficientnet_lite2": 6_092_072,
    "tf_efficientnet_lite3": 8_197_096,
    "tf_efficientnet_lite4": 13_006_568,
    "tf_efficientnetv2_b0": 7_139_704,
    "tf_efficientnetv2_b1": 8_141_052,
    "tf_efficientnetv2_b2": 10_096_086,
    "tf_efficientnetv2_b3": 14_358_406,
    "tf_efficientnetv2_s": 21_458_488,
    "tf_efficientnetv2_m": 54_139_356,
    "tf_efficientnetv2_l": 118_515_272,
}

# Parameters in millions, as rounded in the READMEs of google/automl (EfficientNetV2) and
# tensorflow/tpu (EfficientNet-Lite), and in the EfficientNet paper. V2-L is left out: its README
# says 119.5, its checkpoint (and timm) 118.5.
PUBLISHED_MILLIONS = {
    "tf_efficientnetv2_b0": 7.1,
    "tf_efficientnetv2_b1": 8.1,
    "tf_efficientnetv2_b2": 10.1,
    "tf_efficientnetv2_b3": 14.4,
    "tf_efficientnetv2_s": 21.5,
    "tf_efficientnetv2_m": 54.1,
    "tf_efficientnet_lite0": 4.7,
    "tf_efficientnet_lite1": 5.4,
    "tf_efficientnet_lite2": 6.1,
    "tf_efficientnet_lite3": 8.2,
    "tf_efficientnet_lite4": 13.0,
    "tf_efficientnet_b0": 5.3,
}

# GMACs at the model's test size, from timm's results/benchmark-infer-amp-nchw-pt240-*.csv.
TIMM_GMACS = {
    "efficientnet_b0": 0.40,
    "efficientnet_es": 1.81,
    "efficientnet_em": 3.04,
    "efficientnet_el": 8.00,
    "tf_efficientnet_b0": 0.40,
    "tf_efficientnet_es": 1.81,
    "tf_efficientnet_em": 3.04,
    "tf_efficientnet_el": 8.00,
    "tf_efficientnet_lite0": 0.40,
    "tf_efficientnet_lite1": 0.62,
    "tf_efficientnet_lite2": 0.89,
    "tf_efficientnet_lite3": 1.65,
    "tf_efficientnet_lite4": 4.04,
    "tf_efficientnetv2_b0": 0.73,
    "tf_efficientnetv2_b1": 1.21,
    "tf_efficientnetv2_b2": 1.72,
    "tf_efficientnetv2_b3": 3.04,
    "tf_efficientnetv2_s": 8.44,
    "tf_efficientnetv2_m": 24.76,
    "tf_efficientnetv2_l": 56.40,
}

# The authors' own counts: size, GMACs, last digit's unit. Same READMEs and paper as above.
AUTHORS_GMACS = {
    "tf_efficientnetv2_b0": (224, 0.72, 0.01),
    "tf_efficientnetv2_b1": (240, 1.2, 0.1),
    "tf_efficientnetv2_b2": (260, 1.7, 0.1),
    "tf_efficientnetv2_b3": (300, 3.0, 0.1),
    "tf_efficientnetv2_s": (384, 8.4, 0.1),
    "tf_efficientnetv2_m": (480, 24.7, 0.1),
    "tf_efficientnetv2_l": (480, 56.3, 0.1),
    "tf_efficientnet_lite0": (224, 0.407, 0.001),
    "tf_efficientnet_lite1": (240, 0.631, 0.001),
    "tf_efficientnet_lite2": (260, 0.899, 0.001),
    "tf_efficientnet_lite3": (280, 1.44, 0.01),
    "tf_efficientnet_lite4": (300, 2.64, 0.01),
    "tf_efficientnet_b0": (224, 0.39, 0.01),
}


def _operations(name: str, size: int) -> tuple[int, int, int]:
    """Per image: MACs of convolutions and the classifier, batch-norm outputs, pooled inputs."""
    with torch.device("meta"):
        module = models.create(name)
    norms: list[int] = []
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.register_forward_hook(lambda _m, _i, out: norms.append(out.numel()))
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() // 2, sum(norms), norms[-1]


@pytest.mark.parametrize("name", NAMES)
def test_equals_timm(name: str, timm: ModuleType) -> None:
    generator = torch.Generator().manual_seed(SEED)
    ours = models.create(name)
    randomize(ours, SEED, (64, 64, 3))
    with torch.device("meta"):
        theirs = timm.create_model(name).eval()
    state = ours.state_dict()
    assert [(k, v.shape, v.dtype) for k, v in state.items()] == [
        (k, v.shape, v.dtype) for k, v in theirs.state_dict().items()
    ]
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
    theirs.load_state_dict(state, assign=True)
    with torch.inference_mode():
        for height, width in ((64, 64), (75, 75), (33, 50)):
            x = torch.randn(1, 3, height, width, generator=generator)
            expected = theirs(x)
            assert expected.abs().max() > 0
            assert torch.equal(ours(x), expected), (height, width)


@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_is_that_of_the_default_checkpoint(name: str, timm: ModuleType) -> None:
    repo = entry(name).hub_repo
    config = timm.get_pretrained_cfg(repo.removeprefix("timm/"))
    assert config.hf_hub_id == repo
    found = models.preprocessing(name)
    assert (3, found.height, found.width) == (config.test_input_size or config.input_size)
    assert (found.mean, found.std) == (config.mean, config.std)
    assert found.crop_fraction == (config.test_crop_pct or config.crop_pct)
    assert (found.interpolation, found.crop_mode) == (config.interpolation, config.crop_mode)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count(name: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in models.create(name).parameters())
    assert count == PARAMETERS[name]
    if name in PUBLISHED_MILLIONS:
        assert round(count / 1e6, 1) == PUBLISHED_MILLIONS[name]


@pytest.mark.parametrize("name", OWN)
def test_networks_of_our_own(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in models.create(name, 10).parameters()) == OWN[name]
    with pytest.raises(SubbyteError, match="Nobody has published weights"):
        models.load(name, "hub")


def test_stochastic_depth_leaves_out_whole_branches_of_the_rate_and_keeps_the_mean() -> None:
    """10,000 draws of rate 0.25: their mean lies within 5 standard deviations, 5 * sqrt(0.1875 / 10000)."""
    layer = StochasticDepth()
    x = torch.ones(10_000, 2, 3, 3)
    assert layer(x) is x
    layer.rate = 0.25
    torch.manual_seed(0)
    y = layer(x)
    kept = y[:, 0, 0, 0]
    assert torch.equal(y, kept.view(-1, 1, 1, 1).expand_as(y))
    assert set(kept.tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(float((kept == 0).float().mean()) - 0.25) < 5 * (0.1875 / 10_000) ** 0.5
    assert layer.eval()(x) is x


@pytest.mark.parametrize("name", NAMES)
def test_macs_of_timm(name: str) -> None:
    """timm's tool counts two operations per batch-norm output and one per pooled value as well."""
    macs, norm, pooled = _operations(name, models.preprocessing(name).height)
    assert round((macs + 2 * norm + pooled) / 1e9, 2) == TIMM_GMACS[name]


@pytest.mark.parametrize("name", AUTHORS_GMACS)
def test_macs_of_the_authors(name: str) -> None:
    """TensorFlow's profiler counts element-wise work too.

    That is none to four operations per batch-norm output: scale, shift, activation, residual.
    """
    size, published, unit = AUTHORS_GMACS[name]
    macs, norm, _ = _operations(name, size)
    assert macs / 1e9 - unit / 2 <= published <= (macs + 4 * norm) / 1e9 + unit / 2


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_el", "tf_efficientnetv2_b3"])
def test_num_classes_changes_the_classifier_only(name: str) -> None:
    with torch.device("meta"):
        small, full = models.create(name, num_classes=7), models.create(name)
    shapes, reference = ({k: v.shape for k, v in m.state_dict().items()} for m in (small, full))
    assert shapes.pop("classifier.weight")[0] == 7
    assert shapes.pop("classifier.bias") == (7,)
    assert shapes.items() <= reference.items()
    assert not small.training


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(SubbyteError, match="tf_efficientnetv2_b0"):
        models.create("efficientnetv2_b0")
    with pytest.raises(SubbyteError, match="tf_efficientnet_lite4"):  # nothing close: all of them
        models.create("???")
    with pytest.raises(SubbyteError, match="at least one class"):
        models.create("efficientnet_b0", num_classes=0)


def test_list_models_is_sorted_and_creatable() -> None:
    assert sorted(PARAMETERS) == NAMES
    assert sorted({*NAMES, *OWN}) == models.list_models()


@pytest.mark.parametrize(("channels", "limit", "rounded"), [
    (1, 0.9, 8),      # never below 8
    (20, 0.9, 24),    # halves go up
    (17.6, 0.9, 16),  # nearest, 9 % below
    (35.2, 0.9, 32),
    (11, 0.9, 16),    # nearest would be 8, 27 % below
    (11, 0, 8),       # no limit
    (123.2, 0, 120),
])  # fmt: skip
def test_round_channels(channels: float, limit: float, rounded: int) -> None:
    assert round_channels(channels, limit) == rounded


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_same_padding(kernel: int, stride: int) -> None:
    """By definition: ceil(size / stride) outputs, no more zeros than needed, the odd one last."""
    for size in range(1, 20):
        before, after = same_padding(size, kernel, stride)
        outputs = (size + before + after - kernel) // stride + 1
        assert outputs == -(-size // stride)
        assert after - before in (0, 1)
        if before + after:
            assert (size + before + after - 1 - kernel) // stride + 1 < outputs

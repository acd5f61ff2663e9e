"""Options of distillation: each does something, lowers the error, and ends on the format's integers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from subbyte.compress import compress
from subbyte.execute import reference
from subbyte.execute.native import executor as native
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quant import QTensor, uniform_levels
from subbyte.quantize.weights import usable
from subbyte.recipes import Distillation, Recipe, Training, list_recipes, load_recipe
from subbyte.steps.learned import Learned
from subbyte.steps.rounding import MOMENTUM, Rounding, divided, kurtosis
from subbyte.steps.schedule import Schedule
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images
from tests.unit.steps.test_training import error, same

COUNT = 32


def recipe(**options: Any) -> Recipe:
    """2-bit weights and 4-bit activations; 24 steps of distillation with these options."""
    base = {"epochs": 6, "batch": 8, "weight": 0.02}
    return Recipe.model_validate(
        {
            "name": "test",
            "weights": {"bits": 2},
            "activations": {"bits": 4},
            "steps": ["distill"],
            "distill": {**base, **options},
        }
    )


@cache
def network() -> tuple[Graph, np.ndarray, Graph]:
    """A float network, images, and the network rounded to nearest."""
    graph = efficientnet_like()
    images = random_images(graph, COUNT)
    return graph, images, compress(graph, recipe().model_copy(update={"steps": ()}), [images])


def trained(**options: Any) -> Graph:
    graph, images, _ = network()
    return compress(graph, recipe(**options), [images], labels=np.arange(COUNT) % 10)


@cache
def plain() -> Graph:
    return trained()


def learned(graph: Graph | None = None, **options: Any) -> Learned:
    original, _, rounded = network()
    asked = Distillation(epochs=1.0, **options)
    return Learned(graph or rounded, {node.name: node for node in original.nodes}, asked=asked)


OPTIONS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 2.0},
    "features": {"features": 0.5},
    "attention": {"attention": 0.5},
    "gates": {"gates": 1.0},
    "labels": {"labels": 0.001},
    "steps": {"weight_unit": "step"},
    "middle": {"inside": 0.5},
    "mixed images": {"mix": 0.5},
    "all grids": {"grids": "all"},
    "zero points": {"offset": 0.5},
    "gradient scale": {"grids": "all", "gradient_scale": True},
    "ranges": {"range_decay": 0.01},
    "affine": {"affine": 0.5},
    "ewgs": {"estimator": "ewgs"},
    "soft": {"estimator": "soft", "strength": 3.0},
    "ewgs of activations": {"activation_estimator": "ewgs"},
    "soft of activations": {"activation_estimator": "soft"},
    "unrounded": {"unrounded": 0.3},
    "widths of weights": {"weight_widths": [8, 6, 4, 3]},
    "widths of activations": {"activation_widths": [8, 6]},
    "plateau": {"weight_widths": [4], "activation_widths": [6], "plateau": 2},
    "damping": {"damping": 0.1},
    "freeze": {"freeze": 0.005},
    "kurtosis": {"kurtosis": 0.01},
    "bias correction": {"bias_correction": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_lowers_the_error_and_ends_on_the_formats(name: str) -> None:
    graph, images, rounded = network()
    after = trained(**OPTIONS[name])
    assert error(graph, after, images) < error(graph, rounded, images)
    assert not same(after, plain())
    formats = [[v.q and v.q.format for v in g.values.values()] for g in (rounded, after)]
    assert formats[0] == formats[1]
    few = images[:3]
    expected, executed = reference.run(after, few), native.prepare(after).run(few)
    for output, array in torch_executor.run(after, few).items():
        assert np.array_equal(array, expected[output])
        assert np.array_equal(executed[output], expected[output])


def test_options_say_nothing_where_they_are_not_used() -> None:
    first = Training.always | {"epochs"}
    for name in list_recipes():
        stored = load_recipe(name).model_dump(mode="json")["distill"]
        assert stored.keys() == first
    said = recipe(features=0.5, weight_widths=[8, 6]).model_dump(mode="json")
    assert said["distill"].keys() - first == {"features", "weight_widths"}
    assert Recipe.model_validate(said) == recipe(features=0.5, weight_widths=[8, 6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": 0.0}, "nothing to learn from"),
        ({"weight_widths": [4, 6]}, "weight_widths must fall"),
        ({"activation_widths": [6, 6]}, "activation_widths must fall"),
        ({"weight_widths": [9]}, "less than or equal to 8"),
        ({"mix": 0.5, "labels": 1.0}, "a mixed image has no label; leave mix or labels at 0"),
        ({"features": -1.0}, "greater than or equal to 0"),
        ({"estimator": "magic"}, "Input should be 'ste', 'ewgs' or 'soft'"),
        ({"plateau": 0}, "greater than or equal to 1"),
    ],
)
def test_an_impossible_option_is_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        recipe(**options)
    assert raised.value.error_count() == 1


def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subbyte.steps.train.SAVED_EVERY", 8)
    graph, images, _ = network()
    asked = recipe(
        weight_widths=[8, 4], narrowed=0.3, plateau=2, freeze=0.005, unrounded=0.1, damping=1.0, affine=0.2
    )
    whole = compress(graph, asked, [images])

    def stopped(stage: str, done: int) -> None:
        if stage.startswith("distill") and done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(graph, asked, [images], work=tmp_path, progress=stopped)
    told: list[int] = []
    resumed = compress(graph, asked, [images], work=tmp_path, progress=lambda stage, done: told.append(done))
    assert 16 in told
    assert same(resumed, whole)


def test_every_grid_is_learned_if_asked() -> None:
    eight = compress(network()[0], Recipe.model_validate({"name": "x"}), [network()[1]])
    assert learned(eight).parameters["grid"] == {}
    every = learned(eight, grids="all")
    made = {node.output for node in eight.nodes if eight.value(node.output).q is not None}
    before = {f"{node.name}:pre_scale" for node in eight.nodes if "pre_scale" in node.attrs}
    # an image is given, and a pooled vector that is flattened keeps its grid
    groups = set(every.group_of.values())
    assert set(every.parameters["grid"]) == groups | before
    assert set(every.group_of) == made - {eight.nodes[0].output} or set(every.group_of) == made
    assert same(every.result(), eight)


def one_layer(act: str) -> Graph:
    net = FloatNetwork((6, 6, 3))
    return net.graph(net.conv("two", net.conv("one", "image", 8, 1, act), 4))


@pytest.mark.parametrize("act", ["none", "silu"])
def test_step_sizes_of_activations_have_the_gradient_of_lsq(act: str) -> None:
    """By log s of the grid of what the first layer makes, for silu of the one in front of its table."""
    graph = one_layer(act)
    images = random_images(graph, 4)
    quantized = compress(graph, Recipe.model_validate({"name": "x"}), [images])
    asked = Distillation(epochs=1.0, grids="all")
    trainable = Learned(quantized, {node.name: node for node in graph.nodes}, asked=asked)
    node = quantized.node("one")
    with torch.no_grad():  # narrower, so that something is clipped
        trainable.parameters["grid"][node.output] -= 0.7
        if act == "silu":
            trainable.parameters["grid"]["one:pre_scale"] -= 0.7
    state = trainable.state()
    x = torch_executor.nchw(images)
    watched = Graph(quantized.input, (node.output,), quantized.values, quantized.nodes)
    codes = torch_executor.forward(watched, x, state, exact=False)[node.output]
    q = quantized.value(node.output).grid
    weight = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    ((codes - q.zero_point) * state[f"{node.output}:scale"] * weight).sum().backward()

    s = state[f"{node.output}:scale"].detach()
    image = quantized.value(node.inputs[0])
    assert image.q is not None
    x_codes = torch_executor.forward(
        Graph(quantized.input, (image.name,), quantized.values, quantized.nodes), x, state, exact=False
    )[image.name]
    unit = state[f"{image.name}:scale"] * state["one:weight_scale"]
    acc = torch.nn.functional.conv2d(x_codes - image.q.zero_point, state["one:weight"])
    real = ((acc + state["one:bias"].float().view(1, -1, 1, 1)) * unit.view(1, -1, 1, 1)).detach()

    def lsq(v: torch.Tensor, zero: int, qmax: int) -> torch.Tensor:
        """∂(s · (clamp(rne(v/s) + z) − z)) / ∂s at the real numbers v: rounding error, or the clipped end."""
        steps = v + zero
        return torch.where(
            (steps < -0.5) | (steps > qmax + 0.5), steps.clamp(0, qmax) - zero, steps.round() - steps
        )

    if act == "none":
        expected = (lsq(real / s, q.zero_point, q.qmax) * weight).sum() * s
        found = trainable.parameters["grid"][node.output].grad
        assert found is not None
        # float32 sums of 1152 terms
        assert float(found) == pytest.approx(float(expected), rel=1e-3)
        assert ((real / s + q.zero_point) > q.qmax + 0.5).any()
    else:
        s_p, z_p = state["one:pre_scale"].detach(), int(node.attrs["pre_zero"])
        steps = real / s_p
        p = (steps.round() + z_p).clamp(0, 255)
        point = ((p - z_p) * s_p).requires_grad_()
        (slope,) = torch.autograd.grad(torch.nn.functional.silu(point).sum(), point)
        behind = torch.nn.functional.silu(point.detach()) / s + q.zero_point
        slope = slope * ((behind >= 0) & (behind <= q.qmax))
        expected = (lsq(steps, z_p, 255) * slope * weight).sum() * s_p
        found = trainable.parameters["grid"]["one:pre_scale"].grad
        assert found is not None
        assert float(found) == pytest.approx(float(expected), rel=1e-3)
        assert (steps + z_p > 255.5).any()


def test_rates_of_weights_may_count_in_steps() -> None:
    """One unit of every parameter moves every weight to the next level, whatever the bits of its layer."""
    taught = learned(weight_unit="step")
    before = taught.state()
    with torch.no_grad():
        for parameter in taught.parameters["weight"].values():
            parameter += 1.0
    after = taught.state()
    widths = set()
    for name in taught.parameters["weight"]:
        weight = taught.graph.node(name).params["weight"]
        assert isinstance(weight, QTensor)
        old, new = before[f"{name}:weight"], after[f"{name}:weight"]
        grid = torch.from_numpy(np.unique(usable(weight.levels)).astype(np.float32))
        place = torch.searchsorted(grid, old)
        assert torch.equal(new, grid[(place + 1).clamp(max=len(grid) - 1)])
        widths.add(weight.bits)
    assert widths == {2, 8}


def test_latent_weights_begin_inside_what_rounds_to_their_codes() -> None:
    """In the middle: less than half a step away from their levels, the same codes; further, other ones."""
    taught = learned(weight_unit="step", inside=0.5)
    before = taught.state()
    for share, same_codes in ((0.49, True), (0.51, False)):
        with torch.no_grad():
            for parameter in taught.parameters["weight"].values():
                parameter += share
        after = taught.state()
        for name in taught.parameters["weight"]:
            weight = taught.graph.node(name).params["weight"]
            assert isinstance(weight, QTensor)
            below = before[f"{name}:weight"] < float(usable(weight.levels).max())
            moved = (after[f"{name}:weight"] != before[f"{name}:weight"])[below]
            assert not moved.any() if same_codes else moved.all()
        with torch.no_grad():
            for parameter in taught.parameters["weight"].values():
                parameter -= share


def test_the_gradient_scale_of_lsq() -> None:
    gradients = []
    for scaled in (False, True):
        trainable = learned(grids="all", gradient_scale=scaled)
        state = trainable.state()
        total = state["project:weight_scale"].sum() + state["expand:out:scale"] + state["expand:pre_scale"]
        total.backward()
        of = trainable.parameters
        group = trainable.group_of["expand:out"]
        parts = (of["scale"]["project"], of["grid"][group], of["grid"]["expand:pre_scale"])
        gradients.append([float(part.grad.abs().sum()) for part in parts if part.grad is not None])
    # project: 16 weights a channel, 2 bits up to 1; expand: 8 x 8 x 16 codes of 4 bits behind 8 bits
    factors = [1 / np.sqrt(16 * 1), 1 / np.sqrt(1024 * 15), 1 / np.sqrt(1024 * 255)]
    assert np.allclose(np.array(gradients[1]) / np.array(gradients[0]), factors, rtol=1e-5)


def test_zero_points_follow_their_parameter_and_stay_codes() -> None:
    trainable = learned(offset=0.1)
    name = trainable.offset_of["expand:out"]
    before = trainable.graph.value("expand:out").grid.zero_point
    for moved, expected in ((0.4, before), (1.6, before + 2), (100.0, 15), (-100.0, 0)):
        with torch.no_grad():
            trainable.parameters["offset"][name].fill_(moved)
        trainable.state()
        assert trainable.present.value("expand:out").grid.zero_point == expected
        assert trainable.result().value("expand:out").grid.zero_point == expected
    # relu6 begins at zero, and what no layer makes stays too
    assert "head:out" not in trainable.offset_of
    assert not any(name.startswith("mul") for name in trainable.offset_of)


def test_widths_in_between_divide_the_steps_of_the_format() -> None:
    trainable = learned()
    trainable.at(weights=4, activations=6)
    state = trainable.state()
    weight = state["project:weight"].detach()
    # 2 bits are −2 .. 1, first and last layers have 8
    assert set((weight * 4.0).unique().tolist()) <= set(range(-8, 5))
    assert len(weight.unique()) > 4
    grid = trainable.present.value("expand:out").grid
    assert grid.qmax == 60
    own = trainable.graph.value("expand:out").grid
    assert grid.zero_point == 4 * own.zero_point
    assert float(state["expand:out:scale"].detach()) == np.float32(own.scale) / 4
    x = torch_executor.nchw(network()[1][:4])
    made = torch_executor.forward(trainable.present, x, state, keep=True, exact=False)["expand:out"].detach()
    assert len(made.unique()) > 16
    assert made.max() <= 60.0
    result = trainable.result()
    rounded = result.node("project").params["weight"]
    assert isinstance(rounded, QTensor)
    assert rounded.format.bits == 2
    assert same(result, network()[2])


def test_divided_levels() -> None:
    assert divided(uniform_levels(2), 2).tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0]
    assert divided(np.array([-8, 4, 0, 2], np.int8), 2).tolist() == [-8, -4, 0, 1, 2, 3, 4]


def test_a_schedule_narrows_by_steps_and_on_plateaus() -> None:
    def widths(losses: float | None = None, **options: Any) -> list[int]:
        trainable = learned(weight_widths=[8, 4], **options)
        schedule, found = Schedule(trainable, trainable.asked), []
        for step in range(12):
            schedule.before(step, 12)
            found.append(2 + int(np.log2(trainable.rounding.finer["project"])))
            schedule.heard(torch.tensor(losses if losses is not None else 2.0**-step))
        return found

    assert widths() == [8] * 3 + [4] * 3 + [2] * 6
    assert widths(narrowed=1.0) == [8] * 6 + [4] * 6
    # a loss that falls for ever never waits; one that stays is first seen in step 0
    assert widths(narrowed=1.0, plateau=2) == [8] * 6 + [4] * 6
    assert widths(1.0, narrowed=1.0, plateau=2) == [8] * 3 + [4] * 3 + [2] * 6


def test_an_affine_stage_leaves_weights_alone() -> None:
    trainable = learned(affine=0.5)
    schedule = Schedule(trainable, trainable.asked)
    moving = []
    for step in range(4):
        schedule.before(step, 4)
        moving.append(all(w.requires_grad for w in trainable.parameters["weight"].values()))
    assert moving == [True, True, False, False]
    assert all(s.requires_grad for s in trainable.parameters["scale"].values())


def test_noise_leaves_its_share_of_weights_unrounded_in_training_only() -> None:
    rounding = Rounding(Distillation(epochs=1.0, unrounded=0.25))
    steps = torch.empty(100, 100).uniform_(-2.4, 1.4, generator=torch.Generator().manual_seed(0))
    values = rounding("a", steps, uniform_levels(2), torch.Generator().manual_seed(1))
    free = values != values.round()
    # four standard deviations of 10,000 draws; those beyond the levels are at the ends either way
    assert abs(float(free.float().mean()) - 0.25 * 3.0 / 3.8) < 4 * 0.5 / 100
    assert torch.equal(values[free], steps[free])
    quiet = rounding("a", steps, uniform_levels(2))
    assert torch.equal(quiet, quiet.round())


def test_oscillations_are_counted_and_frozen_as_in_the_paper() -> None:
    threshold, layers = 0.02, {"a": torch.zeros(200)}
    rounding = Rounding(Distillation(epochs=1.0, freeze=threshold))
    rounding.watch(layers)
    generator = torch.Generator().manual_seed(0)
    code = mean = previous = None
    way, rate, frozen = torch.zeros(200), torch.zeros(200), torch.zeros(200, dtype=torch.bool)
    for step in range(1, 40):
        rounding.step = step
        # half of the weights move often, the others seldom
        moving = torch.rand(200, generator=generator) < torch.linspace(0.0, 0.6, 200)
        drawn = torch.randint(-2, 2, (200,), generator=generator).float()
        steps = drawn if previous is None else torch.where(moving, drawn, previous)
        previous = steps
        values = rounding("a", steps, uniform_levels(2), generator)
        # the dense formulas
        now = steps if code is None else torch.where(frozen, code, steps)
        assert torch.equal(values, now)
        if code is None or mean is None:
            code, mean = now, now
            continue
        change = torch.sign(now - code)
        rate = rate * (1 - MOMENTUM) + MOMENTUM * (change * way < 0)
        mean = (1 - MOMENTUM) * mean + MOMENTUM * now
        way = torch.where(change != 0, change, way)
        newly = ~frozen & (rate > threshold)
        code = torch.where(newly, mean.round().clamp(-2, 1), now)
        frozen = frozen | newly
    assert torch.equal(rounding.buffers["frozen"]["a"], frozen)
    assert 20 < int(frozen.sum()) < 180


def test_damping_and_kurtosis() -> None:
    uniform = torch.linspace(-1.0, 1.0, 10_001, dtype=torch.float64)
    assert float(kurtosis(uniform)) == pytest.approx(1.8, rel=1e-3)
    rounding = Rounding(Distillation(epochs=1.0, damping=2.0, kurtosis=3.0))
    steps = torch.tensor([-3.0, -1.3, 0.2, 0.6]).requires_grad_()
    rounding("a", steps, uniform_levels(2))
    distance = (0.0 + 0.3**2 + 0.2**2 + 0.4**2) / 4
    bent = 3.0 * (float(kurtosis(steps.detach().double())) - 1.8) ** 2
    total = rounding.penalty(0.5)  # half way up the cosine
    assert isinstance(total, torch.Tensor)
    assert float(total.detach()) == pytest.approx(2.0 * 0.5 * distance + bent, rel=1e-5)
    assert rounding.penalty(1.0) == 0.0

"""Balanced streams: which there are, that the network stays what it is, and what they are good for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.errors import GraphError, InputError
from subbyte.execute import reference
from subbyte.execute.native import Session
from subbyte.ir import Graph, is_weighted, verify
from subbyte.quant import QParams, QTensor, qparams_from_range
from subbyte.quantize.balance import (
    LEAST_SHARE,
    Kinds,
    Stream,
    balance,
    chosen_streams,
    factors,
    fitting_gates,
    streams,
    with_factors,
)
from subbyte.quantize.channels import BINS, Channels, channel_statistics
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe
from subbyte.steps.context import Context
from tests.unit.artifact.compare import same_param
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def unbalanced(seed: int = 0) -> Graph:
    """A stream of linear layers, a gate, a pool, a grouped reader; channels of very different ranges."""
    net = FloatNetwork((8, 8, 3), seed)
    x = net.conv("stem", net.conv("first", "image", 12, 3, "silu"), 8)
    y = net.conv("expand", x, 16, 1, "silu")
    gate = net.conv("excite", net.conv("squeeze", net.pool(y), 4, 1, "silu"), 16, 1, "sigmoid")
    y = net.same("mul", y, gate)
    x = net.same("add", net.conv("project", y, 8, residual=x), net.conv("other", x, 8, 3, groups=4))
    vector = net.flatten(net.pool(x))
    graph = net.graph(net.linear("classifier", vector, 10))
    wild = {"stem": 8, "project": 8, "other": 8, "expand": 16}
    nodes = []
    for node in graph.nodes:
        if node.name in wild:
            spread = np.exp2(np.linspace(-3, 3, wild[node.name])).astype(np.float32)
            weight, bias = (np.asarray(node.params[role]) for role in ("weight", "bias"))
            node = node.with_(params={"weight": weight * spread[:, None, None, None], "bias": bias * spread})
        nodes.append(node)
    return verify(replace(graph, nodes=tuple(nodes)))


def names(graph: Graph) -> list[tuple[set[str], set[str]]]:
    return [({*stream.makers}, {*stream.readers}) for stream in streams(graph)]


def test_streams_of_a_residual_network() -> None:
    residual, gated = {"stem", "project", "other"}, {"mul6"}
    assert names(unbalanced()) == [(residual, {"expand", "other", "classifier"}), (gated, {"project"})]
    assert [s.makers for s in chosen_streams(unbalanced(), "gates")] == [("mul6",)]
    assert [{*s.makers} for s in chosen_streams(unbalanced(), "linear")] == [residual]
    assert chosen_streams(unbalanced(), "all") == streams(unbalanced())
    assert chosen_streams(unbalanced(), "none") == []


def test_what_an_activation_makes_or_a_residual_joins_with_it_stays() -> None:
    assert names(efficientnet_like()) == [({"mul6"}, {"project"})]  # the residual is what SiLU made


def closed(name: str) -> Graph:
    net = FloatNetwork((6, 6, 4))
    x = net.conv("a", "image", 4)
    match name:
        case "output":
            return net.graph(net.conv("b", x, 4, act="silu"), x)
        case "act":
            return net.graph(net.conv("b", net.same("activation", x, act="silu"), 4))
        case "gated":
            return net.graph(net.conv("b", net.same("mul", x, net.pool(net.conv("g", "image", 4))), 4), x)
        case "gate":
            y = net.conv("g", "image", 4, act="silu")
            return net.graph(net.same("mul", y, net.pool(x)), net.conv("b", x, 4))
        case "curved residual":
            return net.graph(net.conv("c", net.conv("b", "image", 4, act="silu", residual=x), 4))
        case "image residual":
            return net.graph(
                net.conv("c", net.conv("b", x, 4, act="relu"), 4, residual=net.same("add", x, "image"))
            )
        case "concat":
            return net.graph(net.conv("b", net.emit("concat", (x, x), (6, 6, 8)), 4))
        case "positions":
            return net.graph(net.linear("b", net.flatten(x), 4))
        case _:
            return net.graph(x)  # nobody reads it


@pytest.mark.parametrize(
    "name", ["output", "act", "gate", "curved residual", "image residual", "concat", "positions", "unread"]
)
def test_closed_streams_stay_untouched(name: str) -> None:
    graph = closed(name)
    assert streams(graph) == []
    images = random_images(graph, 2)
    for kinds in ("gates", "linear", "all"):
        made = balance(graph, kinds, [images], lambda stage, done: None)
        for before, after in zip(graph.nodes, made.nodes, strict=True):
            assert before is after


def test_a_product_of_an_open_value_is_open_and_the_value_is_not() -> None:
    assert names(closed("gated")) == [({"mul3"}, {"b"})]


def powers(graph: Graph, seed: int) -> dict[Stream, np.ndarray]:
    rng = np.random.default_rng(seed)
    width = {stream: graph.value(stream.values[0]).shape[-1] for stream in streams(graph)}
    return {stream: np.exp2(rng.integers(-4, 5, count)) for stream, count in width.items()}


@pytest.mark.parametrize("make", [unbalanced, efficientnet_like])
def test_powers_of_two_change_nothing_but_the_streams_and_these_exactly(make) -> None:  # type: ignore[no-untyped-def]
    """They are exact in floating point, in any order of summation, so that nothing has to be tolerated."""
    graph = make()
    chosen, x = powers(graph, 3), random_images(graph, 3)
    made = with_factors(graph, chosen)
    before, after = reference.run(graph, x, keep=True), reference.run(made, x, keep=True)
    factor = {name: r for stream, r in chosen.items() for name in stream.values}
    assert len(factor) > 0
    for name, value in before.items():
        assert np.array_equal(after[name], value * np.float32(factor.get(name, 1.0))), name
    run, run_made = Session(graph).run(x), Session(made).run(x)
    assert np.array_equal(run, run_made)


def test_other_factors_round_each_parameter_once() -> None:
    graph = unbalanced()
    rng = np.random.default_rng(5)
    chosen = {s: rng.uniform(0.1, 9.0, len(r)) for s, r in powers(graph, 1).items()}
    made = with_factors(graph, chosen)
    (stream, r), (gated, q) = chosen.items()
    project = np.asarray(graph.node("project").params["weight"], np.float64)[:, 0, 0]
    assert_rounded(made.node("project").params["weight"][:, 0, 0], project * r[:, None] / q)  # type: ignore[index]
    assert_rounded(
        made.node("project").params["bias"], np.asarray(graph.node("project").params["bias"], np.float64) * r
    )
    grouped = np.asarray(
        graph.node("other").params["weight"], np.float64
    )  # [8, 3, 3, 2], two outputs a group
    columns = np.repeat(r.reshape(4, 2), 2, axis=0)[:, None, None]
    assert_rounded(made.node("other").params["weight"], grouped * r[:, None, None, None] / columns)
    assert_rounded(made.node(gated.makers[0]).params["channel_scale"], q)
    assert "other" in stream.readers


def assert_rounded(actual: object, exact: np.ndarray) -> None:
    """float32, and half an ulp from what is exact at most."""
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == np.float32
    assert (np.abs(actual - exact) <= 2.0**-24 * np.abs(exact)).all()


def test_factors_beyond_the_format_are_refused() -> None:
    graph = unbalanced()
    with pytest.raises(GraphError, match=r"channel_scale must be within"):
        with_factors(graph, {streams(graph)[1]: np.geomspace(1.0, 2.0**17, 16)})


def rounding_noise(graph: Graph, value: str, reader: str, bits: int) -> float:
    """Of a grid over the whole range of a value, in the sums of a pointwise layer that reads it."""
    y = reference.run(graph, random_images(graph, 64), keep=True)[value]
    q = qparams_from_range(float(y.min()), float(y.max()), bits)
    weight = np.asarray(graph.node(reader).params["weight"], np.float64)[:, 0, 0]
    noise = (q.dequantize(q.quantize(y)) - y).reshape(-1, y.shape[-1]) @ weight.T
    return float(np.square(noise).mean())


@pytest.mark.parametrize("bits", [8, 4])
def test_channels_of_different_ranges_are_rounded_better(bits: int) -> None:
    """Each kind alone, so that the reader's rows, and with them the unit of its sums, stay."""
    graph, images = unbalanced(), random_images(unbalanced(), 64)
    product = next(node.output for node in graph.nodes if node.op == "mul")
    cases: list[tuple[Kinds, str, str]] = [("gates", product, "project"), ("linear", "stem:out", "expand")]
    for kinds, value, reader in cases:
        made = balance(graph, kinds, [images], lambda stage, done: None)
        before, after = (rounding_noise(g, value, reader, bits) for g in (graph, made))
        assert after < 0.9 * before


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_every_factor_is_positive_and_bounded(scale: float) -> None:
    """Of dead channels too, and where nothing was seen but zeros."""
    graph, images = unbalanced(), scale * random_images(unbalanced(), 4)
    nodes = [
        node.with_(params={role: 0 * np.asarray(param) for role, param in node.params.items()})
        if node.name in ("stem", "project", "other")
        else node
        for node in graph.nodes
    ]
    for made in (graph, verify(replace(graph, nodes=tuple(nodes)))):
        values = [name for stream in streams(made) for name in stream.values]
        seen = channel_statistics(made, values, [images], lambda stage, done: None)
        for stream in streams(made):
            r = factors(made, stream, seen)
            assert (r >= 1.0).all()
            assert (r <= 1.0 / LEAST_SHARE).all()


def test_a_gate_is_no_finer_than_its_factors_allow() -> None:
    graph = with_factors(unbalanced(), {streams(unbalanced())[1]: np.geomspace(1.0, 60.0, 16)})
    mul = next(node for node in graph.nodes if node.op == "mul")
    x, gate = QParams(1.0, 0, 4), QParams(1 / 256, 0, 8)
    grids = dict.fromkeys(graph.values, x) | {mul.inputs[1]: gate}
    fitting = fitting_gates(graph, {**grids, mul.output: QParams(0.25, 3, 8)})[mul.output]
    assert fitting.zero_point == 3
    assert 60 * 256 * 255 / 256 / fitting.scale < 32767
    wide = QParams(1.0, 3, 8)
    assert fitting_gates(graph, {**grids, mul.output: wide})[mul.output] == wide


def test_histograms_of_channels() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(
        (rng.normal(size=(64, 5, 6, 6)) * np.array([0, 1e-3, 1, 7, 300])[:, None, None]).astype(np.float32)
    )
    x[:, 2] = x[:, 2].abs()
    forward, backward = Channels(5), Channels(5)
    for part in x.split(16):
        forward.add(part)
    for part in reversed(x.split(16)):
        backward.add(part)
    assert torch.equal(forward.counts, backward.counts)
    rows = x.transpose(0, 1).reshape(5, -1).double().numpy()
    assert np.allclose(forward.power, np.square(rows).mean(1), rtol=1e-12)
    for tail in (0.0, 0.01):
        low, high = forward.ends(tail)
        width = forward.limit.numpy() * 2 / BINS
        wanted = np.quantile(rows, [tail, 1 - tail], axis=1, method="inverted_cdf")
        assert (np.abs(low - np.maximum(-wanted[0], 0)) <= width).all()
        assert (np.abs(high - np.maximum(wanted[1], 0)) <= width).all()


def test_a_network_that_makes_nan_is_refused() -> None:
    graph = unbalanced()
    huge = np.full((1, 8, 8, 3), 3e38, np.float32)
    with pytest.raises(InputError, match="NaN or infinity"):
        balance(graph, "all", [huge], lambda stage, done: None)


@pytest.mark.parametrize("kinds", ["gates", "linear", "all"])
def test_steps_see_the_float_network_that_was_rounded(kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, factors, and weights to half a step, which rounding to nearest keeps where scales cover them."""
    seen: list[Context] = []

    def step(context: Context) -> Graph:
        seen.append(context)
        return context.graph

    monkeypatch.setattr("subbyte.compress.graph.function_of", lambda row: step)
    options = {
        "weights": {"range": "minmax"},
        "activations": {"balance": kinds},
        "steps": ["bias_correction"],
    }
    recipe = Recipe.model_validate({"name": "test", **options})
    images = random_images(unbalanced(), 20)
    compress(unbalanced(), recipe, [images])
    (context,) = seen
    assert np.array_equal(context.images, images)
    changed = 0
    for node in unbalanced().nodes:
        rounded, exact = context.graph.node(node.name).params, context.original.node(node.name).params
        if is_weighted(node):
            weight, wanted = rounded["weight"], np.asarray(exact["weight"], np.float64)
            assert isinstance(weight, QTensor)
            half = weight.scale.astype(np.float64).reshape(-1, *[1] * (wanted.ndim - 1)) / 2
            assert (np.abs(weight.dequantize() - wanted) <= half * (1 + 2.0**-20)).all(), node.name
            changed += not np.array_equal(wanted, np.asarray(node.params["weight"]))
        elif node.op == "mul":
            assert rounded.keys() == exact.keys()
            assert all(same_param(rounded[role], exact[role]) for role in rounded)
            changed += len(rounded)
    assert changed == {"gates": 2, "linear": 5, "all": 6}[kinds]


def test_variants_are_balanced_as_compress_does() -> None:
    graph, images = unbalanced(), random_images(unbalanced(), 40)
    for kinds in ("none", "gates", "all"):
        dumped = load_recipe("w8a8").model_dump()
        dumped["activations"]["balance"] = kinds
        recipe = Recipe.model_validate({**dumped, "steps": ()})
        variants = Variants(graph, recipe)
        variants.calibrate([images], lambda stage, done: None)
        made, wanted = variants.quantized(), compress(graph, recipe, [images])
        x = random_images(graph, 4, seed=3)
        assert np.array_equal(Session(made).run(x), Session(wanted).run(x))
        gated = [node for node in made.nodes if "channel_scale" in node.params]
        assert len(gated) == (kinds != "none")


def test_the_option_is_not_in_recipes_without_it() -> None:
    assert "balance" not in load_recipe("w8a8").model_dump(mode="json")["activations"]
    recipe = Recipe.model_validate({"name": "x", "activations": {"balance": "gates"}})
    dumped = recipe.model_dump(mode="json")
    assert dumped["activations"]["balance"] == "gates"
    assert Recipe.model_validate(dumped) == recipe
    assert all(
        is_weighted(n) or n.op == "mul"
        for s in streams(unbalanced())
        for n in map(unbalanced().node, s.makers)
    )

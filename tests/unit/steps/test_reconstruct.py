"""Options of reconstruction: unrounded activations, images held back, grids, files, interruptions, memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.artifact.compact import coded_bits
from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.execute.reference import activation_function
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, Node, verify
from subbyte.ir.graph import pre_activation
from subbyte.quant import QTensor, activation_table
from subbyte.recipes import Recipe, Reconstruction
from subbyte.steps.blocks import blocks
from subbyte.steps.context import Context
from subbyte.steps.held_back import split
from subbyte.steps.learned import Learned
from subbyte.steps.parts import part_of
from subbyte.steps.reconstruct import _Data, _Loss, run
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images
from tests.unit.steps.test_training import error, recipe, same

WITH_TABLES = ("expand", "depthwise", "squeeze", "excite")
BRIEF = {"epochs": 2, "batch": 8, "weight": 0.05}


# --------------------------------------------------------------------------- unrounded activations


def two_layers(act: str) -> tuple[Graph, Graph]:
    """A float network of one block, and its second half alone, whose first value has a grid: quantized."""
    net = FloatNetwork((6, 6, 3))
    x = net.conv("first", "image", 6, 3, "relu")
    x = net.conv("second", net.conv("expand", x, 12, 1, act), 5, 1)
    graph = net.graph(net.conv("third", x, 4))
    quantized = compress(graph, recipe(weights=4, activations=4), [random_images(graph, 32)])
    nodes = {node.name for node in quantized.nodes if node.name in ("expand", "second")}
    (block,) = (b for b in blocks(quantized) if set(b.nodes) == nodes)
    return graph, part_of(quantized, block)


def loss_of(graph: Graph, part: Graph, drop: float) -> tuple[_Loss, Tensor]:
    """The loss of the block on 16 images, and what the float network has at its input."""
    images = random_images(graph, 16)
    values = torch_executor.forward(graph, torch_executor.nchw(images), keep=True)
    real, wanted = values[part.input], values[part.outputs[0]]
    q = part.value(part.input).grid
    codes = torch.from_numpy(q.quantize(real.numpy()))
    learned = Learned(part, {node.name: node for node in graph.nodes})
    asked = Reconstruction(drop=drop)
    return _Loss(learned, _Data(codes, real, wanted, *split(16, asked)), asked), real


def test_without_drop_everything_is_rounded_and_nothing_is_drawn() -> None:
    graph, part = two_layers("relu")
    loss, _ = loss_of(graph, part, 0.0)
    generator = torch.Generator().manual_seed(0)
    state, chosen = generator.get_state(), torch.arange(16)
    made = loss(chosen, generator)
    assert torch.equal(generator.get_state(), state)
    output = torch_executor.forward(part, loss.data.codes.float(), exact=False)[part.outputs[0]]
    q = part.value(part.outputs[0]).grid
    wanted = loss.data.wanted
    expected = ((output - q.zero_point) * q.scale - wanted).square().mean() / wanted.var()
    assert abs(float(made.detach()) - float(expected)) <= float(expected) * 1e-5  # float32, in another order
    assert torch.equal(output, output.round())


def test_with_drop_of_one_only_weights_are_rounded() -> None:
    """Then the block is a float one with rounded weights, whose activations are cut at the ends of grids."""
    graph, part = two_layers("relu")
    loss, real = loss_of(graph, part, 1.0)
    generator, chosen = torch.Generator().manual_seed(0), torch.arange(16)
    x = loss._mixed(loss.data.codes.float(), chosen, generator)
    state = {**loss.learned.state(), **loss._unrounded(16, generator)}
    made = torch_executor.forward(part, x, state, exact=False)[part.outputs[0]]
    expected = real.double()
    magnitude = expected.abs()
    for node in part.nodes:
        weight, bias, y = node.params["weight"], node.params["bias"], part.value(node.output).grid
        assert isinstance(weight, QTensor)
        unit = np.float64(part.value(node.inputs[0]).grid.scale) * weight.scale.astype(np.float64)
        w = torch_executor.weight_tensor(weight.dequantize()).double()
        b = torch.from_numpy(np.asarray(bias) * unit)
        sums = torch.nn.functional.conv2d(expected, w, b)
        magnitude = torch.nn.functional.conv2d(magnitude, w.abs(), b.abs())
        low = max(y.low, 0.0) if node.attrs["act"] == "relu" else y.low
        expected = sums.clamp(low, y.high)
    # float32: at most 12 products and some 20 roundings (scales, multipliers, codes) in each of two layers,
    # and codes up to 15 from the zero point; magnitudes grow through the layers as their sums of |x·w| do
    bound = 80 * 2.0**-24 * (magnitude / y.scale + 16)
    assert ((made.double() - (expected / y.scale + y.zero_point)).abs() <= bound).all()
    assert (made != made.round()).float().mean() > 0.5


@pytest.mark.parametrize("act", ["relu", "silu"])
def test_half_of_the_activations_stay_unrounded(act: str) -> None:
    graph, part = two_layers(act)
    loss, real = loss_of(graph, part, 0.5)
    generator, chosen = torch.Generator().manual_seed(0), torch.arange(16)
    codes = loss.data.codes.float()
    x = loss._mixed(codes, chosen, generator)
    q = part.value(part.input).grid
    mixed = x != codes
    assert torch.equal(x[mixed], (real / q.scale + q.zero_point)[mixed])
    masks = loss._unrounded(16, generator)
    expand = part.nodes[0]
    mask = masks[f"{expand.output}:unrounded"]
    with torch.no_grad():
        hard, some = (
            torch_executor.forward(part, codes, {**loss.learned.state(), **m}, keep=True, exact=False)[
                expand.output
            ]
            for m in ({}, masks)
        )
    assert torch.equal(some[~mask], hard[~mask])
    # half a step, and the float32 rounding of a code below 16
    assert ((some - hard)[mask].abs() <= 0.5 + 2.0**-18).all()
    assert (some != some.round()).any()
    # a share of n draws: half, to within five standard errors
    for drawn in (mask, *masks.values()):
        assert abs(float(drawn.float().mean()) - 0.5) < 5 * 0.5 / drawn.numel() ** 0.5


@pytest.mark.parametrize(("rounding", "rate"), [("latent", 0.05), ("adaround", 0.2)])
def test_a_network_with_every_op_is_trained_with_drop(rounding: str, rate: float) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 64)
    options = {"rounding": rounding, "drop": 0.5, "steps": 100, "batch": 16, "weight": rate}
    before = compress(graph, recipe(weights=3, activations=4), [images])
    after = compress(graph, recipe("reconstruct", weights=3, activations=4, reconstruct=options), [images])
    others = random_images(graph, 64, seed=2)
    assert error(graph, after, others) < 0.9 * error(graph, before, others)


# --------------------------------------------------------------------------- held-back images


def test_images_held_back_and_their_mirror_images_are_not_trained_on() -> None:
    asked = Reconstruction(held_back=0.25)
    used, held = split(8, asked, 2)
    assert held.tolist() == [3, 7]
    assert used.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]
    with pytest.raises(InputError, match=r"0\.25 of 3 images cannot be held back; give more images"):
        split(3, asked, 2)


@pytest.mark.parametrize("rounding", ["latent", "adaround"])
def test_training_that_harms_leaves_a_block_as_it_was(rounding: str) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 40)
    wild = {"rounding": rounding, "epochs": 4, "batch": 8, "bias": 1.0, "scale": 0.05, "weight": 1.0}
    before = compress(graph, recipe(weights=4), [images])
    harmed = recipe("reconstruct", weights=4, reconstruct=wild)
    held = recipe("reconstruct", weights=4, reconstruct={**wild, "held_back": 0.25, "check": 8})
    assert error(graph, compress(graph, harmed, [images]), images) > error(graph, before, images)
    assert same(compress(graph, held, [images]), before)


def test_a_block_that_no_longer_improves_ends_early() -> None:
    graph = efficientnet_like()

    def steps(patience: int) -> int:
        told: list[int] = []
        options = {"steps": 200, "batch": 8, "weight": 0.05, "held_back": 0.25, "check": 5}
        compress(
            graph,
            recipe("reconstruct", reconstruct={**options, "patience": patience}),
            [random_images(graph, 40)],
            progress=lambda stage, done: told.append(done) if stage.startswith("reconstruct") else None,
        )
        return len(told)

    assert steps(3) < steps(0)


# --------------------------------------------------------------------------- grids, blocks at 8 bits


def with_pre_scales(graph: Graph, factor: float) -> Graph:
    """The graph with scales in front of tables times a power of two."""

    def changed(node: Node) -> Node:
        if "pre_scale" not in node.attrs:
            return node
        node = node.with_(attrs={**node.attrs, "pre_scale": node.attrs["pre_scale"] * factor})
        y = graph.value(node.output)
        source = pre_activation(node, y)
        assert source is not None
        table = activation_table(activation_function(node.attrs["act"]), source, y.grid)
        return node.with_(params={**node.params, "table": table})

    return verify(replace(graph, nodes=tuple(changed(node) for node in graph.nodes)))


def test_blocks_at_8_bits_are_trained_only_if_asked_to_and_so_are_their_grids() -> None:
    graph = efficientnet_like()
    images, others = random_images(graph, 64), random_images(graph, 64, seed=2)
    before = with_pre_scales(compress(graph, recipe(weights=8), [images]), 8.0)
    errors = {}
    for grids, narrow_only in (("all", True), ("narrow", False), ("all", False)):
        options = {"steps": 100, "batch": 16, "held_back": 0.125, "grids": grids, "narrow_only": narrow_only}
        rates = {"weight": 0.001, "scale": 0.001, "bias": 0.001, "grid": 0.06}
        asked = Reconstruction.model_validate({**options, **rates})
        context = Context(before, graph, images, None, asked, 0, lambda stage, done: None)
        after = verify(run(context))
        errors[grids, narrow_only] = error(graph, after, others)
        assert same(after, before) == narrow_only
        moved = {n.name for n in before.nodes if n.attrs != after.node(n.name).attrs}
        assert moved == (set() if narrow_only or grids == "narrow" else {"stem", *WITH_TABLES})
        for name, array in torch_executor.run(after, others[:4]).items():
            assert np.array_equal(array, reference.run(after, others[:4])[name])
    # steps in front of tables are eight times too coarse, which nothing else can repair
    assert errors["all", False] < 0.5 * errors["narrow", False]


def test_bits_that_count_are_not_spent() -> None:
    """Coarse 8-bit weights, trained: with `coded` they take fewer bits than without."""
    graph = efficientnet_like()
    images = random_images(graph, 64)
    rated = Recipe.model_validate(
        {"name": "r", "weights": {"range": "rate", "rate": 3.5, "coding": "entropy"}}
    )
    before, bits = compress(graph, rated, [images]), {}
    for coded in (0.0, 1.0, 10.0):
        rates = {"weight": 0.05, "weight_unit": "step", "narrow_only": False, "coded": coded}
        asked = Reconstruction.model_validate({"steps": 60, "batch": 16, **rates})
        context = Context(before, graph, images, None, asked, 0, lambda stage, done: None)
        found = coded_bits(verify(run(context)))
        assert found is not None
        bits[coded] = found
    assert bits[10.0] < bits[1.0] < bits[0.0]


def test_the_gradient_of_a_grid_in_front_of_a_table_widens_it_where_codes_are_cut() -> None:
    graph = efficientnet_like()
    images = random_images(graph, 16)
    quantized = compress(graph, recipe(weights=8), [images])
    node = quantized.node("expand")
    small = with_pre_scales(quantized, 0.25)
    learned = Learned(small, {n.name: n for n in graph.nodes}, grids="all")
    x = torch_executor.nchw(images)
    made = torch_executor.forward(small, x, learned.state(), keep=True, exact=False)[node.output]
    made.sum().backward()
    gradient = learned.parameters["grid"]["expand:pre_scale"].grad
    assert gradient is not None
    assert float(gradient) > 0.0  # silu(s·(255 − z)) grows with s


# --------------------------------------------------------------------------- files, interruptions


@pytest.mark.parametrize(
    "options",
    [{}, {"mirror": True, "drop": 0.5, "held_back": 0.2, "check": 4, "rounding": "adaround"}],
)
def test_files_and_memory_give_equal_networks_and_no_file_stays(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 37)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    in_memory, on_disk = (
        recipe("bias_correction", "reconstruct", activations=4, reconstruct={**BRIEF, **options, **kept})
        for kept in ({}, {"storage": "disk"})
    )
    expected = compress(graph, in_memory, [images])
    assert same(compress(graph, on_disk, [images]), expected)
    assert same(compress(graph, on_disk, [images], work=tmp_path / "work"), expected)
    assert [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")] == []
    assert {path.suffix for path in (tmp_path / "work").rglob("*") if path.is_file()} == {".pt"}


def test_all_images_are_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = efficientnet_like()
    monkeypatch.setattr("subbyte.compress.graph.IMAGE_BYTES", 10 * 8 * 8 * 3 * 4)
    images, seen = random_images(graph, 40), []

    def loss(self: _Loss, learned: Learned, data: _Data, *rest: object) -> None:
        seen.append(len(data.codes))
        raise KeyboardInterrupt

    monkeypatch.setattr(_Loss, "__init__", loss)
    for storage in ("memory", "disk"):
        with pytest.raises(KeyboardInterrupt):
            compress(graph, recipe("reconstruct", reconstruct={**BRIEF, "storage": storage}), [images])
    assert seen == [10, 40]


def test_some_of_the_images_are_trained_on() -> None:
    graph = efficientnet_like()
    images = random_images(graph, 40)
    few, third = (
        recipe("reconstruct", activations=4, reconstruct={**BRIEF, "steps": 3, "images": n}) for n in (15, 14)
    )
    one, other = (compress(graph, asked, [images], work=None) for asked in (few, third))
    assert same(one, other)  # every third one: 14 images, of at most 15 and of at most 14
    every = compress(graph, recipe("reconstruct", activations=4, reconstruct={**BRIEF, "steps": 3}), [images])
    assert not same(one, every)


def stop_at(count: int) -> Callable[[str, int], None]:
    """Interrupts reconstruction at its `count`-th message."""
    told = iter(range(1, count + 1))

    def progress(stage: str, done: int) -> None:
        if stage.startswith("reconstruct") and next(told) == count:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    "options",
    [
        {"rounding": "adaround", "drop": 0.5, "held_back": 0.2, "check": 3},
        {"drop": 0.25, "pull": 0.5, "held_back": 0.2, "check": 3, "patience": 2, "storage": "disk"},
    ],
)
def test_a_block_that_was_interrupted_goes_on_to_the_same_result(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subbyte.steps.train.SAVED_EVERY", 4)
    monkeypatch.setattr("subbyte.steps.train.SAVED_COST", 0)
    graph = efficientnet_like()
    images = random_images(graph, 40)
    asked = recipe(
        "reconstruct", activations=4, reconstruct={**BRIEF, "steps": 40, "weight": 0.05, **options}
    )
    whole = compress(graph, asked, [images])
    for count in (5, 4):  # messages, one a step: in the first block, and wherever that leads
        with pytest.raises(KeyboardInterrupt):
            compress(graph, asked, [images], work=tmp_path, progress=stop_at(count))
        assert count == 4 or [path.name for path in tmp_path.rglob("*.part.pt")] == ["block-000.part.pt"]
    assert same(compress(graph, asked, [images], work=tmp_path), whole)
    assert not list(tmp_path.rglob("*.part.pt"))


MEMORY = """
import resource, sys
import numpy as np
from subbyte.compress import compress
from tests.unit.compress.networks import FloatNetwork
from tests.unit.steps.test_training import recipe

net = FloatNetwork((32, 32, 3))
x = net.conv("one", "image", 8, act="relu")
x = net.conv("two", x, 8, act="relu")
graph = net.graph(net.linear("last", net.flatten(net.pool(x)), 4))
options = {"steps": 3, "batch": 8, "storage": sys.argv[1]}
rng = np.random.default_rng(0)
batches = lambda count: (rng.standard_normal((16, 32, 32, 3), np.float32) for _ in range(count))
asked = recipe("reconstruct", weights=4, reconstruct=options)
compress(graph, asked, batches(2))  # what torch and the network take
text = open("/proc/self/status").read()
used = int(text.split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + (16 << 20), -1))
try:
    compress(graph, asked, batches(64))
    print("enough")
except (MemoryError, RuntimeError) as error:
    print("too little:", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of private memory are Linux's")
def test_files_bound_the_memory() -> None:
    """1024 images take 12 MiB, and 32 each what two layers make in float32; allowed are 16 in all."""
    said = {}
    for storage in ("memory", "disk"):
        command = [sys.executable, "-c", MEMORY, storage]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said[storage] = done.stdout.splitlines()[-1].partition(":")[0]
    assert said == {"memory": "too little", "disk": "enough"}

"""Reconstruction and distillation: they start where rounding ended, improve on it, and can be interrupted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quant import QTensor, uniform_levels, weight_format
from subbyte.quantize.weights import code_book, codes_of, lloyd_levels
from subbyte.recipes import Recipe
from subbyte.steps.augment import augmented
from subbyte.steps.blocks import blocks
from subbyte.steps.learned import Learned
from subbyte.steps.rounding import nearest
from subbyte.steps.status import Status
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def recipe(
    *steps: str,
    weights: int = 2,
    activations: int = 8,
    levels: str = "uniform",
    book: str = "uniform",
    reconstruct: Mapping[str, object] | None = None,
) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "weights": {"bits": weights, "levels": levels},
            "activations": {"bits": activations, "levels": book},
            "steps": steps,
            "reconstruct": reconstruct or {"epochs": 8, "batch": 8, "weight": 0.05},
            "distill": {"epochs": 8, "batch": 8, "weight": 0.02},
        }
    )


def error(graph: Graph, quantized: Graph, images: np.ndarray) -> float:
    """Mean square error of the output over its variance."""
    exact = torch_executor.run(graph, images)[graph.outputs[0]]
    return float(
        ((torch_executor.run(quantized, images)[quantized.outputs[0]] - exact) ** 2).mean() / exact.var()
    )


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs hold equal numbers."""
    pairs = zip(a.nodes, b.nodes, strict=True)
    return a.values == b.values and all(
        np.array_equal(_numbers(x.params[k]), _numbers(y.params[k])) for x, y in pairs for k in x.params
    )


def _numbers(param: np.ndarray | QTensor) -> np.ndarray:
    return param.dequantize() if isinstance(param, QTensor) else param


@pytest.mark.parametrize("levels", ["uniform", "symmetric", "learned"])
@pytest.mark.parametrize(("activations", "book"), [(8, "uniform"), (4, "uniform"), (3, "learned")])
def test_training_starts_where_the_steps_before_ended(levels: str, activations: int, book: str) -> None:
    graph = efficientnet_like()
    asked = recipe(activations=activations, levels=levels, book=book)
    rounded = compress(graph, asked, [random_images(graph, 16)])
    original = {node.name: node for node in graph.nodes}
    assert same(Learned(rounded, original).result(), rounded)
    trained = recipe("reconstruct", activations=activations, levels=levels, book=book)
    other = compress(graph, trained, [random_images(graph, 16)])
    assert not same(other, rounded)
    assert same(Learned(other, original).result(), other)


@pytest.mark.parametrize("step", ["reconstruct", "distill"])
@pytest.mark.parametrize(
    ("weights", "activations", "book"), [(2, 8, "uniform"), (2, 4, "uniform"), (2, 3, "learned")]
)
def test_a_step_improves_on_rounding_on_other_images(
    step: str, weights: int, activations: int, book: str
) -> None:
    graph = efficientnet_like()
    seen, others = random_images(graph, 64), random_images(graph, 64, seed=2)
    before = compress(graph, recipe(weights=weights, activations=activations, book=book), [seen])
    after = compress(graph, recipe(step, weights=weights, activations=activations, book=book), [seen])
    assert error(graph, after, others) < 0.8 * error(graph, before, others)
    expected = reference.run(after, others[:4])
    for name, array in torch_executor.run(after, others[:4]).items():
        assert np.array_equal(array, expected[name])


def test_a_step_moves_grids_of_narrow_activations_only() -> None:
    graph = efficientnet_like()
    for activations, moves in ((8, False), (4, True)):
        before = compress(graph, recipe(activations=activations), [random_images(graph, 16)])
        after = compress(graph, recipe("distill", activations=activations), [random_images(graph, 16)])
        assert (before.values != after.values) == moves


def test_same_seed_same_result_and_an_interrupted_run_goes_on_to_it(tmp_path: Path) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 40)
    asked = recipe("reconstruct", "distill", activations=4)
    whole = compress(graph, asked, [images])
    assert same(compress(graph, asked, [images], work=tmp_path / "other"), whole)

    def until(stage: str, count: int):  # type: ignore[no-untyped-def]
        def progress(name: str, done: int) -> None:
            if (name.partition(",")[0], done) == (stage, count):
                raise KeyboardInterrupt

        return progress

    for stage, count in (("reconstruct", 3), ("distill", 30)):
        with pytest.raises(KeyboardInterrupt):
            compress(graph, asked, [images], work=tmp_path / "work", progress=until(stage, count))
    told: list[tuple[str, int]] = []
    resumed = compress(
        graph, asked, [images], work=tmp_path / "work", progress=lambda *args: told.append(args)
    )
    assert same(resumed, whole)
    assert min(done for name, done in told if name == "distill, 40 steps") == 26
    assert not same(compress(graph, asked, [images], seed=1, work=tmp_path / "work"), whole)


def test_a_block_that_was_interrupted_goes_on_within_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subbyte.steps.train.SAVED_EVERY", 1)
    monkeypatch.setattr("subbyte.steps.train.SAVED_COST", 0)

    class Progress:
        def __init__(self, last: int = 0) -> None:
            self.told: list[tuple[str, int]] = []
            self.last = last

        def __call__(self, stage: str, done: int) -> None:
            pass

        def status(self, status: Status) -> None:
            self.told.append((status.run, status.step))
            if status.run == "reconstruct/block-002" and status.step == self.last:
                raise KeyboardInterrupt

    graph, asked = efficientnet_like(), recipe("reconstruct")
    images = random_images(graph, 16)
    whole = compress(graph, asked, [images])
    with pytest.raises(KeyboardInterrupt):
        compress(graph, asked, [images], work=tmp_path, progress=Progress(9))
    again = Progress()
    assert same(compress(graph, asked, [images], work=tmp_path, progress=again), whole)
    assert again.told[0] == ("reconstruct/block-002", 9)  # it was told before the state was written
    assert sorted(path.name for path in tmp_path.rglob("*.pt")) == ["block-001.pt", "block-002.pt"]


def test_a_work_folder_of_another_network_is_not_used(tmp_path: Path) -> None:
    """Networks that differ in what no quantized weight shows: a bias, an attribute, a float weight by less
    than rounding sees."""

    def other(name: str, role: str, change: float) -> Graph:
        graph = efficientnet_like()
        np.asarray(graph.node(name).params[role]).flat[0] += change
        return graph

    def relu() -> Graph:
        graph = efficientnet_like()
        nodes = tuple(
            node.with_(attrs={**node.attrs, "act": "relu"}) if node.name == "head" else node
            for node in graph.nodes
        )
        return replace(graph, nodes=nodes)

    graph, asked = efficientnet_like(), recipe("reconstruct")
    images = random_images(graph, 16)
    compress(graph, asked, [images], work=tmp_path)
    kept = set(tmp_path.iterdir())
    for changed in (other("classifier", "bias", 1.0), relu(), other("head", "weight", 1e-7)):
        resumed = compress(changed, asked, [images], work=tmp_path)
        assert same(resumed, compress(changed, asked, [images]))
        assert len(kept) < len(set(tmp_path.iterdir()))
        kept = set(tmp_path.iterdir())
    compress(graph, asked, [images], work=tmp_path)
    assert set(tmp_path.iterdir()) == kept


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    graph = efficientnet_like()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*block-.*: No space left on device; choose"):
        compress(graph, recipe("reconstruct"), [random_images(graph, 16)], work=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot keep the state of training in"):
        compress(graph, recipe("reconstruct"), [random_images(graph, 16)], work=tmp_path / "file")


def test_a_corrupt_state_is_one_clear_error(tmp_path: Path) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 16)
    compress(graph, recipe("reconstruct"), [images], work=tmp_path)
    for state in tmp_path.rglob("*.pt"):
        state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(InputError, match="no state of training; delete it"):
        compress(graph, recipe("reconstruct"), [images], work=tmp_path)


@pytest.mark.parametrize("step", ["reconstruct", "distill"])
def test_a_state_of_other_parameters_is_the_same_error(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subbyte.steps.train.SAVED_EVERY", 1)
    graph = efficientnet_like()
    images = random_images(graph, 16)
    compress(graph, recipe(step), [images], work=tmp_path)
    states = list(tmp_path.rglob("*.pt"))
    assert states
    for state in states:
        torch.save({"parameters": {}}, state)
    with pytest.raises(InputError, match="no state of training; delete it"):
        compress(graph, recipe(step), [images], work=tmp_path)


def test_the_training_pass_is_the_exact_one_up_to_rare_ties() -> None:
    graph = efficientnet_like()
    quantized = compress(graph, recipe(weights=4, activations=4), [random_images(graph, 16)])
    x = torch_executor.nchw(random_images(graph, 8, seed=3))
    exact = torch_executor.forward(quantized, x, keep=True)
    fast = torch_executor.forward(quantized, x, keep=True, exact=False)
    first = quantized.nodes[1]
    assert first.op == "conv2d"
    moved = (exact[first.output] - fast[first.output]).abs()
    # float32 sums err by some 1e-6 of a step; a code moves only where that crosses a half
    assert moved.max() <= 1.0
    assert (moved > 0).float().mean() < 1e-3


def test_nearest_has_the_gradient_of_a_clamp() -> None:
    v = torch.tensor([-9.0, -2.6, -0.2, 0.4, 1.4, 1.6], requires_grad=True)
    rounded = nearest(v, uniform_levels(2))
    assert rounded.tolist() == [-2.0, -2.0, 0.0, 0.0, 1.0, 1.0]
    rounded.sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_lloyd_levels_are_those_known_for_the_normal_distribution() -> None:
    weights = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    levels = lloyd_levels(weights, 2).astype(float)
    # J. Max, "Quantizing for minimum distortion" (1960), table I: 0.4528 and 1.510
    assert np.allclose(levels / 127.0, np.array([-1.510, -0.4528, 0.4528, 1.510]) / 1.510, atol=2.5 / 127)


def test_code_books_and_codes() -> None:
    row = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    assert code_book(row, weight_format(2), "symmetric").tolist() == [-3, -1, 1, 3]
    assert code_book(row, weight_format(8), "learned").tolist() == uniform_levels(8).tolist()
    for kind in ("uniform", "symmetric", "learned"):
        levels = code_book(row, weight_format(4), kind)
        values = levels[np.random.default_rng(0).integers(0, 16, 100)]
        assert np.array_equal(levels[codes_of(values, levels)], values)


def test_augmented_images_keep_shape_and_range_and_follow_the_seed() -> None:
    x = torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    first = augmented(x, torch.Generator().manual_seed(5))
    assert first.shape == x.shape
    assert first.min() >= 0.0
    assert first.max() <= 1.0
    assert torch.equal(first, augmented(x, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, augmented(x, torch.Generator().manual_seed(6)))
    whole = augmented(x, torch.Generator().manual_seed(5), 1.0)
    for image, shown in zip(x, whole, strict=True):  # pixels are interpolated where they are
        same = [torch.allclose(shown, seen, atol=1e-5) for seen in (image, image.flip(2))]
        assert sum(same) == 1


def test_a_share_of_the_crops_is_mixed_with_others() -> None:
    black = torch.zeros(8, 1, 6, 6)
    black[::2] = 1.0  # white beside black: a mixture shows its proportions
    levels = augmented(black, torch.Generator().manual_seed(5), mix=0.5).mean((1, 2, 3))
    assert torch.equal(levels[4:], black[4:].mean((1, 2, 3)))
    assert len(set(levels[:4].tolist())) == 4
    assert all(0.0 < level < 1.0 for level in levels[:4])
    assert torch.equal(levels, augmented(black, torch.Generator().manual_seed(5), mix=0.5).mean((1, 2, 3)))


def test_blocks_are_cut_where_one_value_carries_everything() -> None:
    graph = efficientnet_like()
    found = blocks(graph)
    assert [name for block in found for name in block.nodes] == [node.name for node in graph.nodes]
    assert found[0].input == graph.input
    assert [block.input for block in found[1:]] == [block.output for block in found[:-1]]
    inside = {name: block for block in found for name in block.nodes}
    assert inside["expand"] is inside["project"]
    quantized = compress(graph, recipe(), [random_images(graph, 8)])
    assert [block.output for block in blocks(quantized)] == [block.output for block in found]


def test_a_network_without_bottlenecks_is_cut_too() -> None:
    network = FloatNetwork((8, 8, 4))
    x = network.conv("one", "image", 8, act="relu")
    x = network.conv("two", x, 8, act="relu")
    x = network.conv("three", x, 8, act="none", residual=x)
    graph = network.graph(x)
    assert [block.nodes for block in blocks(graph)] == [("one",), ("two",), ("three",)]


def two_heads() -> Graph:
    """A map, whose codes have a grid, and a vector of numbers a hundred times as large."""
    net = FloatNetwork((8, 8, 3))
    x = net.conv("middle", net.conv("stem", "image", 8, 3, act="relu"), 8, 3, act="relu")
    flat = net.emit("flatten", (net.pool(x),), (8,))
    big = net.linear("big", flat, 4)
    graph = net.graph(net.conv("map", x, 2), big)
    params = {role: 100 * _numbers(array) for role, array in graph.node("big").params.items()}
    nodes = tuple(n.with_(params=params) if n.name == "big" else n for n in graph.nodes)
    return replace(graph, nodes=nodes)


def test_distillation_trains_every_output() -> None:
    graph = two_heads()
    images = random_images(graph, 24)
    before = compress(graph, recipe(), [images])
    after = compress(graph, recipe("distill"), [images], task="regression")
    for name, made in zip(graph.outputs, before.outputs, strict=True):
        exact = torch_executor.run(graph, images)[name]
        errors = []
        for quantized in (before, after):
            q, y = quantized.value(made).q, torch_executor.run(quantized, images)[made]
            real = y if q is None else q.dequantize(y)
            errors.append(float(np.square(real - exact).mean() / exact.var()))
        assert errors[1] < errors[0], name


def test_distillation_of_several_outputs_needs_a_task_before_any_work() -> None:
    graph, told = two_heads(), []
    with pytest.raises(InputError, match="say what the outputs mean with --task"):
        compress(
            graph, recipe("distill"), [random_images(graph, 8)], progress=lambda *what: told.append(what)
        )
    assert told == []
    with pytest.raises(InputError, match="key points are one output"):
        compress(graph, recipe(), [random_images(graph, 8)], task="keypoints")
    compress(graph, recipe(), [random_images(graph, 8)])  # no step asks

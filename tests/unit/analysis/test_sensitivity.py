"""Sensitivity: one change at a time, measured as compression would make it; kept and continued."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subbyte.analysis.degradation import Degradation, Meter
from subbyte.analysis.sensitivity import analysis_key, sensitivity
from subbyte.analysis.table import Sensitivity, parse_formats, read_sensitivity
from subbyte.artifact.digest import graph_digest
from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, Node
from subbyte.quant import Format, QTensor, activation_format, weight_format
from subbyte.quant.format import FP16, FP32, INT8, UINT8
from subbyte.quantize.variants import Variants, eight_bits
from subbyte.recipes import Recipe, load_recipe
from subbyte.steps.bias_correction import correct_biases
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return efficientnet_like()


@pytest.fixture(scope="module")
def table(graph: Graph) -> Sensitivity:
    return sensitivity(Variants(graph, load_recipe("w8a8")), random_images(graph, 24))


def variants(graph: Graph, recipe: str = "w8a8") -> Variants:
    result = Variants(graph, load_recipe(recipe))
    result.calibrate([random_images(graph, 24)], lambda stage, done: None)
    return result


def test_a_variant_is_what_compress_makes_of_those_widths(graph: Graph) -> None:
    recipe = {**load_recipe("w8a8").model_dump(), "steps": ()}
    recipe["override"] = [
        {"match": "expand", "weights": 2, "activations": 4},
        {"match": "head", "weights": 3},
    ]
    expected = compress(graph, Recipe.model_validate(recipe), [random_images(graph, 24)])
    actual = variants(graph).quantized(
        {"expand": weight_format(2), "head": weight_format(3)}, {"expand": activation_format(4)}
    )
    assert actual.values == expected.values
    for ours, theirs in zip(actual.nodes, expected.nodes, strict=True):
        assert (ours.name, ours.inputs, ours.output, ours.attrs) == (
            theirs.name,
            theirs.inputs,
            theirs.output,
            theirs.attrs,
        )
        for role, param in ours.params.items():
            other = theirs.params[role]
            if isinstance(param, QTensor):
                assert isinstance(other, QTensor)
                assert param.format == other.format
                np.testing.assert_array_equal(param.codes, other.codes)
                np.testing.assert_array_equal(param.scale, other.scale)
            else:
                np.testing.assert_array_equal(param, other)


def two_residuals() -> Graph:
    """A residual that is added to sums, and one behind an activation, which integers need split off."""
    net = FloatNetwork((6, 6, 3), 5)
    x = net.conv("stem", "image", 8, 3, "relu")
    x = net.conv("sums", x, 8, 1, residual=x)
    x = net.conv("activated", x, 8, 3, "silu", residual=x)
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 6))


@pytest.mark.parametrize("layer", ["stem", "sums", "activated", "classifier"])
@pytest.mark.parametrize("format", [FP16, FP32])
def test_a_float_layer_is_what_compress_makes_of_it(layer: str, format: Format) -> None:
    graph = two_residuals()
    recipe = {**load_recipe("w8a8").model_dump(), "steps": ()}
    recipe["override"] = [{"match": layer, "activations": 4}, {"match": layer, "precision": str(format)}]
    if layer == "classifier":
        recipe["override"] = recipe["override"][1:]
    narrow = {layer: activation_format(4)}
    expected = compress(graph, Recipe.model_validate(recipe), [random_images(graph, 24)])
    actual = variants(graph).quantized({layer: format}, narrow)
    assert graph_digest(actual) == graph_digest(expected)
    weight = actual.node(layer).params["weight"]
    assert isinstance(weight, np.ndarray)
    assert weight.dtype == {FP16: np.float16, FP32: np.float32}[format]


def rounded(graph: Graph, node: Node) -> Node:
    """The node with the bias that it has in the other graph."""
    if "bias" not in node.params:
        return node
    return node.with_(params={**node.params, "bias": graph.node(node.name).params["bias"]})


def test_rows_of_float_layers() -> None:
    """What 8 bits of a layer do is gone, in the first block all of the error that there is."""
    graph = two_residuals()
    images = random_images(graph, 24)
    found = sensitivity(variants(graph), images, weights=(INT8, FP16, FP32), activations=(), threads=1)
    rows = {(row.nodes[0], row.format): row for row in found.rows}
    assert set(rows) == {
        (n, f) for n in ("stem", "sums", "activated", "classifier") for f in (INT8, FP16, FP32)
    }
    assert rows["stem", FP32].block_sqnr == 200.0  # it reads the image and makes what float32 does
    for layer in ("stem", "sums", "activated", "classifier"):
        if layer != "classifier":  # what it reads is the error there: what it adds itself may cancel some
            assert rows[layer, FP32].block_sqnr > rows[layer, INT8].block_sqnr
        assert rows[layer, FP32].elements == rows[layer, INT8].elements
        for format in (FP16, FP32):
            assert found.added_kl(rows[layer, format]) <= 0.0
    made = variants(graph)
    base = correct_biases(made.quantized(), made.float_graph, images, lambda stage, done: None, shrink=True)
    changed = made.quantized({"classifier": FP32})  # nothing behind it is rounded otherwise
    last = replace(
        changed, nodes=tuple(rounded(base, n) if n.name != "classifier" else n for n in changed.nodes)
    )
    assert rows["classifier", FP32].degradation == Meter(graph, images).of(last)
    assert [row["bits"] for row in found.maps()] == [8] * 4  # heat maps show what narrow formats add


def test_only_widths_of_a_recipe_are_dropped() -> None:
    recipe = Recipe.model_validate(
        {
            **load_recipe("w2a8").model_dump(),
            "override": [{"role": "depthwise", "weights": 4}, {"match": "stem", "precision": "fp16"}],
        }
    )
    plain = eight_bits(recipe)
    assert plain.weights.bits == plain.first.weights == plain.squeeze_excite.weights == INT8
    assert [rule.precision for rule in plain.override] == ["fp16"]
    assert (plain.weights.range, plain.activations, plain.steps) == (
        recipe.weights.range,
        recipe.activations,
        recipe.steps,
    )


def test_every_layer_and_activation_has_its_rows(graph: Graph, table: Sensitivity) -> None:
    weights = {(row.nodes, row.format) for row in table.rows if row.kind == "weights"}
    layers = ("stem", "expand", "depthwise", "squeeze", "excite", "project", "head", "classifier")
    assert weights == {((name,), weight_format(bits)) for name in layers for bits in (8, 4, 3, 2)}
    activations = {row.nodes for row in table.rows if row.kind == "activations"}
    assert activations == {(n.name,) for n in graph.nodes if n.name not in ("classifier", "flatten10")}
    assert table.row("weights", "project", weight_format(4)).elements == 128  # type: ignore[union-attr]
    assert table.row("activations", "expand", activation_format(4)).elements == 8 * 8 * 16  # type: ignore[union-attr]


def test_eight_bits_change_nothing_and_two_bits_much(table: Sensitivity) -> None:
    for row in table.rows:
        if row.format in (INT8, UINT8):
            assert row.degradation == table.base
            assert table.added_kl(row) == 0.0
    for name in ("stem", "classifier", "head"):
        rows = [table.row("weights", name, weight_format(bits)) for bits in (8, 4, 3, 2)]
        kl = [row.degradation.kl for row in rows if row and row.format != weight_format(3)]
        assert kl == sorted(number for number in kl if number is not None)
        sqnr = [row.block_sqnr for row in rows if row]
        assert sqnr == sorted(sqnr, reverse=True)


def test_rows_are_those_of_corrected_networks(graph: Graph, table: Sensitivity) -> None:
    """Weights of 8 bits before the changed layer and after it have the biases that compress gives them."""
    images = random_images(graph, 24)
    made = variants(graph)
    plain = made.quantized()
    base = correct_biases(plain, made.float_graph, images, lambda stage, done: None, shrink=True)
    assert table.base == Meter(graph, images).of(base)
    changed = made.quantized({"classifier": weight_format(3)})
    last = correct_biases(changed, made.float_graph, images, lambda stage, done: None, shrink=True)
    row = table.row("weights", "classifier", weight_format(3))
    assert row is not None
    assert row.degradation == Meter(graph, images).of(last)


def test_block_sqnr_is_that_of_the_whole_networks_values(graph: Graph, table: Sensitivity) -> None:
    images = random_images(graph, 24)
    made = variants(graph)
    base = correct_biases(made.quantized(), made.float_graph, images, lambda stage, done: None, shrink=True)
    changed = made.quantized(
        activations={"project": activation_format(4)}
    )  # before it, all is as in the base
    nodes = [node if node.name in ("head", "classifier") else base.node(node.name) for node in changed.nodes]
    q = changed.value(graph.node("project").output).q
    project = changed.node("project").with_(params=base.node("project").params)
    nodes = [project if node.name == "project" else node for node in nodes]
    mixed = replace(changed, nodes=tuple(nodes))
    assert q is not None
    output = graph.node("project").output
    exact = torch_executor.run(graph, images[:8], keep=True)[output].astype(np.float64)
    real = q.dequantize(torch_executor.run(mixed, images[:8], keep=True)[output])
    expected = 10 * np.log10((exact**2).sum() / ((real - exact) ** 2).sum())
    row = table.row("activations", "project", activation_format(4))
    assert row is not None
    assert row.block_sqnr == pytest.approx(expected, rel=1e-5)  # sums of float32 and float64 numbers


def test_a_killed_analysis_continues(graph: Graph, table: Sensitivity, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    calls: list[int] = []

    def stop(stage: str, done: int) -> None:
        if stage == "sensitivity":
            calls.append(done)
            if len(calls) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(
            Variants(graph, load_recipe("w8a8")), random_images(graph, 24), output=path, progress=stop
        )
    kept = read_sensitivity(path)
    assert 0 < len(kept.rows) < len(table.rows)
    again = sensitivity(Variants(graph, load_recipe("w8a8")), random_images(graph, 24), output=path)
    assert again.rows == table.rows
    assert read_sensitivity(path) == again
    unchanged = path.read_bytes()
    sensitivity(Variants(graph, load_recipe("w8a8")), random_images(graph, 24), output=path)
    assert path.read_bytes() == unchanged


def test_another_analysis_is_not_mixed_in(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    formats: dict[str, Any] = {"weights": (INT8,), "activations": ()}
    sensitivity(Variants(graph, load_recipe("w8a8")), random_images(graph, 4), output=path, **formats)
    for other, images in (
        (graph, random_images(graph, 4, seed=9)),
        (efficientnet_like(1), random_images(graph, 4)),
    ):
        with pytest.raises(InputError, match="another network, other images or another recipe"):
            sensitivity(Variants(other, load_recipe("w8a8")), images, output=path, **formats)
    path.write_text("{}")
    with pytest.raises(InputError, match="not the result of a sensitivity analysis"):
        read_sensitivity(path)


def test_files_of_earlier_versions_are_read(table: Sensitivity, tmp_path: Path) -> None:
    """Bits by number; before that, also other names of two keys."""
    path = tmp_path / "s.json"
    table.save(path)
    old = json.loads(path.read_text())
    for row in old["rows"]:
        row["bits"] = int(row.pop("format")[-1])
    path.write_text(json.dumps(old))
    assert read_sensitivity(path) == table
    for row in old["rows"]:
        row["damage"] = row.pop("degradation")
    old["pictures"] = old.pop("images")
    path.write_text(json.dumps(old))
    assert read_sensitivity(path) == table
    row = old["rows"][0]
    wrong: object
    for wrong in (3, None, [], {**row, "bits": 5}, {**row, "bits": [4]}, {**row, "kind": ["weights"]}):
        path.write_text(json.dumps({**old, "rows": [wrong]}))
        with pytest.raises(InputError, match="not the result of a sensitivity analysis"):
            read_sensitivity(path)


@pytest.mark.parametrize("text", ["8,4", "int8, 4", " 4,8,int4,"])
def test_formats_are_written_as_bits_or_texts(text: str) -> None:
    assert set(parse_formats("weights", text)) == {INT8, weight_format(4)}


@pytest.mark.parametrize("text", ["5", "4x", "uint4", "-4", "٤", "²"])
def test_other_formats_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="weights can have 8, 4, 3, 2 bits, not "):
        parse_formats("weights", text)


def test_degradation_by_hand() -> None:
    net = FloatNetwork((2,))
    meter = Meter(net.graph(net.linear("a", "image", 3)), np.ones((2, 2), np.float32))
    meter.exact = [np.array([[0.0, np.log(2.0), 0.0], [0.0, 0.0, np.log(2.0)]])]
    found = meter.of_outputs([np.array([[0.0, np.log(2.0), 0.0], [np.log(2.0), 0.0, 0.0]])])
    # the second: p = (1/4, 1/4, 1/2), q = (1/2, 1/4, 1/4): 1/4 log(1/2) + 1/2 log 2 = 1/4 log 2
    assert found.kl == pytest.approx(np.log(2.0) / 8.0)
    assert found.agreement == 0.5
    error = 2 * np.log(2.0) ** 2 / 6
    variance = 2 * np.log(2.0) ** 2 / 6 - (2 * np.log(2.0) / 6) ** 2
    assert found.mse == pytest.approx(error / variance)
    assert meter.of_outputs(meter.exact) == Degradation(kl=0.0, mse=0.0, agreement=1.0)


def test_only_classifiers() -> None:
    net = FloatNetwork((4, 4, 3))
    graph = net.graph(net.conv("a", "image", 4))
    with pytest.raises(InputError, match="class scores"):
        Meter(graph, random_images(graph, 2))


def test_other_tasks_are_measured_by_relative_error_and_their_own_agreement() -> None:
    net = FloatNetwork((2,))
    meter = Meter(net.graph(net.linear("a", "image", 4)), np.ones((1, 2), np.float32), task="keypoints")
    meter.exact = [np.array([[0.0, 0.0, 1.0, 0.0]])]
    found = meter.of_outputs([np.array([[0.0, 0.0625, 1.0, 0.5]])])
    # squares 1/256 and 1/4 of four numbers with variance 3/16; only the first point is within a tenth
    assert found == Degradation(mse=(1 / 256 + 1 / 4) / 4 / (3 / 16), agreement=0.5)
    assert (found.kl, found.loss, found.unit) == (None, found.mse, "of the variance")


def test_the_key_of_a_classifier_does_not_depend_on_saying_so(graph: Graph) -> None:
    images, made = random_images(graph, 2), Variants(graph, load_recipe("w8a8"))
    key = analysis_key(made, images, 1)
    assert analysis_key(made, images, 1, "classification") == key
    assert analysis_key(made, images, 1, "regression") != key

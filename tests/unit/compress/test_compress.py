"""compress: what a recipe asks for is what the graph holds, and the graph still computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.compress import compress
from subbyte.errors import GraphError, InputError, RecipeError
from subbyte.execute import reference
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, verify
from subbyte.quant import QParams, QTensor
from subbyte.recipes import Recipe, load_recipe
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def recipe(**options: object) -> Recipe:
    return Recipe.model_validate({"name": "test", **options})


def bits(graph: Graph) -> dict[str, int | str]:
    """Node name to weight bits, or the dtype of float weights."""
    found: dict[str, int | str] = {}
    for node in graph.nodes:
        weight = node.params.get("weight")
        if weight is not None:
            found[node.name] = weight.bits if isinstance(weight, QTensor) else str(weight.dtype)
    return found


def grid(graph: Graph, node: str) -> QParams:
    q = graph.value(graph.node(node).output).q
    assert q is not None
    return q


def relative_error(graph: Graph, quantized: Graph, images: np.ndarray) -> float:
    """Mean square error of the first output over its variance."""
    exact = torch_executor.run(graph, images)[graph.outputs[0]]
    actual = torch_executor.run(quantized, images)[quantized.outputs[0]]
    return float(((actual - exact) ** 2).mean() / exact.var())


def test_w8a8_quantizes_everything_and_stays_close() -> None:
    graph = efficientnet_like()
    result = compress(graph, load_recipe("w8a8"), [random_images(graph, 32)])
    assert result.outputs == graph.outputs
    assert [n.name for n in result.nodes if n.name in {m.name for m in graph.nodes}] == [
        n.name for n in graph.nodes
    ]
    assert set(bits(result).values()) == {8}
    real = {v.name for v in result.values.values() if v.q is None}
    assert real == {graph.input, *graph.outputs}
    images = random_images(graph, 16, seed=2)
    assert relative_error(graph, result, images) < 0.01
    expected = reference.run(result, images, keep=True)
    for name, array in torch_executor.run(result, images, keep=True).items():
        assert np.array_equal(array, expected[name])


def test_fewer_bits_make_larger_errors_and_smaller_codes() -> None:
    graph = efficientnet_like()
    errors = []
    for name in ("w8a8", "w4a8", "w2a8"):
        result = compress(graph, load_recipe(name), [random_images(graph, 32)])
        assert bits(result)["expand"] == bits(result)["project"] == int(name[1])
        errors.append(relative_error(graph, result, random_images(graph, 32, seed=2)))
    assert errors == sorted(errors)


def test_first_last_squeeze_excite_and_default_widths() -> None:
    graph = efficientnet_like()
    asked = recipe(
        weights={"bits": 4},
        activations={"bits": 4},
        first={"weights": 8, "activations": 8},
        last={"weights": 2, "activations": 3},
        squeeze_excite={"weights": 2, "activations": 8},
    )
    result = compress(graph, asked, [random_images(graph, 8)])
    widths = bits(result)
    assert widths["stem"] == 8
    assert widths["classifier"] == 2
    assert widths["squeeze"] == widths["excite"] == 2
    assert widths["expand"] == widths["depthwise"] == widths["project"] == widths["head"] == 4
    image = result.value("image.codes").q
    assert image is not None
    assert image.bits == 8
    for name in ("stem", "expand", "depthwise", "project", "head", "mul6"):
        assert grid(result, name).bits == 4, name
    for name in ("squeeze", "excite", "global_avg_pool3"):
        assert grid(result, name).bits == 8, name
    classifier = result.node("classifier")
    assert result.value(classifier.inputs[0]).q == grid(result, "global_avg_pool9")
    assert grid(result, "global_avg_pool9").bits == 3


def test_gates_cover_zero_to_one() -> None:
    graph = efficientnet_like()
    result = compress(graph, load_recipe("w8a8"), [random_images(graph, 8)])
    assert grid(result, "excite") == QParams(float(np.float32(1 / 255)), 0, 8)


def test_overrides_by_name_and_by_role() -> None:
    graph = efficientnet_like()
    rules = [
        {"role": "depthwise", "weights": 2},
        {"match": "ex*", "weights": 4, "activations": 3},
        {"match": "expand", "activations": 4},
        {"role": "residual", "activations": 2},
        {"match": "squeeze", "role": "depthwise", "weights": 2},
    ]
    with pytest.raises(RecipeError, match=r"the override for 'squeeze' fits no layer; .*stem"):
        compress(graph, recipe(override=rules), [random_images(graph, 8)])
    result = compress(graph, recipe(override=rules[:-1]), [random_images(graph, 8)])
    widths = bits(result)
    assert widths["depthwise"] == 2
    assert widths["expand"] == widths["excite"] == 4
    assert widths["stem"] == widths["project"] == 8
    assert (grid(result, "expand").bits, grid(result, "excite").bits) == (4, 3)
    assert grid(result, "project").bits == 2


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16")])
def test_float_layers_amid_quantized_ones(precision: str, dtype: str) -> None:
    graph = efficientnet_like()
    rules = [{"match": name, "precision": precision} for name in ("depthwise", "head")]
    result = compress(graph, recipe(override=rules), [random_images(graph, 32)])
    widths = bits(result)
    assert {n for n, b in widths.items() if b == dtype} == {"depthwise", "head"}
    assert {b for n, b in widths.items() if n not in ("depthwise", "head")} == {8}
    kinds = [n.op for n in result.nodes]
    assert kinds.count("quantize") == 3  # the image, depthwise's output, head's output
    # project feeds head only, but adds a residual in codes; expand's codes go to depthwise
    assert kinds.count("dequantize") == 2
    weight = result.node("depthwise").params["weight"]
    assert isinstance(weight, np.ndarray)
    assert np.array_equal(weight, np.asarray(graph.node("depthwise").params["weight"]).astype(dtype))
    assert relative_error(graph, result, random_images(graph, 16, seed=2)) < 0.01
    images = random_images(graph, 3, seed=4)
    reference.run(result, images)


def test_a_float_layer_reads_the_accumulator_of_a_plain_one_directly() -> None:
    net = FloatNetwork((4, 4, 3))
    x = net.conv("a", "image", 5)
    graph = net.graph(net.conv("b", x, 4))
    result = compress(
        graph, recipe(override=[{"match": "b", "precision": "fp32"}]), [random_images(graph, 4)]
    )
    assert [n.op for n in result.nodes] == ["quantize", "conv2d", "conv2d"]
    assert result.value(result.node("a").output).q is None


def test_fp32_leaves_the_graph_alone() -> None:
    graph = efficientnet_like()
    assert compress(graph, load_recipe("fp32"), []) is graph


def test_half_precision_everywhere() -> None:
    graph = efficientnet_like()
    result = compress(graph, recipe(precision="fp16"), [])
    assert set(bits(result).values()) == {"float16"}
    assert [n.name for n in result.nodes] == [n.name for n in graph.nodes]
    assert relative_error(graph, result, random_images(graph, 8)) < 1e-4


def test_weights_beyond_half_precision_are_refused() -> None:
    graph = efficientnet_like()
    np.asarray(graph.node("head").params["weight"])[0, 0, 0, 0] = 1e5
    with pytest.raises(RecipeError, match="'head' has weights beyond float16"):
        compress(graph, recipe(precision="fp16"), [random_images(graph, 2)])


def test_every_op_and_every_way_to_an_output() -> None:
    """Residuals behind activations, concat, max pool, standalone activations, several outputs."""
    net = FloatNetwork((6, 6, 3), seed=5)
    a = net.conv("a", "image", 6, 3, "relu")
    b = net.conv("b", a, 6, 3, "silu", residual=a)  # activation and residual: an add of its own
    c = net.same("activation", b, act="gelu")
    d = net.emit("concat", (b, c), (6, 6, 12))
    e = net.emit(
        "max_pool2d", (d,), (3, 3, 12), attrs={"kernel": (2, 2), "stride": (2, 2), "pad": (0, 0, 0, 0)}
    )
    f = net.conv("f", e, 4, 3, "hard_swish")
    g = net.same("add", f, f)
    h = net.conv("h", g, 2, 1, "sigmoid")  # an output behind an activation
    flat = net.flatten(g)
    logits = net.linear("logits", flat, 7)
    hidden = net.linear("hidden", flat, 5, "tanh")  # an output that is also read
    last = net.linear("last", hidden, 3)
    graph = net.graph(h, logits, hidden, last, e)
    images = random_images(graph, 64)
    for name in ("minmax", "mse"):
        asked = recipe(activations={"range": name}, steps=["bias_correction"])
        result = compress(graph, asked, [images])
        assert result.outputs == graph.outputs
        assert all(result.value(n).q is None for n in result.outputs)
        expected = torch_executor.run(graph, images)
        actual = reference.run(result, images)
        for output in graph.outputs:
            error = ((actual[output] - expected[output]) ** 2).mean() / expected[output].var()
            assert error < 0.005, output
    assert result.node("h").attrs["act"] == "none"  # float32 accumulator, float32 sigmoid
    grids = {result.value(n).q for n in result.node("concat3").inputs}
    assert grids == {grid(result, "concat3")}
    assert grids == {result.value(result.node("f").inputs[0]).q}


def test_bias_correction_reduces_the_mean_error_of_every_layer() -> None:
    graph = efficientnet_like(seed=3)
    images = random_images(graph, 64)
    exact = torch_executor.run(graph, images)[graph.outputs[0]]
    plain = compress(graph, recipe(weights={"bits": 4}), [images])
    corrected = compress(graph, recipe(weights={"bits": 4}, steps=["bias_correction"]), [images])

    def mean_error(result: Graph) -> float:
        actual = torch_executor.run(result, images)[graph.outputs[0]]
        return float(np.abs((actual - exact).mean(axis=0)).mean())

    # on its own images the last layer's mean error goes down to half an accumulator unit
    classifier = corrected.node("classifier")
    weight, q = classifier.params["weight"], corrected.value(classifier.inputs[0]).q
    assert isinstance(weight, QTensor)
    assert q is not None
    unit = float((weight.scale * q.scale).max())
    assert mean_error(corrected) <= 0.5 * unit + 1e-5
    assert mean_error(plain) > 20 * unit
    assert relative_error(graph, corrected, images) < 0.8 * relative_error(graph, plain, images)
    for node in corrected.nodes:  # nothing else changed
        for role, param in node.params.items():
            other = plain.node(node.name).params[role]
            if isinstance(param, QTensor):
                assert isinstance(other, QTensor)
                assert np.array_equal(param.codes, other.codes)
            elif role != "bias":
                assert isinstance(other, np.ndarray)
                assert np.array_equal(param, other)


def plain_data(graph: Graph) -> list[object]:
    """Everything that a graph holds, comparable with ==."""
    found: list[object] = [graph.input, graph.outputs, sorted(graph.values.items(), key=lambda i: i[0])]
    for node in graph.nodes:
        params = [
            (role, p.codes.tobytes(), p.scale.tobytes()) if isinstance(p, QTensor) else (role, p.tobytes())
            for role, p in sorted(node.params.items())
        ]
        found.append((node.name, node.op, node.inputs, node.output, dict(node.attrs), params))
    return found


def test_the_same_input_gives_the_same_graph() -> None:
    graph, asked = efficientnet_like(), load_recipe("w4a8")
    images = random_images(graph, 40)
    first = compress(graph, asked, [images])
    assert plain_data(compress(graph, asked, iter(images[:, None]))) == plain_data(first)
    assert plain_data(compress(graph, asked, (images[:7], images[7:]), seed=0)) == plain_data(first)
    assert plain_data(compress(graph, asked, [images[:39]])) != plain_data(first)


@pytest.mark.parametrize("balance", ["none", "all"])
def test_images_kept_in_memory_and_in_files_give_the_same_grids(
    balance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weighted ranges and balanced channels read the images once more, wherever they are kept."""
    monkeypatch.setattr("subbyte.compress.graph.WEIGHTED_IMAGES", 20)
    graph, images = efficientnet_like(), random_images(efficientnet_like(), 40)
    asked = {
        storage: recipe(
            activations={"range": "fisher", "balance": balance},
            steps=["reconstruct"],  # which finds nothing below 8 bits
            reconstruct={"storage": storage},
        )
        for storage in ("memory", "disk")
    }
    in_memory, on_disk = (
        compress(graph, asked[storage], iter(images[:, None]), work=tmp_path) for storage in asked
    )
    assert plain_data(in_memory) == plain_data(on_disk)
    monkeypatch.setattr("subbyte.compress.graph.WEIGHTED_IMAGES", 40)
    assert plain_data(compress(graph, asked["memory"], [images])) != plain_data(in_memory)


def test_weighted_ranges_bring_the_outputs_closer() -> None:
    """One channel is large and read by nobody: its range costs all others their steps."""
    net = FloatNetwork((6, 6, 3))
    hidden = net.conv("hidden", "image", 24, 1, "silu")
    pooled = net.flatten(net.pool(net.conv("last", hidden, 8, 1, "silu")))
    graph = net.graph(net.linear("y", pooled, 5))
    weight = {n.name: np.array(n.params["weight"]) for n in graph.nodes if "weight" in n.params}
    weight["hidden"][0] *= 40.0
    weight["last"][..., 0] = 0.0
    nodes = tuple(
        n.with_(params={**n.params, "weight": weight[n.name]}) if n.name in weight else n for n in graph.nodes
    )
    graph = replace(graph, nodes=nodes)
    images, unseen = random_images(graph, 64), random_images(graph, 64, seed=2)
    errors = {
        name: relative_error(graph, compress(graph, recipe(activations={"range": name}), [images]), unseen)
        for name in ("minmax", "mse", "fisher")
    }
    assert errors["fisher"] < 0.5 * min(errors["minmax"], errors["mse"])


def test_progress_is_told() -> None:
    graph = efficientnet_like()
    told: list[tuple[str, int]] = []
    compress(
        graph, load_recipe("w4a8"), [random_images(graph, 20)], progress=lambda s, n: told.append((s, n))
    )
    assert [n for s, n in told if s == "calibrate"] == [16, 20]
    nodes = [n for s, n in told if s == "bias_correction"]
    assert nodes == list(range(1, len(graph.nodes) + 2))  # and a quantize


@pytest.mark.parametrize("bad", ["nan", "inf", "shape", "dtype", "list", "empty", "no images"])
def test_unusable_calibration_is_an_input_error(bad: str) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 20)
    images[17, 3, 3, 1] = {"nan": np.nan, "inf": np.inf}.get(bad, 0.0)
    calibration: object = {
        "shape": [images[:, :, :, :2]],
        "dtype": [images.astype(np.float64)],
        "list": [[0.0]],
        "empty": [],
        "no images": [images[:0]],
    }.get(bad, [images])
    with pytest.raises(InputError) as error:
        compress(graph, load_recipe("w8a8"), calibration)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_network_that_overflows_is_an_input_error() -> None:
    graph = efficientnet_like()
    np.asarray(graph.node("project").params["weight"])[:] = 3e38
    with pytest.raises(InputError, match=r"makes NaN or infinity \(in 'project:out"):
        compress(graph, load_recipe("w8a8"), [random_images(graph, 2)])


def test_a_layer_that_cannot_run_as_asked_is_an_error() -> None:
    graph = efficientnet_like()
    with pytest.raises(RecipeError, match="'classifier' is to make uint4 activations, but makes fp32"):
        compress(
            graph, recipe(override=[{"match": "classifier", "activations": 4}]), [random_images(graph, 2)]
        )
    with pytest.raises(RecipeError, match=r"share one grid .*'global_avg_pool9:out' 8"):
        compress(
            graph, recipe(override=[{"match": "flatten10", "activations": 4}]), [random_images(graph, 2)]
        )
    with pytest.raises(RecipeError, match="sets weights, but fits no layer with weights"):
        compress(graph, recipe(override=[{"match": "mul*", "weights": 4}]), [random_images(graph, 2)])
    rules = [{"match": "stem", "precision": "fp32"}, {"role": "first", "weights": 4}]
    with pytest.raises(RecipeError, match="'stem' is to run in fp32 and with quantized bits"):
        compress(graph, recipe(override=rules), [random_images(graph, 2)])


def test_only_folded_float_graphs_are_taken() -> None:
    graph = efficientnet_like()
    quantized = compress(graph, load_recipe("w8a8"), [random_images(graph, 2)])
    with pytest.raises(GraphError, match="is quantized already"):
        compress(quantized, load_recipe("w8a8"), [random_images(graph, 2)])
    net = FloatNetwork((4, 4, 3))
    ones = dict.fromkeys(("weight", "bias", "mean", "var"), np.ones(3, np.float32))
    x = net.emit("batch_norm", ("image",), (4, 4, 3), attrs={"eps": 1e-3}, params=ones)
    with pytest.raises(GraphError, match=r"is not folded; apply subbyte.passes.optimize first"):
        compress(net.graph(x), load_recipe("w8a8"), [])


def test_dead_channels_and_constant_values_survive() -> None:
    """Channels without weights, a layer without output, and images that are all equal."""
    graph = efficientnet_like(seed=6)
    for name in ("expand", "depthwise", "excite"):
        np.asarray(graph.node(name).params["weight"])[3] = 0.0
    for role in ("weight", "bias"):
        np.asarray(graph.node("squeeze").params[role])[:] = 0.0
    for images in (random_images(graph, 8), np.zeros_like(random_images(graph, 8))):
        for name in ("w8a8", "w4a8", "w2a8"):
            result = verify(compress(graph, load_recipe(name), [images]))
            actual = torch_executor.run(result, images)[result.outputs[0]]
            assert np.isfinite(actual).all()
            if name == "w8a8":
                expected = torch_executor.run(graph, images)[graph.outputs[0]]
                np.testing.assert_allclose(actual, expected, atol=0.1 * np.abs(expected).max())

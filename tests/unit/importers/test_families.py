"""The EfficientNet families, layer by layer against torch.

A bound on a whole network grows with every layer until it proves nothing, so every layer starts again
from torch's own results; only over the functions in between (activations, gates) bounds add up.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from subbyte.execute.reference.bounds import float_error_bound
from subbyte.execute.reference.executor import run_node
from subbyte.importers.torch_export import capture
from subbyte.ir import macs
from subbyte.models import create
from subbyte.passes import optimize, squeeze_excite

SHAPE = (64, 48, 3)
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)

# name -> ops of the optimized graph
FAMILIES = {
    "tf_efficientnetv2_b0": {"conv2d": 91, "global_avg_pool": 17, "mul": 16, "flatten": 1, "linear": 1},
    "efficientnet_b0": {"conv2d": 81, "global_avg_pool": 17, "mul": 16, "flatten": 1, "linear": 1},
    "tf_efficientnet_lite0": {"conv2d": 49, "global_avg_pool": 1, "flatten": 1, "linear": 1},
    "efficientnet_es": {"conv2d": 49, "global_avg_pool": 1, "flatten": 1, "linear": 1},
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(7)
    return request.param, create(request.param)


def _torch_results(model: nn.Module, x: np.ndarray) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Module path -> result, for every convolution, batch norm and linear layer."""
    results: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, args, out, path=path: results.__setitem__(path, out))
        for path, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        logits = model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    for handle in handles:
        handle.remove()
    return results, logits


def test_every_layer_agrees_with_torch(
    family: tuple[str, nn.Module], randomize: Callable[[nn.Module], nn.Module]
) -> None:
    _, model = family
    randomize(model)
    x = np.random.default_rng(7).standard_normal((1, *SHAPE)).astype(np.float32)
    results, logits = _torch_results(model, x)
    graph = capture(model, SHAPE)
    values, errors, compared = {graph.input: x}, {graph.input: np.zeros(x.shape)}, 0
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        bound = float_error_bound(graph, node, inputs, [errors[name] for name in node.inputs])
        values[node.output], errors[node.output] = run_node(graph, node, inputs), bound
        if node.name in results:
            expected = results[node.name].numpy()
            expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
            assert np.ptp(expected) > 0
            assert bound.max() <= 1e-3 * np.abs(expected).max()
            assert (np.abs(values[node.output] - expected.astype(np.float64)) <= bound).all(), node.name
            values[node.output], errors[node.output] = expected, np.zeros(expected.shape)
            compared += 1
    assert compared == len(results) == sum(isinstance(m, LAYERS) for m in model.modules())
    np.testing.assert_array_equal(values[graph.outputs[0]], logits)


def test_optimized_graph_consists_of_engine_operations(family: tuple[str, nn.Module]) -> None:
    name, model = family
    graph = optimize(capture(model, SHAPE))
    assert Counter(n.op for n in graph.nodes) == FAMILIES[name]
    assert len(squeeze_excite(graph)) == FAMILIES[name].get("mul", 0)
    assert all(len(n.inputs) == 1 or n.attrs["act"] == "none" for n in graph.nodes if n.op == "conv2d")
    modules = dict(model.named_modules())
    assert {n.name for n in graph.nodes if n.op in ("conv2d", "linear")} == {
        path for path, m in modules.items() if isinstance(m, (nn.Conv2d, nn.Linear))
    }


def test_the_v2_stem_keeps_its_residual_behind_silu_as_add() -> None:
    graph = optimize(capture(create("tf_efficientnetv2_s"), (32, 32, 3)))
    assert Counter(n.op for n in graph.nodes)["add"] == 2
    assert {n.op for n in graph.nodes} == {"conv2d", "global_avg_pool", "mul", "flatten", "linear", "add"}


def test_macs_of_a_published_network() -> None:
    # EfficientNet-B0 at 224: 0.39 billion multiply-adds (arXiv 1905.11946, table 2)
    total = sum(macs(capture(create("efficientnet_b0"), (224, 224, 3))).values())
    assert round(total / 1e9, 2) == 0.39

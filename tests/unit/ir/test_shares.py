"""Shares of weights and activations beside a count by hand."""

from __future__ import annotations

import pytest

from subbyte.compress import compress
from subbyte.ir import Graph
from subbyte.ir.shares import Shares, activations, shares
from subbyte.quant import Format, activation_format, weight_format
from subbyte.quant.format import FP16, FP32, INT8, UINT8
from subbyte.recipes import Recipe, load_recipe
from tests.unit.compress.networks import efficientnet_like, random_images

#: Numbers of 8 x 8 positions, and of pooled vectors, by the node that makes them. Not the flattened vector,
#: which is moved, and not the classifier's outputs, which nothing reads.
MADE = {
    **{"stem": 512, "expand": 1024, "depthwise": 1024, "global_avg_pool3": 16, "squeeze": 4, "excite": 16},
    **{"mul6": 1024, "project": 512, "head": 1536, "global_avg_pool9": 24},
}
WEIGHTS = {
    **{"stem": 216, "expand": 128, "depthwise": 144, "squeeze": 64, "excite": 64, "project": 128},
    **{"head": 192, "classifier": 240},
}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return efficientnet_like()


def compressed(graph: Graph, *override: dict[str, object]) -> Graph:
    recipe = {**load_recipe("w8a8").model_dump(), "override": override}
    return compress(graph, Recipe.model_validate(recipe), [random_images(graph, 4)])


def by_format(counts: dict[str, int], formats: dict[str, Format], other: Format) -> dict[Format, int]:
    result: dict[Format, int] = {}
    for name, count in counts.items():
        format = formats.get(name, other)
        result[format] = result.get(format, 0) + count
    return result


def test_float_networks(graph: Graph) -> None:
    found = shares(graph)
    assert found == Shares({FP32: sum(WEIGHTS.values())}, {FP32: sum(MADE.values())})
    assert str(found) == "weights: fp32 100 % · activations: fp32 100 %"
    assert found.activation_bits == 32.0


def test_mixed_networks_beside_a_count_by_hand(graph: Graph) -> None:
    four, three = activation_format(4), activation_format(3)
    found = shares(
        compressed(
            graph,
            {"match": "expand", "activations": 4, "weights": 2},
            {"match": "squeeze", "activations": 3},
            {
                "match": "project",
                "precision": "fp16",
            },  # reads and makes float32; what it makes is rounded later
        )
    )
    weights = by_format(WEIGHTS, {"expand": weight_format(2), "project": FP16}, INT8)
    made = by_format(MADE, {"expand": four, "squeeze": three, "project": FP32}, UINT8)
    assert dict(found.weights) == weights
    assert dict(found.activations) == made == {UINT8: 4152, four: 1024, three: 4, FP32: 512}
    assert found.activation_bits == (8 * 4152 + 4 * 1024 + 3 * 4 + 32 * 512) / 5692
    assert str(found) == (
        "weights: 8 bits 78 %, 2 bits 11 %, fp16 11 % · activations: 8 bits 73 %, 4 bits 18 %, fp32 9 %, "
        "3 bits < 1 %"
    )
    assert found.to_json()["activations"] == {"uint8": 0.7294, "uint4": 0.1799, "fp32": 0.09, "uint3": 0.0007}


def test_a_value_counts_once_though_it_is_converted(graph: Graph) -> None:
    """The residual reads the stem's codes as float32, and the head the projection's float32 as codes."""
    made = compressed(graph, {"match": "project", "precision": "fp32"})
    assert {"dequantize", "quantize"} <= {node.op for node in made.nodes}
    assert sum(shares(made).activations.values()) == sum(MADE.values())
    assert {value.name.partition(":")[0] for value in activations(made)} == set(MADE)


def test_what_is_not_all_is_not_rounded_to_all() -> None:
    found = Shares({INT8: 999, weight_format(4): 1}, {})
    assert str(found) == "weights: 8 bits > 99 %, 4 bits < 1 % · activations: none"
    assert found.activation_bits == 0.0

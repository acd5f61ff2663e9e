"""What the report knows of a network's layers: names, blocks, weights, errors, and the image of it."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from subbyte.execute.reference import run
from subbyte.ir import Graph, Node, Value
from subbyte.metrics.layer_error import layer_sqnr
from subbyte.quant import QTensor, quantize_weight, uniform_levels, weight_format
from subbyte.report.entry import Entry
from subbyte.report.layer_table import error_step, histogram_drawing, layer_rows, time_step, weight_bits
from subbyte.report.layers import Layer, block_name, blocks_of, histogram, layers_of
from subbyte.report.network_graph import network_drawing

SHAPE = (4, 4, 2)


def conv(name: str, source: str, kernel: int = 1, groups: int = 1, residual: str | None = None) -> Node:
    weight = np.random.default_rng(len(name)).normal(size=(2, kernel, kernel, 2 // groups)).astype(np.float32)
    return Node(
        name,
        "conv2d",
        (source,) if residual is None else (source, residual),
        f"{name}.out",
        {"act": "none", "groups": groups, "stride": (1, 1), "pad": (kernel // 2,) * 4},
        {"weight": weight, "bias": np.zeros(2, np.float32)},
    )


@pytest.fixture
def graph() -> Graph:
    """A stem, a block with a residual connection, and a block that reads the stem besides."""
    nodes = (
        conv("stem", "image"),
        conv("blocks.0.expand", "stem.out"),
        conv("blocks.0.depthwise", "blocks.0.expand.out", kernel=3, groups=2),
        conv("blocks.0.project", "blocks.0.depthwise.out", residual="stem.out"),
        conv("blocks.1.expand", "blocks.0.project.out"),
        conv("blocks.1.project", "blocks.1.expand.out", residual="stem.out"),
    )
    names = ["image", *(node.output for node in nodes)]
    return Graph("image", (nodes[-1].output,), {n: Value(n, SHAPE) for n in names}, nodes)


def test_layers_say_what_they_do_and_read(graph: Graph) -> None:
    layers = {layer.name: layer for layer in layers_of(graph)}
    assert layers["blocks.0.depthwise"].label == "3×3 dw"
    assert layers["blocks.0.project"].label == "1×1 +"
    assert layers["blocks.0.project"].inputs == ("blocks.0.depthwise", "stem")
    assert layers["stem"].inputs == ()
    assert layers["stem"].shape == SHAPE


def test_histogram_of_codes_is_of_the_levels() -> None:
    weight = quantize_weight(
        np.array([[-8, -1], [0, 7], [7, 7]], np.float32), np.ones(3, np.float32), weight_format(4)
    )
    found = histogram(weight)
    assert (found.bits, found.low, found.high, found.total) == (4, -8, 7, 6)
    assert dict(enumerate(found.counts, start=-8)) == {
        **dict.fromkeys(range(-8, 8), 0),
        -8: 1,
        -1: 1,
        0: 1,
        7: 3,
    }
    book = np.array([-100, -3, 3, 90], np.int8)
    learned = histogram(
        QTensor(
            np.array([[0, 1, 2, 3]], np.uint8), np.ones(1, np.float32), weight_format(2).with_book(book), book
        )
    )
    assert (learned.low, learned.high, learned.total) == (-100, 90, 4)
    assert [i for i, count in enumerate(learned.counts) if count] == [
        0,
        97 // 3,
        103 // 3,
        190 // 3,
    ]  # 3 a bin
    assert (
        len(
            histogram(
                quantize_weight(np.ones((1, 4), np.float32), np.ones(1, np.float32), weight_format(8))
            ).counts
        )
        == 64
    )


def test_histogram_of_floats_is_symmetric_and_counts_all() -> None:
    found = histogram(np.array([[-0.5, 0.1], [0.2, 2.0]], np.float32))
    assert (found.bits, found.low, found.high, found.total) == (None, -2.0, 2.0, 4)
    assert histogram(np.zeros((2, 2), np.float32)).total == 4
    drawing = ElementTree.fromstring(histogram_drawing(found, "a <layer>"))
    assert drawing.attrib["aria-label"] == "a <layer>: 4 weights, float levels from −2 to 2"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("blocks.2.1.conv_pw", "blocks.2.1"),
        ("features.3.conv.0.0", "features.3"),
        ("layer1.0.conv2", "layer1.0"),
        ("conv_stem", "conv_stem"),
        ("0", "0"),
    ],
)
def test_block_names(name: str, block: str) -> None:
    assert block_name(name) == block


def test_blocks_keep_order_and_join_what_is_left_over(graph: Graph) -> None:
    assert [name for name, _ in blocks_of(layers_of(graph))] == ["stem", "blocks.0", "blocks.1"]
    plain = [Layer(str(i), "conv2d", "", (), (4 - i // 3, 4, 2)) for i in range(5)]
    assert [[layer.name for layer in members] for _, members in blocks_of(plain)] == [
        ["0", "1", "2"],
        ["3", "4"],
    ]
    assert [len(members) for _, members in blocks_of([replace(plain[0], name=str(i)) for i in range(8)])] == [
        6,
        2,
    ]


def test_error_is_the_one_of_the_reference(graph: Graph) -> None:
    """Every second weight doubled from the depthwise layer on: nothing before it differs."""
    image = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    nodes = list(graph.nodes)
    nodes[2] = nodes[2].with_(params={**nodes[2].params, "weight": 2 * np.asarray(nodes[2].params["weight"])})
    changed = replace(graph, nodes=tuple(nodes))
    found = layer_sqnr(changed, graph, image)
    assert found["stem"] == found["blocks.0.expand"] == math.inf
    assert found["blocks.0.depthwise"] == pytest.approx(0.0, abs=1e-12)  # the error is as large as the signal
    name = "blocks.1.project"
    y, other = (run(g, image)[f"{name}.out"].astype(np.float64) for g in (graph, changed))
    expected = 10 * math.log10(np.square(y).sum() / np.square(y - other).sum())
    assert found[name] == pytest.approx(expected, rel=1e-9)
    renamed = replace(graph, nodes=(nodes[0].with_(name="root"), *nodes[1:]))
    assert "root" not in layer_sqnr(renamed, graph, image)


def entry_of(graph: Graph) -> Entry:
    shares = (0.1, 0.4, 0.2, 0.1, 0.1, 0.1)
    plan = [
        {
            "name": node.name,
            "op": node.op,
            "requested": "int4 uint8" if i else "int8 uint8",
            "executed": "int4 uint8" if i else "int8 uint8",
            "weight_bytes": 8,
            "share": share,
        }
        for i, (node, share) in enumerate(zip(graph.nodes, shares, strict=True))
    ]
    sqnr = {"stem": math.inf, "blocks.0.expand": 12.0}
    return Entry("tiny", "w4a8", plan=plan, layers=layers_of(graph), sqnr=sqnr)


def test_rows_join_plan_error_and_sensitivity(graph: Graph) -> None:
    sensitivity = [
        {"kind": "weights", "layer": "stem", "bits": bits, "kl": kl} for bits, kl in ((4, 0.5), (8, 0.25))
    ]
    rows = layer_rows(entry_of(graph), sensitivity)
    assert [(row.bits, row.sqnr, row.kl) for row in rows[:3]] == [
        (8, math.inf, 0.25),
        (4, 12.0, None),
        (4, None, None),
    ]
    assert [time_step(row, 0.4) for row in rows[:3]] == [1, 6, 3]
    assert [error_step(row) for row in rows[:3]] == [0, 5, None]
    assert [
        weight_bits(text)
        for text in ("int4 uint8", "int3+book uint4", "fp32 fp32", "fp16 fp32", "uint8", "fp32")
    ] == [*(4, 3, 32, 16, 0, 0)]


@pytest.mark.parametrize("width", [1080, 312])
def test_the_image_has_a_cell_per_layer_and_fits(graph: Graph, width: float) -> None:
    rows = layer_rows(entry_of(graph))
    layers = layers_of(graph)
    drawing = network_drawing(layers, rows, width, "tiny")
    assert drawing is not None
    assert drawing == network_drawing(layers, rows, width, "tiny")
    svg = ElementTree.fromstring(drawing)
    assert float(svg.attrib["width"]) <= width
    cells = [g for g in svg.iter("g") if g.attrib.get("class", "").startswith("cell")]
    assert [cell.attrib["class"] for cell in cells][:3] == ["cell b8 t1 e0", "cell b4 t6 e5", "cell b4 t3 en"]
    assert (cells[1].findtext("title") or "").splitlines() == [
        *("blocks.0.expand", "1×1 → 4×4×2", "precision int4 uint8", "40.0 % of the time", "SQNR 12.0 dB")
    ]
    assert [box.attrib["class"] for box in svg.findall("rect")] == ["block"] * 3
    heads = [path for path in svg.findall("path") if path.attrib["class"] == "head"]
    assert len(heads) == 3  # stem to blocks.0, blocks.0 to blocks.1, and the stem to blocks.1
    assert network_drawing((), rows, width, "tiny") is None
    fused = ElementTree.fromstring(network_drawing(layers, rows[1:], width, "tiny") or "")
    first = next(g for g in fused.iter("g") if g.attrib.get("class", "").startswith("cell"))
    assert first.attrib["class"] == "cell b0 tn en"
    assert "part of another layer's step" in (first.findtext("title") or "")


def test_levels_of_two_bits() -> None:
    codes = np.array([[0, 1, 2, 3]], np.uint8)
    found = histogram(QTensor(codes, np.ones(1, np.float32), weight_format(2), uniform_levels(2)))
    assert (found.low, found.high, found.counts) == (-2, 1, (1, 1, 1, 1))

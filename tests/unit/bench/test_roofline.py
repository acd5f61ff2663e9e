"""The roofline: bytes and kinds of layers from a small graph, and the page's sums from known times."""

from __future__ import annotations

import math
import random
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench import roofline
from subbyte.benchmark.machine import describe_machine
from subbyte.execute.native import Session
from subbyte.ir import Graph
from tests.fuzz.builder import Builder


def network() -> Graph:
    """One layer of every kind, on 8 x 8 images."""
    b = Builder(random.Random(1), (8, 8, 3))
    x = b.qconv(b.quantize("image"), 16, (3, 3), stride=2, act="relu")
    filtered = b.qconv(x, 16, (3, 3), groups=16, act="relu6")
    projected = b.qconv(b.squeeze_excite(filtered, 4, 8), 16, residual=x)
    pooled = b.add("global_avg_pool", [projected], b.grid())
    return b.finish(b.qlinear(b.flatten(pooled), 10))


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(network(), isa="portable")


def test_layers_of_a_graph(session: Session) -> None:
    plan = session.plan()
    layers = list(roofline.layers_of(session, network(), [1.0] * len(plan)))
    convolutions = [layer for layer in layers if layer.kind != "other"]
    assert [layer.kind for layer in convolutions] == [
        "k × k",
        "depthwise",
        "squeeze-excite",
        "squeeze-excite",
        "squeeze-excite",
        "1 × 1",
        "classifier",
    ]
    stem, depthwise, _, _, _, projection, classifier = convolutions
    weights = {step["name"]: step["weight_bytes"] for step in plan}
    codes = 4 * 4 * 16
    assert stem.macs == codes * 9 * 3
    assert stem.moved == 8 * 8 * 3 + codes + weights[stem.name]
    assert depthwise.moved == codes + codes + weights[depthwise.name]
    # The gate's product is not stored: its two factors are read, and the residual.
    assert "mul" not in [step["op"] for step in plan]
    assert projection.moved == codes + 16 + codes + codes + weights[projection.name]
    assert classifier.moved == 16 + 4 * 10 + weights[classifier.name]  # float32 logits


def test_stages_are_the_first_parts_of_names() -> None:
    names = ("blocks.3.1.conv_dw", "blocks.3.2.se.conv_reduce", "conv_stem", "input.quantize")
    stages = [roofline.Layer(name, "other", 0, 1, 0.0).stage for name in names]
    assert stages == ["blocks.3", "blocks.3", "conv_stem", "input"]


def profile(*layers: roofline.Layer, load: float = 1.0) -> roofline.Profile:
    host = describe_machine().model_copy(update={"load_before": load})
    return roofline.Profile("net w8a8", "avx2", 7, layers, 0.004, 100.0, host, "abc")


SVG = "{http://www.w3.org/2000/svg}"
LAYERS = (
    roofline.Layer("stem", "k × k", 50_000_000, 500_000, 0.001),
    roofline.Layer("blocks.1.0.a", "1 × 1", 10_000_000, 1_000_000, 0.0005),
    roofline.Layer("blocks.1.1.a", "1 × 1", 30_000_000, 1_000_000, 0.0015),
    roofline.Layer("pool", "other", 0, 1_000, 0.0005),
)


def test_rows_of_the_page() -> None:
    text = roofline.render(profile(*LAYERS), "plot.svg")
    # 40 MMAC at 100 GMAC/s take 400 of 2000 microseconds, which are 2000 of 3500 in all.
    assert "| blocks.1 | 1 × 1 | 2 | 40.0 | 20.0 | 2000 | 400 | 20 | 57.1 |\n" in text
    assert "| pool | other | 1 | 0.0 | 0.0 | 500 | 0 | 0 | 14.3 |\n" in text
    assert "| all | all | 4 | 90.0 | 36.0 | 3500 | 900 | 26 | 100.0 |\n" in text
    assert "Most time above the floor: blocks.1 1 × 1 (1.60 ms), stem k × k (0.50 ms), pool" in text
    assert "](plot.svg)" in text
    assert "Disturbed" not in text
    assert "Disturbed" in roofline.render(profile(*LAYERS, load=2.0), "plot.svg")


def test_the_plot_has_a_dot_per_layer_with_products() -> None:
    plot = ElementTree.fromstring(roofline.plot(profile(*LAYERS)))
    dots = {e[0].text: e.attrib for e in plot.iter(SVG + "circle")}
    assert [str(title).partition(":")[0] for title in dots] == ["blocks.1.1.a", "stem", "blocks.1.0.a"]
    stem = dots["stem: 1000.0 µs, 50 GMAC/s"]
    # 100 MAC/byte: on the tick's line. 50 GMAC/s: below the roof, and above 10.
    ticks = {e.text: float(e.attrib["x"]) for e in plot.iter(SVG + "text") if e.attrib["y"] == "457.0"}
    assert float(stem["cx"]) == ticks["100"]
    lines = [e.attrib for e in plot.iter(SVG + "line")]
    roof = next(float(e["y1"]) for e in lines if e["stroke-width"] == "2")
    left = [e for e in plot.iter(SVG + "text") if e.attrib["text-anchor"] == "end"]
    ten = next(float(e.attrib["y"]) for e in left if e.text == "10") - 4  # a tick's text is 4 pixels lower
    np.testing.assert_allclose(
        ten - float(stem["cy"]), (ten - roof) * np.log10(5), atol=0.2
    )  # printed to 0.1


def test_measuring_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "PEAK_SECONDS", 0.001)
    result = roofline.measure(network(), "small", runs=2)
    assert len(result.layers) == len(Session(network()).plan())
    assert min(layer.seconds for layer in result.layers) >= 0
    assert result.run_seconds >= math.fsum(layer.seconds for layer in result.layers)
    assert result.peak > 0
    assert "small" in roofline.render(result, "x.svg")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.subbyte")
    for arguments in (["vgg16"], [missing], [missing, "--runs", "0"]):
        assert roofline.main([*arguments, "--output", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line[:7] for line in lines] == ["error: "] * 3
    assert "'vgg16' is neither an artifact" in lines[0]
    assert "none.subbyte" in lines[1]
    assert "runs must be at least 1" in lines[2]

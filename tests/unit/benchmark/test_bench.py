"""The protocol: garbage is refused, figures follow from samples, the result survives JSON."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.artifact import Artifact, save
from subbyte.benchmark import bench as bench_module
from subbyte.benchmark import candidate as candidate
from subbyte.benchmark import footprint as footprint_module
from subbyte.benchmark.bench import bench
from subbyte.benchmark.candidate import Candidate, is_exact, verify_candidates, weight_precision
from subbyte.benchmark.engine_file import EngineFile
from subbyte.benchmark.peers import load_peers
from subbyte.benchmark.result import BenchResult, Spread
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.execute.native.executed import executed_macs
from subbyte.execute.reference import run as reference_run
from subbyte.ir import Graph, Node, Value, macs, verify
from subbyte.ir.graph import Param
from subbyte.metrics.output_check import CENTRED_FROM, Check, check
from subbyte.passes.dequantize import dequantize_graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QParams, quantize_bias, quantize_weight, weight_format
from subbyte.system.interleave import Samples
from tests.fuzz.builder import Builder

X, A, P = QParams(0.03125, 128), QParams(0.03125, 0), QParams(0.015625, 0)
SHAPE = (12, 10, 3)
HALF = (0.5, 0.5, 0.5)


def layer(
    name: str, op: str, x: str, y: str, q: QParams, shape: tuple[int, ...], act: str, attrs: dict[str, object]
) -> Node:
    rng = np.random.default_rng(len(name))
    weight = rng.normal(0, 0.3, shape).astype(np.float32)
    scale = (np.abs(weight).reshape(shape[0], -1).max(axis=1) / 7).astype(np.float32)
    params: dict[str, Param] = {
        "weight": quantize_weight(weight, scale, weight_format(4)),
        "bias": quantize_bias(rng.normal(0, 0.2, shape[0]).astype(np.float32), q, scale),
    }
    return Node(name, op, (x,), y, {"act": act, **attrs}, params)


def network() -> Graph:
    """quantize, 3x3 convolution, pool, classifier with float32 logits; 4-bit weights."""
    window = {"stride": (2, 2), "pad": (1, 1, 1, 1), "groups": 1}
    nodes = (
        Node("q", "quantize", ("x",), "codes"),
        layer("conv", "conv2d", "codes", "a", X, (8, 3, 3, 3), "relu", window),
        Node("pool", "global_avg_pool", ("a",), "p"),
        Node("flat", "flatten", ("p",), "f"),
        layer("head", "linear", "f", "logits", P, (5, 8), "none", {}),
    )
    values = (
        Value("x", SHAPE),
        Value("codes", SHAPE, X),
        Value("a", (6, 5, 8), A),
        Value("p", (1, 1, 8), P),
        Value("f", (8,), P),
        Value("logits", (5,)),
    )
    return verify(Graph("x", ("logits",), {v.name: v for v in values}, nodes))


def artifact() -> Artifact:
    return Artifact(network(), {}, Preprocessing(12, 10, HALF, HALF))


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numpy reference in place of the native engine."""

    def load(source: object, **_: object) -> Candidate:
        assert isinstance(source, Artifact)
        return executing("subbyte", "w4a8", source.graph, source.graph)

    monkeypatch.setattr(bench_module, "from_artifact", load)


def executing(name: str, precision: str, graph: Graph, stands_for: Graph | None) -> Candidate:
    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(reference_run(graph, x)[n] for n in graph.outputs)

    return candidate_of(name, precision, run, stands_for)


def candidate_of(
    name: str, precision: str, run: Callable[[np.ndarray], Any], stands_for: Graph | None = None
) -> Candidate:
    def write(folder: Path) -> EngineFile:
        raise AssertionError(f"nobody asked for the file of {name} in {folder}")

    return Candidate(
        name, precision, "1", 10, run, lambda x: lambda: run(x), lambda x: x, write, graph=stands_for
    )


def test_the_share_of_the_peak_is_of_products_that_are_executed() -> None:
    b = Builder(random.Random(1), (14, 14, 3))
    x = b.qconv(b.quantize("image"), 256, act="relu")
    graph = b.finish(b.add("dequantize", [b.qconv(x, 256, pattern="4x16:25")]))
    work = sum(macs(graph).values())
    executed = sum(executed_macs(step) for step in Session(graph).plan())
    result = bench(Artifact(graph, {}, Preprocessing(14, 14, HALF, HALF)), seconds=0)
    (timing,) = result.timings
    assert result.macs == work
    assert timing.isa is not None
    share = timing.gmac_per_second * executed / work / result.peak_gmacs[timing.isa]
    assert timing.peak == pytest.approx(share, rel=1e-12)
    if timing.isa == "avx512vnni":
        assert executed < 0.3 * work


def test_against_every_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert"):
        pytest.importorskip(package)
    path = tmp_path / "m.subbyte"
    save(path, artifact())
    monkeypatch.setattr(footprint_module, "REPEATS", 1)
    lines: list[str] = []
    result = bench(
        path,
        ["onnxruntime", "openvino-int8", "litert-int8"],
        seconds=0,
        footprints=True,
        streams=1,
        cache=tmp_path / "c",
        notify=lines.append,
    )
    assert [(t.name, t.precision, t.peer) for t in result.timings] == [
        ("subbyte", "w4a8", False),
        ("onnxruntime", "fp32", True),
        ("onnxruntime", "int8", True),
        ("openvino", "int8", True),
        ("litert", "int8", True),
    ]
    ours = result.timings[0]
    assert ours.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert ours.file_bytes == path.stat().st_size
    assert ours.check.equal
    assert ours.isa in result.peak_gmacs
    assert ours.peak is not None
    assert 0 < ours.peak < 1
    assert result.macs == 30 * 8 * 27 + 40
    assert result.best_peer in {"onnxruntime-fp32", "onnxruntime-int8", "openvino-int8", "litert-int8"}
    best = next(t for t in result.timings if f"{t.name}-{t.precision}" == result.best_peer)
    assert best.ratio == Spread(min=1, p10=1, median=1, p90=1)
    assert (result.images, result.threads, result.batch) == ("synthetic", 1, 1)
    assert len(lines) == 3 + 5 + 1
    for t in result.timings:
        assert t.load_ms is not None
        assert t.load_ms > 0
        assert t.resident_bytes is None or t.resident_bytes > 1e6  # an engine's own code is larger
        assert t.images_per_second is not None
        assert t.images_per_second.min > 0
    assert result.streams == 1
    assert BenchResult.from_json(result.to_json()) == result


@pytest.mark.usefixtures("no_engine")
def test_batches_and_given_images() -> None:
    images = synthetic_images(SHAPE, 7)
    result = bench(artifact(), batch=3, images=images, seconds=0)
    assert result.timings[0].check.images == 3
    assert result.images == "given"
    assert result.best_peer is None
    assert result.timings[0].ratio is None
    assert (result.streams, result.timings[0].load_ms, result.timings[0].images_per_second) == (None,) * 3
    assert bench(artifact(), batch=1, images=images, seconds=0).timings[0].check.images == 2
    with pytest.raises(InputError, match="with N >= 8, got float32"):
        bench(artifact(), batch=8, images=images, seconds=0)
    with pytest.raises(InputError, match="at least one artifact"):
        bench([], seconds=0)


@pytest.mark.usefixtures("no_engine")
def test_figures_follow_from_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dequantize_graph(network())
    fake = {
        "subbyte": Samples((np.array([1.0, 2.0, 9.0]), np.array([4.0, 4.0, 4.0])), np.array([1.0, 3.0])),
        "slow": Samples((np.array([8.0, 8.0, 8.0]), np.array([8.0, 8.0, 8.0])), np.array([8.0, 8.0])),
        "fast": Samples((np.array([6.0, 6.0, 6.0]), np.array([2.0, 2.0, 2.0])), np.array([4.0, 4.0])),
    }
    monkeypatch.setattr(bench_module, "load_peers", lambda *_, **__: ["slow", "fast"])
    monkeypatch.setattr(bench_module, "from_peer", lambda name: executing(name, "fp32", real, None))
    monkeypatch.setattr(bench_module, "interleave", lambda *_: list(fake.values()))
    result = bench(artifact(), ["slow", "fast"])
    ours, slow, fast = result.timings
    assert result.best_peer == "fast-fp32"  # median 4 s against 8 s
    assert ours.ms == Spread(min=1000, p10=1500, median=4000, p90=6500)
    assert ours.round_ms == (2000, 4000)
    assert ours.cpu_ms == Spread.of(np.array([1000.0, 3000.0]))
    assert ours.ratio == Spread.of(np.array([6 / 2, 2 / 4]))
    assert slow.ratio == Spread.of(np.array([6 / 8, 2 / 8]))
    assert ours.calls == 6
    assert ours.gmac_per_second == pytest.approx(result.macs / 4 / 1e9)
    assert [row["name"] for row in result.rows()] == ["subbyte", "fast", "slow"]
    assert result.rows()[0]["top1"] == "2/2"
    assert fast.fidelity is None


def test_a_candidate_that_computes_something_else_is_refused() -> None:
    graph, x = network(), synthetic_images(SHAPE, 2)
    real = dequantize_graph(graph)
    good = executing("peer", "fp32", real, None)
    assert verify_candidates([good], real, x, 1)[0].own.correlation > 0.999999

    def flipped(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(-y for y in good.run(x))

    for precision in ("fp32", "bf16", "int8"):
        bad = candidate_of("peer", precision, flipped)
        first, second = verify_candidates([good, bad], real, x, 1)
        assert first.fault is None
        assert second.fault is not None
        assert second.fault.startswith("computes something else than its network (correlation -1.0000, ")
        assert second.fault.endswith("the same best class on 0 of 2 images)")
    bad = candidate_of("subbyte", "w4a8", flipped, graph)
    with pytest.raises(InputError, match="nothing was timed"):
        verify_candidates([good, bad], real, x, 1)


@pytest.mark.usefixtures("no_engine")
def test_a_peer_that_computes_something_else_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    real = dequantize_graph(network())
    good = executing("good", "fp32", real, None)
    bad = candidate_of("bad", "int8", lambda x: tuple(-y for y in good.run(x)))
    peers = {"bad": bad, "good": good}
    monkeypatch.setattr(bench_module, "load_peers", lambda *_, **__: list(peers))
    monkeypatch.setattr(bench_module, "from_peer", peers.__getitem__)
    told: list[str] = []
    result = bench(artifact(), list(peers), seconds=0, notify=told.append)
    assert [t.name for t in result.timings] == ["subbyte", "good"]
    assert result.best_peer == "good-fp32"
    (skipped,) = result.skipped
    assert (skipped.name, skipped.precision, skipped.check.top1) == ("bad", "int8", 0)
    assert skipped.reason in next(line for line in told if "bad-int8 is skipped" in line)
    assert BenchResult.from_json(result.to_json()) == result
    monkeypatch.setattr(bench_module, "load_peers", lambda *_, **__: ["bad"])
    alone = bench(artifact(), ["bad"], seconds=0)
    assert (alone.best_peer, len(alone.timings), len(alone.skipped)) == (None, 1, 1)


def test_an_artifact_is_held_to_its_own_integers() -> None:
    """The float network is near, and yet it may not pass for a quantized artifact."""
    graph, x = network(), synthetic_images(SHAPE, 4)
    real = dequantize_graph(graph)
    ours, impostor = (executing("subbyte", "w4a8", g, graph) for g in (graph, real))
    assert verify_candidates([ours], real, x, 2)[0].own.equal
    assert verify_candidates([executing("peer", "bf16", graph, None)], real, x, 2)[0].own.correlation > 0.9
    with pytest.raises(InputError, match="differs from the reference that it should equal"):
        verify_candidates([impostor], real, x, 2)


def test_float_layers_may_round_otherwise() -> None:
    real, x = dequantize_graph(network()), synthetic_images(SHAPE, 2)
    assert is_exact(network())
    assert not is_exact(real)

    def rounded(x: np.ndarray) -> tuple[np.ndarray, ...]:
        (y,) = reference_run(real, x).values()
        return (y * np.float32(1 + 2**-20),)

    inexact = candidate_of("subbyte", "fp32", rounded, real)
    assert not verify_candidates([inexact], real, x, 1)[0].own.equal


def test_check() -> None:
    y = np.random.default_rng(0).normal(size=(2, CENTRED_FROM)).astype(np.float32)
    same = check([y], [y])
    assert (same.top1, same.images, same.equal) == (2, 2, True)
    assert same.correlation == pytest.approx(1.0)
    assert check([2 * y + 1], [y]).correlation == pytest.approx(1.0)
    worst = check([np.stack([y[0], -y[1]])], [y])
    assert worst.correlation == pytest.approx(-1.0)
    assert (worst.top1, worst.equal) == (1, False)
    assert check([np.full_like(y, np.nan)], [y]).correlation == 0.0
    assert check([np.ones_like(y)], [y]).correlation == 0.0
    assert check([np.zeros_like(y)], [np.zeros_like(y)]).correlation == 1.0


def test_check_of_several_and_of_tiny_outputs() -> None:
    points, score = synthetic_images((7, 3, 1), 2), np.array([[4000.0], [2000.0]], np.float32)
    expected = [points, score]
    assert check([points, score], expected).correlation == pytest.approx(1.0)
    assert check([-points, score], expected).correlation < 0.5, "a large score hides nothing"
    assert check([score], [score]).correlation == pytest.approx(1.0)
    assert check([-score], [score]).correlation == pytest.approx(-1.0)


def test_precision_of_a_graph() -> None:
    assert weight_precision(network()) == "w4a8"
    assert weight_precision(dequantize_graph(network())) == "fp32"


def test_json_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="no benchmark result"):
        BenchResult.from_json('{"format": 1}')
    with pytest.raises(InputError, match="no benchmark result"):
        BenchResult.from_json("nonsense")


@pytest.mark.usefixtures("no_engine")
def test_json_of_a_later_format_is_refused(tmp_path: Path) -> None:
    result = bench(artifact(), seconds=0)
    result.save(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert BenchResult.from_json(text) == result
    later = json.dumps({**json.loads(text), "format": 2})
    with pytest.raises(InputError, match="format 2"):
        BenchResult.from_json(later)


def test_synthetic_images() -> None:
    a, b = (synthetic_images((40, 30, 3), 2, seed=s) for s in (0, 1))
    assert a.shape == (2, 40, 30, 3)
    assert a.dtype == np.float32
    assert np.array_equal(a, synthetic_images((40, 30, 3), 2, seed=0))
    assert not np.array_equal(a, b)
    assert a.std() == pytest.approx(1, abs=1e-5)
    # neighbours resemble each other, as in photographs and unlike in noise
    assert np.corrcoef(a[:, 1:].ravel(), a[:, :-1].ravel())[0, 1] > 0.5


def test_every_precision_of_a_peer_has_a_limit() -> None:
    from subbyte.benchmark.peers import ENGINES

    assert {p for precisions in ENGINES.values() for p in precisions} <= set(candidate.LEAST_CORRELATION)
    assert load_peers(dequantize_graph(network()), []) == []


def test_results_of_the_first_version_are_read() -> None:
    check = Check.model_validate({"correlation": 1.0, "top1": 2, "pictures": 3, "equal": True})
    assert (check.images, "images" in check.model_dump()) == (3, True)

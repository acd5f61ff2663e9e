"""The peers run the network they are given, in the precision they claim."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from subbyte.benchmark import litert_peer, onnxruntime_peer, openvino_peer
from subbyte.benchmark.peers import load_peers, peer_names
from subbyte.benchmark.quantized_cache import cache_key, cached_file
from subbyte.errors import InputError
from subbyte.execute.reference import run
from subbyte.ir import Graph, Node, Value, verify

for package in ("onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert"):
    pytest.importorskip(package)


def network() -> Graph:
    """Convolution, depthwise, pool, classifier; hard-coded seed 0."""
    rng = np.random.default_rng(0)

    def conv(name: str, x: str, y: str, channels: int, groups: int, act: str, out: int = 16) -> Node:
        weight = rng.normal(0, 0.3, (out, 3, 3, channels // groups)).astype(np.float32)
        params = {"weight": weight, "bias": rng.normal(0, 0.1, out).astype(np.float32)}
        attrs = {"stride": (2, 2), "pad": (1, 1, 1, 1), "groups": groups, "act": act}
        return Node(name, "conv2d", (x,), y, attrs, params)

    head = {"weight": rng.normal(0, 0.3, (7, 16)).astype(np.float32), "bias": np.zeros(7, np.float32)}
    nodes = (
        conv("stem", "x", "a", 3, 1, "silu"),
        conv("dw", "a", "b", 16, 16, "relu6"),
        Node("pool", "global_avg_pool", ("b",), "c"),
        Node("flat", "flatten", ("c",), "d"),
        Node("head", "linear", ("d",), "e", {"act": "none"}, head),
    )
    shapes = {"x": (16, 12, 3), "a": (8, 6, 16), "b": (4, 3, 16), "c": (1, 1, 16), "d": (16,), "e": (7,)}
    return verify(Graph("x", ("e",), {n: Value(n, s) for n, s in shapes.items()}, nodes))


def images(count: int = 8) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 16, 12, 3)).astype(np.float32)


#: Noise energy over signal energy. fp32: sums of at most 29 terms, 2**-24 each, in 4 layers. bf16: 2**-8
#: in amplitude per layer, 3 layers. int8: 10 dB; the tools clip what lies outside the ranges they saw.
#: Another network (layout or weights mixed up) has about 0 dB.
NOISE = {"fp32": (4 * 29 * 2.0**-24) ** 2, "bf16": (3 * 2.0**-8) ** 2, "int8": 0.1}


@pytest.mark.parametrize("batch", [1, 2])
def test_every_peer_computes_the_network(
    batch: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph, x = network(), images()
    names = ["onnxruntime", "openvino", "litert"]
    peers = load_peers(graph, names, batch=batch, calibration=[images()], cache=tmp_path)
    bf16 = ["openvino-bf16"] if openvino_peer.has_bf16() else []
    labels = ["onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", *bf16, "openvino-int8"]
    labels += ["litert-fp32", "litert-int8"]
    assert [p.label for p in peers] == labels
    expected = run(graph, x)["e"]
    for peer in peers:
        actual = np.concatenate([peer(x[i : i + batch]) for i in range(0, len(x), batch)])
        noise = float(np.square(actual - expected).sum() / np.square(expected).sum())
        assert noise <= NOISE[peer.precision], peer
        assert peer.precision == "fp32" or noise > NOISE["fp32"], f"{peer.label} seems to be float32"
        assert peer.version[0].isdigit()
        assert peer.file_bytes > 1000
    assert capfd.readouterr() == ("", "")


def test_quantized_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> list[np.ndarray]:
        names = ["onnxruntime-int8", "openvino-int8", "litert-int8"]
        peers = load_peers(network(), names, calibration=[images()], cache=tmp_path)
        return [np.array(p(images(1))) for p in peers]

    first = load()
    for module in (onnxruntime_peer, openvino_peer, litert_peer):
        monkeypatch.setattr(module, "_quantize", lambda *_: pytest.fail("quantized again"))
    for a, b in zip(first, load(), strict=True):
        assert np.array_equal(a, b)


def test_ranges_and_presets_reach_the_tools(tmp_path: Path) -> None:
    def outputs(**options: str) -> list[np.ndarray]:
        names = ["onnxruntime-int8", "openvino-int8"]
        peers = load_peers(network(), names, calibration=[images()], **options)  # type: ignore[arg-type]
        return [np.array(p(images(1))) for p in peers]

    default = outputs()
    other = outputs(onnxruntime_method="percentile", openvino_preset="mixed")
    assert not any(np.array_equal(a, b) for a, b in zip(default, other, strict=True))


def test_names() -> None:
    assert peer_names(["openvino-int8", "onnxruntime", "onnxruntime-int8"]) == [
        ("openvino", "int8"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ]
    assert load_peers(network(), []) == []
    for bad in ("tvm", "onnxruntime-bf16", ""):
        with pytest.raises(InputError, match="unknown peer"):
            peer_names([bad])


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime-int8", "openvino-int8", "litert-int8"):
        with pytest.raises(InputError, match="calibration images"):
            load_peers(network(), [name])
    with pytest.raises(InputError, match="do not fill one batch of 9"):
        load_peers(network(), ["onnxruntime-int8"], batch=9, calibration=[images()])
    with pytest.raises(InputError, match="not one of minmax"):
        load_peers(network(), ["onnxruntime-int8"], calibration=[images()], onnxruntime_method="max")
    with pytest.raises(InputError, match="not one of performance"):
        load_peers(network(), ["openvino-int8"], calibration=[images()], openvino_preset="fast")
    engines = {
        "onnx": "onnxruntime",
        "onnxruntime": "onnxruntime",
        "openvino": "openvino",
        "nncf": "openvino",
    }
    for package, engine in (engines | {"ai_edge_litert": "litert"}).items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(InputError, match=r"pip install subbyte\[peers\]"):
                load_peers(network(), [f"{engine}-int8"], calibration=[images()])


def test_bf16_is_left_out_where_the_cpu_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_peer, "has_bf16", lambda: False)
    peers = load_peers(network(), ["openvino"], calibration=[images()])
    assert [p.precision for p in peers] == ["fp32", "int8"]
    with pytest.raises(InputError, match="no bfloat16"):
        load_peers(network(), ["openvino-bf16"])


def test_a_failure_inside_an_engine_becomes_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("at core.cpp:117\nobject is not initialized\n\n")

    monkeypatch.setattr(openvino_peer, "_peer", fails)
    with pytest.raises(InputError, match=r"^openvino-fp32 cannot run .*object is not initialized; leave"):
        load_peers(network(), ["openvino-fp32"])


def test_cache_key_depends_on_everything() -> None:
    arrays = [images(2), images(3)]
    settings = {"tool": "a", "version": "1"}
    keys = {
        cache_key(b"m", arrays, settings),
        cache_key(b"n", arrays, settings),
        cache_key(b"m", arrays[:1], settings),
        cache_key(b"m", [arrays[0] + 1, arrays[1]], settings),
        cache_key(b"m", arrays, {**settings, "version": "2"}),
    }
    assert len(keys) == 5
    assert cache_key(b"m", arrays, dict(reversed(settings.items()))) in keys


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), cached_file(tmp_path, "a.onnx", fails):
        pass
    assert list(tmp_path.iterdir()) == []
    with cached_file(tmp_path, "a.onnx", lambda p: p.write_text("whole")) as path:  # type: ignore[arg-type]
        assert path.read_text() == "whole"
    with cached_file(None, "a.onnx", lambda p: p.write_text("once")) as path:  # type: ignore[arg-type]
        scratch = path
    assert not scratch.exists()

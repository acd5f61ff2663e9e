"""What an artifact computes in other runtimes beside its own engine, image by image.

    python -m bench.exported ARTIFACT IMAGES.npy onnxruntime onnxruntime-fused openvino litert ...

IMAGES.npy: float32 [N, H, W, C], preprocessed. Behind a runtime's name, "-ranges": with ranges of these
images, "-fused": with fused residuals, "-exact": rounded as the artifact is. Prints a line per runtime: on
how many images the best class is the same, the root mean square and the largest difference of the outputs,
and of the codes that the last layer reads the share that is equal, and the largest difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from subbyte.artifact import load
from subbyte.benchmark.litert_peer import _interpreter, _runner
from subbyte.execute.native import Session
from subbyte.exporters.grids import Ranges
from subbyte.exporters.onnx import to_nchw, to_nhwc
from subbyte.exporters.qdq import to_qdq
from subbyte.exporters.ranges import observe_ranges
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import Graph
from subbyte.ir.graph import producers
from subbyte.system.imports import peer_module

Run = Callable[[np.ndarray], list[np.ndarray]]


def onnxruntime(model: bytes) -> Run:
    """One image [1, H, W, C] to the outputs, channels last, on one thread."""
    module = peer_module("onnxruntime")
    options = module.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = module.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: [to_nhwc(y) for y in session.run(None, {name: to_nchw(x)})]


def openvino(model: bytes) -> Run:
    """As `onnxruntime`."""
    core = peer_module("openvino").Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda x: [to_nhwc(np.array(y)) for y in compiled(to_nchw(x)).values()]


def opened(name: str, graph: Graph, ranges: Ranges) -> Run:
    """The runtime, with the graph."""
    engine, *words = name.split("-")
    if engine == "litert":
        real = {y: ends for y, ends in ranges.items() if "ranges" in words or y in graph.outputs}
        run = _runner(_interpreter(1, model_content=to_tflite(graph, ranges=real)))
        return lambda x: [np.array(y) for y in run(x)]
    given = ranges if "ranges" in words else None
    model = to_qdq(
        graph, ranges=given, fused_residuals="fused" in words, exact="exact" in words
    ).SerializeToString()
    return {"onnxruntime": onnxruntime, "openvino": openvino}[engine](model)


def main(artifact: str, file: str, *names: str) -> None:
    """Prints the lines."""
    graph, images = load(artifact).graph, np.load(file)
    result = graph.outputs[0]
    codes = producers(graph)[result].inputs[0]
    graph = replace(graph, outputs=(result, codes))
    grid = graph.value(codes).grid
    ranges = observe_ranges(graph, [images[i : i + 8] for i in range(0, len(images), 8)])

    def all_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
        results = [run(images[i : i + 1]) for i in range(len(images))]
        real, last = (np.concatenate(arrays) for arrays in zip(*results, strict=True))
        return real, grid.quantize(last).astype(np.int32)

    session = Session(graph)
    expected, ours = all_of(lambda x: list(session.run(x)))
    for name in names:
        real, theirs = all_of(opened(name, graph, ranges))
        same = int((real.argmax(axis=1) == expected.argmax(axis=1)).sum())
        error, apart = np.abs(real - expected), np.abs(theirs - ours)
        rms, equal = np.sqrt(np.square(error).mean()), 100 * (apart == 0).mean()
        classes = f"{name}: best class {same} of {len(images)}"
        outputs = f"outputs {rms:.4f} rms, {error.max():.3f} at most, of {expected.std():.2f}"
        print(f"{classes}; {outputs}; {equal:.1f} % equal codes, {apart.max()} at most", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How far each layer's output is from the baseline's on the same images, both run by the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from subbyte.execute.reference.executor import run_node
from subbyte.ir import Graph


def layer_sqnr(graph: Graph, baseline: Graph, images: np.ndarray) -> dict[str, float]:
    """Signal over quantization noise of the layers' outputs, dB, by name: 10 log10(Σ y² / Σ (y - ŷ)²)
    over all numbers of all images, infinite where both are equal.

    images: float32 [N, H, W, C], preprocessed. Layers are matched by name and shape; others, and those
    whose baseline output is 0 everywhere, are left out. The error is the accumulated one: a layer reads
    what the layers before it made of the image.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    common = {node.name for node in graph.nodes} & {node.name for node in baseline.nodes}
    for image in images:
        expected = _outputs(baseline, image[None])
        ahead: dict[str, np.ndarray] = {}  # empty as long as both have the same order
        for name, actual in _outputs(graph, image[None]):
            if name not in common:
                continue
            while name not in ahead:
                other, value = next(expected)
                if other in common:
                    ahead[other] = value
            y = ahead.pop(name)
            if y.shape == actual.shape:
                signal[name] = signal.get(name, 0.0) + float(np.square(y).sum())
                noise[name] = noise.get(name, 0.0) + float(np.square(y - actual).sum())
    return {
        name: math.inf if noise[name] == 0 else 10 * math.log10(power / noise[name])
        for name, power in signal.items()
        if power > 0
    }


def _outputs(graph: Graph, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each node's name and what it makes, as real numbers, float64; what nobody reads any more is dropped."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    values = {graph.input: x}
    for i, node in enumerate(graph.nodes):
        y = run_node(graph, node, [values[name] for name in node.inputs])
        values[node.output] = y
        for name in {*node.inputs, node.output}:
            if last.get(name, -1) <= i:
                del values[name]
        q = graph.value(node.output).q
        yield node.name, (y if q is None else q.dequantize(y)).astype(np.float64)

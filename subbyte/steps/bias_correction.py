"""Moves biases so that every layer's output is, on average, the float network's again.

The empirical correction of "Data-Free Quantization through Weight Equalization and Bias
Correction" (Nagel et al., arXiv 1906.04721, section 4.2 and appendix D): layer by layer, with all
layers before already quantized and corrected, so that each also takes up their remaining shift.

One thing is different. There the shift is the mean error of the sum before the activation f. With
SiLU most sums lie where f is flat and errors do not matter, but a shift that serves them moves the
few that matter: on EfficientNetV2-B0 that plain mean does more harm than good. Here every error is
weighted by f'(p)², p being the float network's sum. This is the shift with the least squared error
behind the activation, to first order: argmin_d Σ (f'(p) · (p − p̂ − d))².
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.ops import OPS
from subbyte.execute.torch.step import Step, accumulate, per_channel, step_of
from subbyte.execute.torch.straight_through import slope
from subbyte.ir import Graph, Node
from subbyte.ir.limits import peak_live_bytes
from subbyte.quant import QTensor
from subbyte.quant.bias import LARGEST_TRAINED
from subbyte.quantize.calibrate import BATCH, Progress
from subbyte.quantize.prepare import exposed, pre_value
from subbyte.steps.context import Context

#: Weight of an error where the activation is flat; decides for channels that are never active.
FLAT = 1e-4
#: Memory for the values of all images at once, while biases are corrected layer by layer.
LAYERWISE_BYTES = 1 << 30


def run(context: Context) -> Graph:
    """The quantized graph with corrected biases."""
    images = fewer(context.teacher, context.images)
    return correct_biases(context.graph, context.teacher, images, context.progress)


def fewer(graph: Graph, images: np.ndarray) -> np.ndarray:
    """An even selection of the images whose values, all at once, fit LAYERWISE_BYTES."""
    # the values of this graph and, a byte each, those of the quantized one
    most = max(8, LAYERWISE_BYTES * 4 // (5 * peak_live_bytes(graph)))
    stride = 1
    while len(images) > most * stride:
        stride *= 2
    return images[::stride]


def correct_biases(
    graph: Graph, original: Graph, images: np.ndarray, progress: Progress, *, shrink: bool = False
) -> Graph:
    """The quantized `graph` with corrected biases; `original` is the float graph it came from.

    images: float32 [N, H, W, C]. Node names of both graphs agree. Both networks run side by side,
    one layer at a time on all images. shrink: see `corrected`.
    """
    exact = Walk(exposed(original), images)
    walk = Walk(graph, images)
    nodes: list[Node] = []
    with torch.no_grad(), torch_executor.exact_convolutions():
        for done, node in enumerate(graph.nodes, 1):
            if isinstance(node.params.get("weight"), QTensor):
                wanted = exact.until(pre_value(original.node(node.name)))
                node = corrected(walk.step(node), walk.live[node.inputs[0]], wanted, shrink=shrink)
                walk.state[f"{node.name}:bias"] = torch.from_numpy(
                    np.asarray(node.params["bias"], np.float64)
                )
            walk.execute(node)
            nodes.append(node)
            progress("bias_correction", done)
    return replace(graph, nodes=tuple(nodes))


class Walk:
    """Executes a graph node by node on all images; codes are kept as bytes."""

    def __init__(self, graph: Graph, images: np.ndarray) -> None:
        self.graph = graph
        self.state = torch_executor.state_of(graph)
        self.live: dict[str, Tensor] = {graph.input: torch_executor.nchw(images)}
        self.last_use = {name: node.name for node in graph.nodes for name in node.inputs}
        self.pending = iter(graph.nodes)

    def step(self, node: Node) -> Step:
        """A node with its values and the state, for the torch operations."""
        return step_of(self.graph, node, self.state)

    def execute(self, node: Node) -> Tensor:
        """Runs the next node, frees what nothing reads any more, and returns the output."""
        step, arrays = self.step(node), [self.live[name] for name in node.inputs]
        kept = torch.float32 if step.output.q is None else torch.uint8
        parts = [
            OPS[node.op].run(step, [a[i : i + BATCH].float() for a in arrays]).to(kept)
            for i in range(0, len(arrays[0]), BATCH)
        ]
        result = torch.cat(parts)
        if node.output in self.last_use:
            self.live[node.output] = result
        for name in {n for n in node.inputs if self.last_use[n] == node.name}:
            del self.live[name]
        return result

    def until(self, value: str) -> Tensor:
        """Runs pending nodes up to the one that makes `value`, which is returned."""
        for node in self.pending:
            result = self.execute(node)
            if node.output == value:
                return result
        raise KeyError(value)


def corrected(step: Step, x: Tensor, wanted: Tensor, *, shrink: bool = False) -> Node:
    """The node with the bias that brings its sums, read from codes x, closest to `wanted`.

    shrink: take less of a shift that these images know badly: m²/(m² + e²) of a mean m with the
    standard error e between images. Layers behind a pool have one position per image, so that a
    few images say little about their mean.
    """
    weight, bias = step.node.params["weight"], step.node.params["bias"]
    assert isinstance(weight, QTensor)
    assert isinstance(bias, np.ndarray)
    unit = np.float64(step.inputs[0].grid.scale) * weight.scale.astype(np.float64)
    errors, totals = [], []
    for codes, exact in zip(x.split(BATCH), wanted.split(BATCH), strict=True):
        sums = accumulate(step, codes.float()).float()
        real = sums * per_channel(torch.from_numpy(unit.astype(np.float32)).to(sums.device), sums)
        importance = slope(step.node.attrs["act"], exact).square() + FLAT
        errors.append(_channel_sums((exact - real) * importance))
        totals.append(_channel_sums(importance))
    error, total = torch.cat(errors), torch.cat(totals)
    mean = error.sum(0) / total.sum(0)
    if shrink:
        variance = (error - mean * total).square().sum(0) / total.sum(0).square()
        mean = mean * (mean.square() / (mean.square() + variance).clamp(min=1e-300))
    shift = np.rint(mean.cpu().numpy() / unit)
    new = np.clip(bias + shift, -LARGEST_TRAINED, LARGEST_TRAINED).astype(np.int32)
    return step.node.with_(params={**step.node.params, "bias": new})


def _channel_sums(tensor: Tensor) -> Tensor:
    """[N, C, H, W] or [N, C] to float64 [N, C]."""
    return tensor.sum((2, 3), dtype=torch.float64) if tensor.ndim == 4 else tensor.double()

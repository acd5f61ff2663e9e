"""Scales of weights for a given number of bits per weight, counted as an entropy coder stores them.

Rounding a weight to steps of d adds d²/12 to its squared error, and what that does to the outputs is its mean
squared gradient f times as much, to first order. A weight takes about -log2 d bits and a constant. So the
errors of the outputs are least, at a number of bits in all, where f·d² is the same for all weights (reverse
water filling: Cover and Thomas, "Elements of Information Theory", section 10.3.3): d ∝ 1/√f, here one d for
each output channel. Layers that matter get fine steps, others coarse ones, with nothing to search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch

from subbyte.errors import RecipeError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, is_weighted
from subbyte.quant import QTensor, moved_bias
from subbyte.quant.bias import LARGEST
from subbyte.quant.entropy import fitted, histogram
from subbyte.quant.format import INT8
from subbyte.quantize.assignment import Assignment
from subbyte.quantize.calibrate import Progress, projected

#: Images whose outputs are projected together. Independent projections: in the mean, the square of a sum of
#: gradients is the sum of their squares.
TOGETHER = 4
#: The share of its layer's mean in the squared gradient of a channel, of which few images say little.
OF_LAYER = 0.5
#: The coarsest step, in root mean squares of its layer's weights, however small its gradients are.
COARSEST = 1.0
#: How far from what was asked for limits of scales and small networks may lead, in bits.
REACHED = 0.05
#: Steps of bisection for the one unknown.
HALVINGS = 64


def rated_scales(
    graph: Graph,
    asked: Mapping[str, Assignment],
    bits: float,
    batches: Iterable[np.ndarray],
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Scales, float32 [O], of the layers whose weights are dense and have 8 bits, by name.

    graph: float32. bits: of a weight, in the mean over these layers. batches: images, float32 [N, H, W, C].
    All scales have 8 significant bits: what they then take up in a compact file is half.
    RecipeError if even the coarsest steps take more.
    """
    weights = {
        node.name: np.asarray(node.params["weight"], np.float32)
        for node in graph.nodes
        if is_weighted(node) and asked[node.name].quantized and asked[node.name].weights == INT8
    }
    if not weights:
        return {}
    squares = squared_gradients(graph, weights, batches, seed, progress)
    flat = {name: weight.reshape(len(weight), -1) for name, weight in weights.items()}
    low, high = math.log(1e-30), math.log(1e30)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if _bits(flat, _scales(flat, squares, math.exp(middle))) > bits:
            low = middle
        else:
            high = middle
        if high - low < 1e-3:
            break
    scales = _scales(flat, squares, math.exp(high))
    if (least := _bits(flat, scales)) > bits + REACHED:
        raise RecipeError(
            f"at a rate of {bits:g} bits a weight too little is left; at least {least:.2f} can be had"
        )
    return scales


def squared_gradients(
    graph: Graph,
    layers: Iterable[str],
    batches: Iterable[np.ndarray],
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """The mean over a channel's weights of their squared gradients, float64 [O], by layer.

    Of outputs y that is E (∂(u·y)/∂w)², u standard normal (calibrate.py).
    """
    generator = torch.Generator().manual_seed(seed)
    state = torch_executor.state_of(graph)
    leaves = {name: state[f"{name}:weight"].requires_grad_() for name in layers}
    sums = {name: torch.zeros(len(leaf), dtype=torch.float64) for name, leaf in leaves.items()}
    done = 0
    for images in batches:
        for start in range(0, len(images), TOGETHER):
            batch = torch_executor.nchw(images[start : start + TOGETHER])
            with torch.enable_grad():
                made = torch_executor.forward(graph, batch, state)
                total = projected((made[name] for name in graph.outputs), generator)
                found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    sums[name] += gradient.double().square().flatten(1).mean(1)
        done += len(images)
        progress("weigh weights", done)
    return {name: total.numpy() for name, total in sums.items()}


def _scales(
    weights: Mapping[str, np.ndarray], squares: Mapping[str, np.ndarray], error: float
) -> dict[str, np.ndarray]:
    """Steps for weights [O, K] with that squared error of the outputs for each, as near as limits allow."""
    scales = {}
    for name, weight in weights.items():
        square = squares[name] * (1.0 - OF_LAYER) + squares[name].mean() * OF_LAYER
        step = np.sqrt(error / np.maximum(square, 1e-300))
        coarsest = COARSEST * math.sqrt(float(np.square(weight, dtype=np.float64).mean()))
        finest = np.abs(weight).max(1) / 127.0
        scales[name] = rounded_up(np.maximum(np.minimum(step, coarsest), finest))
    return scales


def rounded_up(scales: np.ndarray) -> np.ndarray:
    """The next numbers of 8 significant bits that are not smaller, float32: the upper half of a float32."""
    return _short(np.ascontiguousarray(scales, np.float32), 0xFFFF)


def _short(scales: np.ndarray, more: int) -> np.ndarray:
    """The upper half of each float32, `more` having been added to the whole."""
    bits = scales.view(np.uint32) + np.uint32(more)
    found: np.ndarray = (bits & np.uint32(0xFFFF0000)).view(np.float32)
    return found


def with_short_scales(graph: Graph) -> Graph:
    """The quantized graph with scales of weights that have 8 significant bits, the nearest ones.

    A channel changes by a 256th at most; scales that were short already stay, and so do biases, in real
    numbers.
    """
    nodes = []
    for node in graph.nodes:
        weight, bias = node.params.get("weight"), node.params.get("bias")
        if isinstance(weight, QTensor) and isinstance(bias, np.ndarray):
            scale = _short(weight.scale, 0x8000)
            moved = moved_bias(bias, weight.scale, scale, LARGEST)
            node = node.with_(params={**node.params, "weight": replace(weight, scale=scale), "bias": moved})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _bits(weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]) -> float:
    """The mean bits of a weight rounded to these steps."""
    counts = []
    for name, weight in weights.items():
        scale = np.where(scales[name] > 0.0, scales[name], np.float32(1.0))
        values = np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8)
        counts.append(histogram(values.view(np.uint8), 8))
    together = np.concatenate(counts)
    return fitted(together).bits / int(together.sum())

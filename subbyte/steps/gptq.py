"""Rounds weights below 8 bits again, so that layers make what the float network makes (quantize/gptq.py).

Layer after layer, each on the codes that those before it, rounded already, make of the calibration images,
and with what the float network makes there as the target, as in "prune": a layer also makes up for what
went wrong before it. Biases are corrected as in "bias_correction", of which this step takes the place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.step import Step
from subbyte.ir import Graph, Node
from subbyte.prune.layout import Layout
from subbyte.prune.statistics import Statistics
from subbyte.quant import QTensor, moved_bias
from subbyte.quant.bias import LARGEST_TRAINED
from subbyte.quantize.calibrate import BATCH
from subbyte.quantize.gptq import rounded
from subbyte.quantize.prepare import exposed, pre_value
from subbyte.quantize.weights import codes_of, usable
from subbyte.recipes import Gptq
from subbyte.steps.bias_correction import Walk, corrected, fewer
from subbyte.steps.context import Context
from subbyte.steps.train import read_state, write_state

#: Weights of an output up to which a layer is rounded in this way: the Hessian has a row for each.
LARGEST = 8192
#: Output positions that a layer's error is taken over, at least, where there are as many: those of small
#: layers cost little.
LEAST_ROWS = 50_000
#: Every weight for itself.
SINGLE = Layout(1, 1)


def run(context: Context) -> Graph:
    """The quantized graph with weights below 8 bits rounded again, their scales fitted, and biases corrected.

    Configuration: Gptq. Formats, code books and zeros of patterns stay. Grouped and depthwise layers, and
    those of more than LARGEST weights per output, keep their rounding. The work folder keeps finished
    layers.
    """
    asked = context.configuration
    assert isinstance(asked, Gptq)
    images = fewer(context.teacher, context.images)
    images = images[np.linspace(0, len(images) - 1, min(len(images), asked.images)).astype(int)]
    exact, walk = Walk(exposed(context.teacher), images), Walk(context.graph, images)
    layers = [node.name for node in context.graph.nodes if _narrow(node)]
    nodes: list[Node] = []
    with torch.no_grad(), torch_executor.exact_convolutions():
        for node in context.graph.nodes:
            if isinstance(node.params.get("weight"), QTensor):
                float_node = context.teacher.node(node.name)
                wanted, codes = exact.until(pre_value(float_node)), walk.live[node.inputs[0]]
                if node.name in layers:
                    number = layers.index(node.name)
                    place = None if context.work is None else context.work / f"gptq-{number:03}.pt"
                    generator = torch.Generator().manual_seed(context.seed + number)
                    # of pruned layers, what is left of them
                    source = context.original.node(node.name)
                    node = _kept(place, walk.step(node), source, codes, wanted, asked, generator)
                    _show(walk, node)
                    context.progress(f"gptq, {len(layers)} layers", number + 1)
                node = corrected(walk.step(node), codes, wanted)
                _show(walk, node)
            walk.execute(node)
            nodes.append(node)
    return replace(context.graph, nodes=tuple(nodes))


def _narrow(node: Node) -> bool:
    weight = node.params.get("weight")
    return (
        isinstance(weight, QTensor)
        and weight.format.bits < 8
        and node.attrs.get("groups", 1) == 1
        and int(np.prod(weight.shape[1:])) <= LARGEST
    )


def _show(walk: Walk, node: Node) -> None:
    """Lets the walk go on with these weights and biases."""
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    walk.state[f"{node.name}:weight"] = torch_executor.weight_tensor(weight.values())
    walk.state[f"{node.name}:weight_scale"] = torch.from_numpy(weight.scale.copy())
    walk.state[f"{node.name}:bias"] = torch.from_numpy(np.asarray(node.params["bias"], np.float64))


def _kept(
    place: Path | None,
    step: Step,
    source: Node,
    codes: Tensor,
    wanted: Tensor,
    asked: Gptq,
    generator: torch.Generator,
) -> Node:
    """The layer rounded again, or as it was found at `place`, where it is left. source: its float weights."""
    if place is not None and place.exists():
        found = read_state(place)
        return _layer(step, found["values"].numpy(), found["scale"].numpy())
    values, scale = _rounded(step, source, codes, wanted, asked, generator)
    if place is not None:
        write_state(place, {"values": torch.from_numpy(values), "scale": torch.from_numpy(scale)})
    return _layer(step, values, scale)


def _rounded(
    step: Step, source: Node, codes: Tensor, wanted: Tensor, asked: Gptq, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the layer's code book, int8 [O, ..., I], and scales, float32 [O]."""
    weight = step.node.params["weight"]
    assert isinstance(weight, QTensor)
    grid = step.inputs[0].grid
    seen = Statistics(source, SINGLE, weighted=False)
    most = -(-max(LEAST_ROWS, int(asked.rows * seen.size)) // -(-len(codes) // BATCH))
    for part, exact in zip(codes.split(BATCH), wanted.split(BATCH), strict=True):
        real = (part.float() - grid.zero_point) * grid.scale
        seen.add(real, exact, torch.ones_like(exact), most, generator)
    quadratic = seen.quadratic(asked.damping, None, own=asked.target == "own")
    square = quadratic.hessian[0]
    centred = square[:-1, :-1] - torch.outer(square[:-1, -1], square[-1, :-1]) / square[-1, -1]
    mask, kept = weight.format.pattern.mask, None
    if mask is not None:
        kept = torch.from_numpy(mask(np.asarray(source.params["weight"]))).flatten(1)
    values, scale = rounded(
        quadratic.best()[:, 0, :-1],
        centred,
        torch.from_numpy(weight.scale.astype(np.float64)),
        usable(weight.levels),
        fits=asked.fits,
        kept=kept,
    )
    return values.to(torch.int8).numpy().reshape(weight.shape), scale.float().numpy()


def _layer(step: Step, values: np.ndarray, scale: np.ndarray) -> Node:
    """The layer with these values and scales, its bias in their units."""
    weight, bias = step.node.params["weight"], step.node.params["bias"]
    assert isinstance(weight, QTensor)
    assert isinstance(bias, np.ndarray)
    made = QTensor(codes_of(values, weight.levels), scale, weight.format, weight.levels)
    params = {"weight": made, "bias": moved_bias(bias, weight.scale, scale, LARGEST_TRAINED)}
    return step.node.with_(params={**step.node.params, **params})

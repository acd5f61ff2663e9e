"""What an error of a layer's output counts for the network's outputs, channel by channel.

For outputs y and standard normal u, E (∂(u·y)/∂x)² = Σ_k (∂y_k/∂x)²: a Gauss-Newton, or Fisher, diagonal by
Hutchinson's estimator with one u an image, as in quantize/calibrate.py.
"""

from __future__ import annotations

import numpy as np
import torch

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, Node, is_weighted
from subbyte.quantize.calibrate import Progress, images_at_once, projected
from subbyte.quantize.prepare import exposed, pre_value


def activated_value(node: Node) -> str:
    """The value that holds what a conv2d or linear makes behind its activation, before a residual, in the
    graph of `exposed`."""
    if node.attrs["act"] == "none":
        return pre_value(node)
    return node.output if len(node.inputs) == 1 else f"{node.output}:activated"


def importance(graph: Graph, images: np.ndarray, seed: int, progress: Progress) -> dict[str, np.ndarray]:
    """By name of each conv2d and linear of a float graph, float64 [O]: the mean over images and positions of
    the squared gradient of the outputs, each in units of its root mean square, by what the layer makes behind
    its activation.

    images: float32 [N, H, W, C].
    """
    run, layers = exposed(graph), [node for node in graph.nodes if is_weighted(node)]
    state, generator = torch_executor.state_of(run), torch.Generator().manual_seed(seed)
    channels = {node.name: np.shape(node.params["weight"])[0] for node in layers}
    totals = {name: torch.zeros(count, dtype=torch.float64) for name, count in channels.items()}
    names, chunk = [activated_value(node) for node in layers], images_at_once(run)
    for start in range(0, len(images), chunk):
        x = torch_executor.nchw(images[start : start + chunk]).clone().requires_grad_()
        made = torch_executor.forward(run, x, state, keep=True)
        gradients = torch.autograd.grad(
            projected((made[name] for name in graph.outputs), generator),
            [made[name] for name in names],
            allow_unused=True,
        )
        for node, gradient in zip(layers, gradients, strict=True):
            if gradient is not None:
                mean = gradient.square().mean((2, 3)) if gradient.ndim == 4 else gradient.square()
                totals[node.name] += mean.double().sum(0)
        progress("importance", min(start + chunk, len(images)))
    return {name: (total / len(images)).numpy() for name, total in totals.items()}

"""Trains the quantized graph block by block to make what the float network's blocks make.

Block-wise reconstruction (BRECQ, arXiv 2102.05426): in order, each block reads what the quantized
blocks before it produce, and its weights' rounding, its scales, biases and activation grids are
trained for the least squared error against the float block's output on the same images. Rounding
is learned straight through latent weights rather than by the sigmoids of AdaRound (arXiv
2004.10568), so that the same code also trains end to end. As in QDrop (arXiv 2203.05740), part of
the activations of each image stay unrounded during training, at random.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.ir.graph import rebuild
from subbyte.quant import QTensor
from subbyte.quantize.calibrate import BATCH
from subbyte.recipes import Training
from subbyte.steps.blocks import Block, blocks
from subbyte.steps.context import Context
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Constant
from subbyte.steps.learned import Learned
from subbyte.steps.limits import limits, weight_bits
from subbyte.steps.status import teller
from subbyte.steps.train import in_bfloat16, minimize


def run(context: Context) -> Graph:
    """The quantized graph after training every block with less than 8 bits in it; configuration: Training.

    The work folder keeps finished blocks, which are not trained again, and the state of an unfinished one.
    """
    graph, original, images = context.graph, context.original, context.images
    training: Training = context.configuration
    kept, held = split(len(images), training, 2 if training.mirror else 1)
    if training.mirror:
        images = np.concatenate([images, images[:, :, ::-1]])
    codes = wanted = torch_executor.nchw(images)
    found = blocks(graph)
    stage = f"reconstruct, {len(found)} blocks"
    for number, block in enumerate(found):
        part, whole = _part(graph, block), _part(original, _in_float(original, block))
        wanted_next = _through(whole, wanted)
        if _narrow(part):
            saved = None if context.work is None else context.work / f"block-{number:03}.pt"
            learned = Learned(part, {node.name: node for node in whole.nodes})
            unfinished = None if saved is None else saved.with_suffix(".part.pt")
            if not learned.load(saved):
                generator = torch.Generator().manual_seed(_seed(context.seed, number))
                loss = _Loss(learned, codes, wanted_next, kept, bfloat16=in_bfloat16(training))
                minimize(
                    learned.parameters,
                    loss,
                    len(kept),
                    training,
                    generator,
                    lambda step, done=number: context.progress(stage, done),  # type: ignore[misc]
                    unfinished,
                    hooks=(Constant(bits=weight_bits(learned)),),
                    check=mean_over(held, training.batch, loss.measure),
                    tell=teller(context.progress, f"reconstruct/block-{number:03}"),
                    limits=limits(learned),
                )
                learned.save(saved)
                if unfinished is not None:
                    unfinished.unlink(missing_ok=True)
            part = learned.result()
            graph = _with(graph, part)
        codes, wanted = _through(part, codes), wanted_next
        context.progress(stage, number + 1)
    return graph


def _narrow(part: Graph) -> bool:
    """Whether anything in it takes fewer than 8 bits; at 8 there is nothing to win."""
    weights = [node.params["weight"] for node in part.nodes if "weight" in node.params]
    made = [part.value(node.output).q for node in part.nodes]
    return any(isinstance(w, QTensor) and w.format.width < 8 for w in weights) or any(
        q and q.bits < 8 for q in made
    )


def _seed(seed: int, number: int) -> int:
    """Of block `number`: independent streams, so that a run can go on at any block."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


class _Loss:
    """Mean squared error of the block's real output, in units of its variance, on some images.

    kept: the indices of the images to train on.
    """

    def __init__(
        self, learned: Learned, codes: Tensor, wanted: Tensor, kept: Tensor, *, bfloat16: bool
    ) -> None:
        self.learned, self.codes, self.wanted, self.kept = learned, codes, wanted, kept
        self.bfloat16 = bfloat16
        self.variance = wanted[: 4 * BATCH].var() + 1e-12

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        return self._of(self.kept[chosen])

    def measure(self, held: Tensor) -> dict[str, float]:
        return {"loss": float(self._of(held))}

    def _of(self, chosen: Tensor) -> Tensor:
        graph, state = self.learned.graph, self.learned.state()
        made = torch_executor.forward(
            graph, self.codes[chosen].float(), state, exact=False, bfloat16=self.bfloat16
        )
        (name,) = graph.outputs
        output, q = made[name], graph.value(name).q
        if q is not None:
            output = (output - q.zero_point) * state[f"{name}:scale"]
        return (output - self.wanted[chosen]).square().mean() / self.variance


def _in_float(original: Graph, block: Block) -> Block:
    """The same block of the float graph: its nodes without the changes of grid."""
    known = {node.name for node in original.nodes}
    nodes = tuple(name for name in block.nodes if name in known)
    return Block(nodes, _real_name(original, block.input), _real_name(original, block.output))


def _real_name(original: Graph, value: str) -> str:
    return value if value in original.values else value.rsplit(".", 1)[0]


def _part(graph: Graph, block: Block) -> Graph:
    inside = set(block.nodes)
    nodes = tuple(node for node in graph.nodes if node.name in inside)
    return rebuild(replace(graph, input=block.input, outputs=(block.output,)), nodes)


def _with(graph: Graph, part: Graph) -> Graph:
    """The graph with the nodes and values of `part` in place of its own."""
    changed = {node.name: node for node in part.nodes}
    nodes = tuple(changed.get(node.name, node) for node in graph.nodes)
    return replace(graph, nodes=nodes, values={**graph.values, **part.values})


def _through(part: Graph, x: Tensor) -> Tensor:
    """The only output of `part` for all images: bytes where quantized, else float32."""
    state, (name,) = torch_executor.state_of(part, x.device), part.outputs
    kept = torch.float32 if part.value(name).q is None else torch.uint8
    result: Tensor | None = None
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            made = torch_executor.forward(part, x[start : start + BATCH].float(), state, exact=False)[name]
            if result is None:
                layout = torch.channels_last if made.ndim == 4 else torch.contiguous_format
                shape = (len(x), *made.shape[1:])
                result = torch.empty(shape, dtype=kept, memory_format=layout, device=x.device)
            result[start : start + BATCH] = made
    assert result is not None
    return result

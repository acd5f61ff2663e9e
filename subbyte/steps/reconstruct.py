"""Trains the quantized graph block by block to make what the float network's blocks make.

Block-wise reconstruction (BRECQ, arXiv 2102.05426): in order, each block reads what the quantized
blocks before it produce, and its weights' rounding, its scales, biases and activation grids are
trained for the least squared error against the float block's output on the same images. Rounding
is learned straight through latent weights, or by AdaRound (arXiv 2004.10568). If asked for, part of the
activations stay unrounded during training, at random (QDrop, arXiv 2203.05740), and a block keeps the state
that did best on images held back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.data.mapped import Mapped, folder_of_maps
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import OPS, Graph
from subbyte.quant import QTensor
from subbyte.quantize.calibrate import BATCH
from subbyte.recipes import Reconstruction
from subbyte.steps.adaround import exponent
from subbyte.steps.blocks import Block, blocks
from subbyte.steps.coded import EXCHANGE, CodedBits
from subbyte.steps.context import Context
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Hooks
from subbyte.steps.learned import PLAIN, Learned
from subbyte.steps.limits import limits, weight_bits
from subbyte.steps.parts import part_of, through, with_part
from subbyte.steps.status import teller
from subbyte.steps.train import in_bfloat16, minimize


def run(context: Context) -> Graph:
    """The quantized graph after training every block with less than 8 bits in it, or every block.

    Configuration: Reconstruction.
    The work folder keeps finished blocks; those it has are not trained again, and the one that was
    interrupted goes on. Raises InputError if there are too few images to hold some back.
    """
    graph, teacher = context.graph, context.teacher
    asked: Reconstruction = context.configuration
    folder = folder_of_maps(context.work) if asked.storage == "disk" else None
    images = context.images[:: -(-len(context.images) // (asked.images or len(context.images)))]
    used, held = split(len(images), asked, 2 if asked.mirror else 1)
    codes = wanted = torch_executor.nchw(_mirrored(images, folder) if asked.mirror else images)
    found = blocks(graph)
    for number, block in enumerate(found):
        part, whole = part_of(graph, block), part_of(teacher, _in_float(teacher, block))
        wanted_next = through(whole, wanted, folder)
        if _narrow(part) or (_quantized(part) and not asked.narrow_only):
            data = _Data(codes, wanted, wanted_next, used, held)
            part = _trained(context, (number, len(found)), part, data)
            graph = with_part(graph, part)
        codes, wanted = through(part, codes, folder), wanted_next
        context.progress(_stage(len(found)), number + 1)
    return graph


def _stage(count: int) -> str:
    return f"reconstruct, {count} blocks"


@dataclass(frozen=True, eq=False)
class _Data:
    """What a block reads (`codes`, or numbers), what the float block reads (`real`) and makes, of all images;
    indices of those to train on, and of those held back."""

    codes: Tensor
    real: Tensor
    wanted: Tensor
    used: Tensor
    held: Tensor


def _trained(context: Context, place: tuple[int, int], part: Graph, data: _Data) -> Graph:
    """The block after training. place: its number, and how many there are."""
    asked: Reconstruction = context.configuration
    (number, count), work = place, context.work
    done, begun = (None if work is None else work / f"block-{number:03}{kind}.pt" for kind in ("", ".part"))
    nodes = {node.name: node for node in context.original.nodes}
    begin = PLAIN.model_copy(update={"weight_unit": asked.weight_unit, "inside": asked.inside})
    learned = Learned(part, nodes, asked=begin, rounding=asked.rounding, grids=asked.grids)
    if not any(learned.parameters.values()):
        return part
    start = {kind: _copied(named) for kind, named in learned.parameters.items()}
    if not learned.load(done):
        loss = _Loss(learned, data, asked)
        minimize(
            learned.parameters,
            loss,
            len(data.used),
            asked,
            torch.Generator().manual_seed(_seed(context.seed, number)),
            lambda step: context.progress(_stage(count), number),
            begun,
            hooks=(loss,),
            check=mean_over(data.held, BATCH, loss.measure),
            tell=teller(context.progress, f"reconstruct/block-{number:03}"),
            limits=limits(learned),
        )
        learned.save(done)
        if begun is not None:
            begun.unlink(missing_ok=True)
    changed = any(
        not torch.equal(tensor, start[kind][name])
        for kind, named in learned.parameters.items()
        for name, tensor in named.items()
    )
    return learned.result() if changed else part


def _copied(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _narrow(part: Graph) -> bool:
    """Whether anything in it takes fewer than 8 bits; at 8 there is little to win."""
    weights = [node.params["weight"] for node in part.nodes if "weight" in node.params]
    made = [part.value(node.output).q for node in part.nodes]
    return any(isinstance(w, QTensor) and w.format.width < 8 for w in weights) or any(
        q and q.bits < 8 for q in made
    )


def _seed(seed: int, number: int) -> int:
    """Of block `number`: independent streams, so that a run can go on at any block."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _quantized(part: Graph) -> bool:
    return any(isinstance(node.params.get("weight"), QTensor) for node in part.nodes)


class _Loss(Hooks):
    """Mean squared error of the block's real output, in units of its variance, on some images, and what
    AdaRound adds to it."""

    def __init__(self, learned: Learned, data: _Data, asked: Reconstruction) -> None:
        self.learned, self.data, self.asked = learned, data, asked
        self.share, self.bits = 0.0, weight_bits(learned)
        self.bfloat16 = in_bfloat16(asked)
        self.variance = data.wanted[: 4 * BATCH].var() + 1e-12
        self.coded = CodedBits(learned.weights()) if asked.coded else None
        self.worth = asked.coded * EXCHANGE * self._own_error() if asked.coded else 0.0

    def before(self, step: int, steps: int) -> None:
        """The share of training that is done sets AdaRound's exponent."""
        self.share = step / steps

    def facts(self) -> Mapping[str, float]:
        """The mean bits of the block's weights."""
        return {"bits": self.bits}

    def __call__(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        images, state = self.data.used[chosen], self.learned.state()
        x = self.data.codes[images].float()
        if self.asked.drop:
            x = self._mixed(x, images, generator)
            state.update(self._unrounded(len(images), generator))
        loss = self._error(x, images, state)
        if self.coded is not None:
            loss = loss + self.worth * self.coded.more({n: self.learned.steps(n) for n in self.coded.costs})
        if self.learned.between:
            beta = exponent(self.share, self.asked.regularize_after, self.asked.beta)
            if beta is not None:
                loss = loss + self.asked.regularizer * self.learned.undecided(beta)
        return loss

    def measure(self, images: Tensor) -> dict[str, float]:
        """The mean squared error on these images, of the block that training would end with now."""
        x, state = self.data.codes[images].float(), self.learned.state(hard=True)
        return {"loss": float(self._error(x, images, state))}

    def _error(self, x: Tensor, images: Tensor, state: dict[str, Tensor]) -> Tensor:
        graph = self.learned.graph
        made = torch_executor.forward(graph, x, state, exact=False, bfloat16=self.bfloat16)
        (name,) = graph.outputs
        output, q = made[name], graph.value(name).q
        if q is not None:
            output = (output - q.zero_point) * state[f"{name}:scale"]
        return (output - self.data.wanted[images]).square().mean() / self.variance

    def _own_error(self) -> float:
        """What the block adds to the error of what it reads, before training: its error on the float
        network's input."""
        images = self.data.used[: 2 * BATCH]
        with torch.no_grad():
            return float(self._error(self._real(images), images, self.learned.state()))

    def _real(self, images: Tensor) -> Tensor:
        """What the float network has at the block's input, in units of codes."""
        real, q = self.data.real[images].float(), self.learned.graph.value(self.learned.graph.input).q
        return real if q is None else real / q.scale + q.zero_point

    def _mixed(self, x: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        """The block's input, with elements of the float network's, in units of codes, in place of some."""
        shape = x.permute(0, 2, 3, 1).shape if x.ndim == 4 else x.shape
        return torch.where(self._drawn(shape, generator), self._real(images), x)

    def _unrounded(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Where activations stay between codes, as the state that `forward` takes."""
        graph = self.learned.graph
        made = [node.output for node in graph.nodes if not OPS[node.op].keeps_grid]
        shapes = {name: (count, *graph.value(name).shape) for name in made if graph.value(name).q}
        return {f"{name}:unrounded": self._drawn(shape, generator) for name, shape in shapes.items()}

    def _drawn(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """bool [N, C, H, W] from [N, H, W, C]; others as they are."""
        drawn = torch.empty(shape, dtype=torch.bool).bernoulli_(self.asked.drop, generator=generator)
        return drawn.permute(0, 3, 1, 2) if drawn.ndim == 4 else drawn


def _in_float(original: Graph, block: Block) -> Block:
    """The same block of the float graph: its nodes without the changes of grid."""
    known = {node.name for node in original.nodes}
    nodes = tuple(name for name in block.nodes if name in known)
    return Block(nodes, _real_name(original, block.input), _real_name(original, block.output))


def _real_name(original: Graph, value: str) -> str:
    return value if value in original.values else value.rsplit(".", 1)[0]


def _mirrored(images: np.ndarray, folder: Path | None) -> np.ndarray:
    """The images, and behind them their mirror images."""
    if folder is None:
        return np.concatenate([images, images[:, :, ::-1]])
    mapped = Mapped(folder)
    for source in (images, images[:, :, ::-1]):
        for start in range(0, len(source), BATCH):
            mapped.add(source[start : start + BATCH])
    return mapped.array()

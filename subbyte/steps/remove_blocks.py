"""Takes residual blocks out of the float network, those that are missed least or cost most, until little
work is left.

A residual block adds to what it reads; without it the network goes on with what was read. Networks of many
such blocks answer almost the same without one of them ("Residual Networks Behave Like Ensembles of
Relatively Shallow Networks", arXiv 1605.06431). Which one is measured, anew after each removal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from subbyte.device import find_target
from subbyte.device.network import as_quantized, price
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.ir import Graph, verify
from subbyte.ir.graph import rebuild
from subbyte.ir.ops import macs
from subbyte.recipes import BlockRemoval
from subbyte.steps.context import Context
from subbyte.steps.losses import check_outputs, output_loss
from subbyte.tasks import task_of


def check(original: Graph, asked: BlockRemoval, task: str | None) -> None:
    """Raises InputError if the outputs do not fit the task or the options, the blocks do not suffice, or the
    device is unknown or does not say what the network costs."""
    task_of(original, task)
    check_outputs(original, asked)
    least, work = original, work_by(asked)
    while (join := next(joins(least), None)) is not None:
        least = without_block(least, *join)
    if work(least) > asked.share * work(original):
        raise InputError(
            f"without any residual block {work(least) / work(original):.3f} of the {_words(asked)} "
            f"left, more than the {asked.share:g} that remove_blocks.share allows; allow more, or take fewer "
            "pixels (--resolution)"
        )


def run(context: Context) -> Graph:
    """The float graph, verified, with so much of its work at most; configuration: BlockRemoval.

    In each round that block goes for which the distance of outputs rises least for the work that it takes,
    or the one that takes most.
    """
    graph, asked = context.original, context.configuration
    task, work = task_of(graph, context.task), work_by(asked)
    count = min(asked.images, len(context.images))
    images = context.images[np.linspace(0, len(context.images) - 1, count).astype(int)]
    wanted = _outputs(context.teacher, images)

    def distance(candidate: Graph) -> float:
        return float(output_loss(task, _outputs(candidate, images), wanted, weights=asked.outputs))

    measured = asked.by == "distance"
    found, rounds, most = distance(graph) if measured else 0.0, 0, asked.share * work(context.teacher)
    while work(graph) > most:
        candidates: list[tuple[float, int, Graph]] = []
        for output, kept in joins(graph):
            smaller = without_block(graph, output, kept)
            taken = work(graph) - work(smaller)
            worth = (distance(smaller) - found) / taken if measured else -taken
            candidates.append((worth, len(candidates), smaller))
        graph = min(candidates, key=lambda candidate: candidate[:2])[2]
        found, rounds = distance(graph) if measured else 0.0, rounds + 1
        context.progress("remove blocks", rounds)
    return graph


def work_by(asked: BlockRemoval) -> Callable[[Graph], float]:
    """What counts as a network's work: multiply-accumulates, or its cost on a device.

    Raises InputError for an unknown device; the function for one that does not say this cost.
    """
    if asked.target is None:
        return work
    device = find_target(asked.target)

    def cost(graph: Graph) -> float:
        found = price(device, as_quantized(graph))
        value = found.time if asked.cost == "time" else found.energy
        if value is None:
            raise InputError(f"{device.name} does not say what {asked.cost} layers need")
        return value

    return cost


def _words(asked: BlockRemoval) -> str:
    if asked.target is None:
        return "multiply-accumulates are"
    return f"{asked.cost} on {asked.target} is"


def work(graph: Graph) -> float:
    """Millions of multiply-accumulates for an image."""
    return sum(macs(graph).values()) / 1e6


def joins(graph: Graph) -> Iterator[tuple[str, str]]:
    """The values in which two branches meet by addition, and of each the branch that takes less work; of
    those where the other one takes any."""
    for node in graph.nodes:
        if len(node.inputs) != 2 or node.op not in ("conv2d", "add") or node.output in graph.outputs:
            continue  # an output keeps its name
        ends = node.inputs[1:] if node.op == "conv2d" else node.inputs
        kept = min(ends, key=lambda end: work(without_block(graph, node.output, end)))
        if work(without_block(graph, node.output, kept)) < work(graph):
            yield node.output, kept


def without_block(graph: Graph, output: str, kept: str) -> Graph:
    """The graph, verified, in which the value `kept` stands where `output` was, without what then makes
    nothing that is read."""
    nodes = [
        node.with_(inputs=tuple(kept if name == output else name for name in node.inputs))
        for node in graph.nodes
        if node.output != output
    ]
    needed, left = set(graph.outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            left.append(node)
    return verify(rebuild(graph, reversed(left)))


def _outputs(graph: Graph, images: np.ndarray) -> list[torch.Tensor]:
    """Of all images, float32 [N, ...]."""
    found = Session(graph).run(images)
    outputs = (found,) if isinstance(found, np.ndarray) else found
    return [torch.from_numpy(np.asarray(output)) for output in outputs]

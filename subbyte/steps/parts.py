"""Blocks of a network as graphs of their own, run on all images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from subbyte.data.mapped import Mapped
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, Node
from subbyte.ir.graph import rebuild
from subbyte.quantize.calibrate import BATCH
from subbyte.steps.blocks import Block


def part_of(graph: Graph, block: Block) -> Graph:
    """The block as a graph of its own."""
    inside = set(block.nodes)
    nodes = tuple(node for node in graph.nodes if node.name in inside)
    return rebuild(replace(graph, input=block.input, outputs=(block.output,)), nodes)


def with_part(graph: Graph, part: Graph) -> Graph:
    """The graph with the nodes and values of `part` in place of its own."""
    changed = {node.name: node for node in part.nodes}
    nodes = tuple(changed.get(node.name, node) for node in graph.nodes)
    return replace(graph, nodes=nodes, values={**graph.values, **part.values})


def with_node(graph: Graph, node: Node) -> Graph:
    """The graph with this node in place of its own of that name."""
    return replace(graph, nodes=tuple(node if n.name == node.name else n for n in graph.nodes))


def through(part: Graph, x: Tensor, folder: Path | None) -> Tensor:
    """The only output of `part` for all images: bytes where quantized, else float32; in a file if there is a
    folder for it."""
    state, (name,) = torch_executor.state_of(part, x.device), part.outputs
    kept = torch.float32 if part.value(name).q is None else torch.uint8
    result: Tensor | None = None
    mapped = None if folder is None else Mapped(folder)
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            made = torch_executor.forward(part, x[start : start + BATCH].float(), state, exact=False)[name]
            if mapped is not None:
                rows = made.permute(0, 2, 3, 1) if made.ndim == 4 else made
                mapped.add(rows.to(kept).cpu().numpy())
                continue
            if result is None:
                layout = torch.channels_last if made.ndim == 4 else torch.contiguous_format
                shape = (len(x), *made.shape[1:])
                result = torch.empty(shape, dtype=kept, memory_format=layout, device=x.device)
            result[start : start + BATCH] = made
    if mapped is not None:
        return torch_executor.nchw(mapped.array()).to(x.device)
    assert result is not None
    return result

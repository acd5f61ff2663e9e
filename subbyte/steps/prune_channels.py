"""Takes whole channels out of the float network, so that its layers really are smaller.

Block after block, on what the blocks before, smaller already, make of the images: of the channels inside a
block (the expanded ones of an MBConv, with its depthwise layer and its gate) those go for which the error of
the layers that read them rises least, and these layers' weights become those of the least error then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, verify
from subbyte.prune.channels import Channels, channel_groups, without_channels
from subbyte.prune.layout import Layout, magnitude
from subbyte.prune.second_order import trace
from subbyte.recipes import ChannelPruning, Pruning
from subbyte.steps.blocks import blocks
from subbyte.steps.context import Context
from subbyte.steps.parts import part_of, through, with_node, with_part
from subbyte.steps.prune import Layer, counts_of, fewer, generator_of
from subbyte.steps.train import read_state, write_state

#: Of a layer that is refitted: everything stays.
ALL = Layout(1, 1, share=Fraction(1))


def run(context: Context) -> Graph:
    """The float graph with fewer channels inside its blocks; configuration: ChannelPruning. The work folder
    keeps finished blocks."""
    asked = context.configuration
    assert isinstance(asked, ChannelPruning)
    how = Pruning(
        rounds=asked.rounds, damping=asked.damping, images=asked.images, rows=asked.rows, slopes=asked.slopes
    )
    return prune_channels(replace(context, configuration=how), asked.share, asked.multiple)


def prune_channels(context: Context, share: float, multiple: int = 16) -> Graph:
    """The float graph, verified, in which of the channels inside each block `share` are left, above 0 and at
    most 1, rounded up to a multiple of `multiple` where there are more.

    context: of a float graph as `original`; its configuration is Pruning. Channels that blocks hand on are
    those of residuals, and stay, as do those of pooled vectors alone and of the first block.
    Raises InputError for another share, or a multiple below 1.
    """
    if not 0.0 < share <= 1.0 or multiple < 1:
        raise InputError(
            f"a share of channels above 0, at most 1, can be left, not {share:g}, in multiples from 1, "
            f"not {multiple}"
        )
    graph, asked = context.original, context.configuration
    images = fewer(graph, context.images, asked.images)
    counts = counts_of(context, images)
    exact = present = torch_executor.nchw(images)
    found = blocks(graph)
    for number, block in enumerate(found):
        whole = part = part_of(context.original, block)
        outputs: dict[str, np.ndarray] = {}
        place = None if context.work is None else context.work / f"channels-{number:03}.pt"
        done = read_state(place) if place is not None and place.exists() else None
        state: dict[str, Tensor] = {}
        for i, channels in enumerate(channel_groups(whole) if number else ()):
            size = part.value(channels.values[0]).shape[-1]
            most = min(size, -(-math.ceil(share * size) // multiple) * multiple)
            if most == size or _pooled(part, channels):
                continue
            if done is None:
                worth = _worth(context, part, channels, present, counts)
                kept = np.sort(np.argsort(-worth, kind="stable")[:most])
            else:
                kept = done[f"{i}"].numpy()
            state[f"{i}"] = torch.from_numpy(kept)
            part = without_channels(part, channels, kept.tolist())
            outputs.update(dict.fromkeys(channels.makers, kept))
            counts.update({name: counts[name][kept] for name in channels.makers if name in counts})
            for name in channels.readers:
                node, rows = part.node(name), outputs.get(name)
                if done is None:
                    layer = Layer(whole, part, node, ALL, asked, counts[name], rows)
                    node = layer.refitted(exact, present, generator_of(context, number))
                else:
                    params = {role: done[f"{i}/{name}/{role}"].numpy() for role in ("weight", "bias")}
                    node = node.with_(params={**node.params, **params})
                state |= {
                    f"{i}/{name}/{role}": torch.from_numpy(np.asarray(node.params[role]))
                    for role in ("weight", "bias")
                }
                part = with_node(part, node)
        if place is not None and done is None:
            write_state(place, state)
        graph = with_part(graph, part)
        wanted = through(whole, exact, None)
        present = wanted if present is exact and part is whole else through(part, present, None)
        exact = wanted
        context.progress(f"prune channels, {len(found)} blocks", number + 1)
    return verify(graph)


def _pooled(graph: Graph, channels: Channels) -> bool:
    """Whether all their values have one position: there is nothing to save."""
    return all(math.prod(graph.value(name).shape[:-1]) == 1 for name in channels.values)


def _worth(
    context: Context, part: Graph, channels: Channels, present: Tensor, counts: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What the errors of all readers rise by for an image when a channel goes, float64 [C]: in second order
    where they read one position, else by squares of weights and of what they read."""
    asked: Pruning = context.configuration
    total = np.zeros(part.value(channels.values[0]).shape[-1])
    for name in channels.readers:
        node = part.node(name)
        shape = np.shape(node.params["weight"])
        layout = replace(ALL, outputs=shape[0])
        layer = Layer(part, part, node, layout, asked, counts[name])
        seen = layer.seen(present, present, generator_of(context, 0))
        positions = math.prod(part.value(node.output).shape[:-1])
        if math.prod(shape[1:-1]) == 1:
            quadratic = seen.quadratic(asked.damping, counts[name], own=True)
            total += trace(quadratic, layout, asked.rounds)[0] * (positions / seen.rows)
        else:
            rows = np.sqrt(counts[name]).reshape(-1, *[1] * (len(shape) - 1))
            each = magnitude(np.asarray(node.params["weight"]) * np.sqrt(seen.norms()) * rows, layout)
            total += each.reshape(-1, shape[-1]).sum(0) * positions
    return total

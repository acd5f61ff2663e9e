"""An image of the network: blocks from left to right, their layers from top to bottom, as SVG.

Colours are classes, so that the page can show bits, time or error: b4 (weight bits), t0 to t6 (share of
time), e0 to e6 (error), each with n for "not known". Equal networks give equal images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subbyte.report import svg
from subbyte.report.layer_table import LayerRow, error_step, time_step
from subbyte.report.layers import Layer, blocks_of

WIDE, NARROW = 1080, 312  # pixels
LINE, INSET = 19, 11  # a layer's height, with the space below it, and the space beside it
LEAST, MOST = 96, 132  # width of a block
HEAD, FOOT = 22, 18  # of a block, above and below its layers
ACROSS, DOWN = 22, 34  # between blocks
MARGIN = 14
LETTER = 6.9  # pixels of a letter of a block's name


@dataclass(frozen=True)
class Block:
    """A box at (x, y), its upper left corner, in a line of blocks."""

    name: str
    layers: Sequence[Layer]
    x: float
    y: float
    width: float
    line: int

    @property
    def height(self) -> float:
        """In pixels."""
        return HEAD + LINE * len(self.layers) + FOOT

    def top(self, index: int) -> float:
        """Of the layer of that index."""
        return self.y + HEAD + LINE * index


def network_drawing(
    layers: Sequence[Layer], rows: Sequence[LayerRow], width: float, title: str
) -> svg.Markup | None:
    """The network of these layers, in lines of `width` pixels. None if there are none. rows: of the engine's
    plan, where a layer may be part of another's step and have none."""
    if not layers:
        return None
    blocks = _placed(blocks_of(layers), width)
    place = {layer.name: (b, i) for b, block in enumerate(blocks) for i, layer in enumerate(block.layers)}
    known = {row.name: row for row in rows}
    most = max((row.plan["share"] or 0.0 for row in rows), default=0.0)
    parts = [arrow for edge in _edges(blocks, place) for arrow in _arrow(blocks, *edge)]
    for block in blocks:
        parts += _box(block, place, known, most)
    height = max(block.y + block.height for block in blocks) + MARGIN
    used = max(block.x + block.width for block in blocks) + MARGIN
    return svg.drawing(used, height, title, parts, class_="graph")


def _placed(blocks: Sequence[tuple[str, Sequence[Layer]]], width: float) -> list[Block]:
    """Lines of as many blocks as fit, all of about the same length, which fill the width."""
    room = width - 2 * MARGIN + ACROSS
    per_line = max(1, int(room // (LEAST + ACROSS)))
    per_line = math.ceil(len(blocks) / math.ceil(len(blocks) / per_line))
    box = min(MOST, room / per_line - ACROSS)
    placed: list[Block] = []
    y = float(MARGIN)
    for start in range(0, len(blocks), per_line):
        line = [
            Block(name, layers, MARGIN + column * (box + ACROSS), y, box, start // per_line)
            for column, (name, layers) in enumerate(blocks[start : start + per_line])
        ]
        y += max(block.height for block in line) + DOWN
        placed += line
    return placed


def _edges(blocks: Sequence[Block], place: Mapping[str, tuple[int, int]]) -> list[tuple[int, int]]:
    """Which block reads which, each pair once, in order."""
    found = [
        (place[name][0], target)
        for target, block in enumerate(blocks)
        for layer in block.layers
        for name in layer.inputs
        if name in place and place[name][0] != target
    ]
    return list(dict.fromkeys(found))


def _arrow(blocks: Sequence[Block], source: int, target: int) -> list[svg.Markup]:
    a, b = blocks[source], blocks[target]
    x1, y1, x2, y2 = a.x + a.width, a.y + HEAD / 2, b.x, b.y + HEAD / 2
    if target == source + 1 and a.line == b.line:
        path = f"M{x1:.0f} {y1:.0f}H{x2 - 5:.0f}"
    elif target == source + 1:  # to the next line, through the space between the lines
        path = f"M{x1:.0f} {y1:.0f}h7V{b.y - DOWN / 2:.0f}H{x2 - 9:.0f}V{y2:.0f}h4"
    else:  # past the blocks between them
        x, y = a.x + a.width / 2, a.y + a.height
        path = f"M{x:.0f} {y:.0f}C{x:.0f} {y + 60:.0f} {x2 - 40:.0f} {y2:.0f} {x2 - 5:.0f} {y2:.0f}"
    return [svg.element("path", d=path, class_="edge"), _head(x2, y2)]


def _head(x: float, y: float) -> svg.Markup:
    return svg.element("path", d=f"M{x - 7:.0f} {y - 4:.0f}l7 4l-7 4z", class_="head")


def _box(
    block: Block, place: Mapping[str, tuple[int, int]], known: Mapping[str, LayerRow], most: float
) -> list[svg.Markup]:
    name = svg.shortened(block.name, int(block.width / LETTER))
    middle, bottom = block.x + block.width / 2, block.y + block.height
    shape = "×".join(map(str, block.layers[-1].shape))
    parts = [
        svg.rect(block.x, block.y, block.width, block.height, rx=6, class_="block"),
        svg.group(
            svg.text(middle, block.y + 15, name, "middle", class_="name"),
            tip=f"{block.name}, makes {shape}",
        ),
        svg.text(middle, bottom - 5, shape, "middle", class_="shape"),
    ]
    here = {layer.name: i for i, layer in enumerate(block.layers)}
    for i, layer in enumerate(block.layers):
        parts += _lines(block, i, layer, here, place)
        parts.append(_cell(block, i, layer, known.get(layer.name), most))
    return parts


def _lines(
    block: Block, index: int, layer: Layer, here: Mapping[str, int], place: Mapping[str, tuple[int, int]]
) -> list[svg.Markup]:
    """Lines to a layer that is not the first: from the one above it, on the right from further up, on the
    left from outside of the block."""
    parts = []
    y, left, right = block.top(index) + 8, block.x + INSET, block.x + block.width - INSET
    for name in layer.inputs:
        if name in here and here[name] < index - 1:
            path = f"M{right:.0f} {block.top(here[name]) + 8:.0f}h6V{y:.0f}h-6"
        elif name not in here and name in place and index > 0:
            path = f"M{block.x:.0f} {block.y + HEAD / 2:.0f}h5V{y:.0f}h6"
        elif index > 0 and here.get(name) == index - 1:
            middle = (left + right) / 2
            path = f"M{middle:.0f} {block.top(index) - 3:.0f}v3"
        else:
            continue
        parts.append(svg.element("path", d=path, class_="edge"))
    return parts


def _cell(block: Block, index: int, layer: Layer, row: LayerRow | None, most: float) -> svg.Markup:
    time, error = (None, None) if row is None else (time_step(row, most), error_step(row))
    bits = 0 if row is None else row.bits
    classes = f"b{bits} t{'n' if time is None else time} e{'n' if error is None else error}"
    x, y, width = block.x + INSET, block.top(index), block.width - 2 * INSET
    return svg.group(
        svg.rect(x, y, width, LINE - 3, rx=3),
        svg.text(x + width / 2, y + 12, layer.label[:13], "middle"),
        tip=tip_of(layer, row),
        class_=f"cell {classes}",
    )


def tip_of(layer: Layer, row: LayerRow | None) -> str:
    """What a layer is, and what was measured of it, in lines."""
    lines = [layer.name, f"{layer.label} → {'×'.join(map(str, layer.shape))}"]
    if row is None:
        return "\n".join([*lines, "part of another layer's step"])
    lines.append(f"precision {row.plan['requested']}")
    if row.plan["executed"] != row.plan["requested"]:
        lines[-1] += f", executed as {row.plan['executed']}"
    if row.plan["share"] is not None:
        lines.append(f"{100 * row.plan['share']:.1f} % of the time")
    if row.sqnr is not None:
        lines.append("no error" if math.isinf(row.sqnr) else f"SQNR {row.sqnr:.1f} dB")
    return "\n".join(lines)

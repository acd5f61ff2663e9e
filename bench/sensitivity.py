"""The tables and the image of docs/sensitivity.md, from result files of `subbyte sensitivity`.

    python -m bench.sensitivity

Writes between the page's marks and nothing else of it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import svg
from subbyte.analysis.components import KINDS
from subbyte.analysis.table import Kind, Row, Sensitivity, read_sensitivity
from subbyte.errors import InputError, SubbyteError
from subbyte.quant import Format, activation_format, weight_format

BEGIN, END = "<!-- results -->", "<!-- /results -->"
#: Below, a cell is white; from 1 nat on it is darkest.
LEAST = 1e-4
WHITE, ORANGE, RED = (0xF4, 0xF6, 0xF8), (0xF0, 0xB9, 0x5B), (0xA3, 0x20, 0x1D)
STARTS = ("stem", "fused_conv", "fused_expand", "expand", "head")
ENDS = ("stem", "fused_conv", "fused_project", "project")
SHORT = {
    "fused_conv": "fused, one convolution",
    "fused_expand": "fused expansion",
    "fused_project": "fused projection",
    "expand": "expansion",
    "project": "projection",
    "head": "head",
}
FOUR, THREE, TWO = (weight_format(bits) for bits in (4, 3, 2))
FOUR_BITS = activation_format(4)
CELL, LEFT, TOP, GAP = 17, 165, 30, 34


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("bench/analyses"), help="folder of files")
    parser.add_argument("--page", type=Path, default=Path("docs/sensitivity.md"))
    parser.add_argument("--plot", type=Path, default=Path("docs/sensitivity.svg"))
    options = parser.parse_args(arguments)
    try:
        weights = read_sensitivity(options.results / "tf_efficientnetv2_b0-weights.json")
        activations = read_sensitivity(options.results / "tf_efficientnetv2_b0-activations.json")
        text = inserted(options.page.read_text("utf-8"), tables(weights, activations))
    except (SubbyteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.page.write_text(text, "utf-8")
    options.plot.write_text(image(weights, activations), "utf-8")
    return 0


def inserted(page: str, lines: Iterable[str]) -> str:
    """The page with these lines between its marks. InputError if it has none."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the page has no {BEGIN} … {END}")
    return "\n".join([head + BEGIN, "", *lines, "", END]) + tail


def tables(weights: Sensitivity, activations: Sensitivity) -> list[str]:
    """Markdown: weights by component and by stage, activations by component."""
    return [
        *_table(weights, "weights", "component", (FOUR, THREE, TWO)),
        "",
        *_table(weights, "weights", "stage", (FOUR, THREE, TWO)),
        "",
        *_place_table(weights, (FOUR, THREE, TWO)),
        "",
        *_table(activations, "activations", "component", (FOUR_BITS,)),
    ]


def _table(table: Sensitivity, kind: Kind, by: str, formats: Sequence[Format]) -> list[str]:
    groups = table.grouped(kind, by)  # type: ignore[arg-type]
    heads = [f"{kind}, by {by}", "layers", "numbers"]
    for one in formats:
        heads += [f"KL at {one.words}", "worst"]
    if kind == "weights":
        heads.append("nats per MB saved, 4 bits")
    else:
        heads.append("dB at 4 bits")
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for group in groups:
        cells = [group.name, str(group.layers), f"{group.elements:,}"]
        for one in formats:
            cells += [_number(group.kl[one]), _number(group.worst[one])]
        if kind == "weights":
            cells.append(f"{group.kl[FOUR] * group.layers / (group.elements / 2e6):.3f}")
        else:
            cells.append(f"{group.sqnr[FOUR_BITS]:.1f}")
        rows.append(cells)
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _place_table(table: Sensitivity, formats: Sequence[Format]) -> list[str]:
    """Layers of MBConv blocks that begin a stage beside those that follow: mean KL added."""
    rows = [
        ["weights in MBConv", *(f"{place}, {one.words}" for one in formats for place in ("first", "later"))],
        ["---", *["---:"] * (2 * len(formats))],
    ]
    columns = {one: _cells(table, "weights", one) for one in formats}
    for kind in ("expand", "depthwise", "project", "se_reduce", "se_expand"):
        cells = [KINDS[kind]]
        for one in formats:
            seen: set[str] = set()
            found: dict[bool, list[float]] = {True: [], False: []}
            for column in columns[one]:
                if kind in column:
                    row = column[kind]
                    found[row.stage not in seen].append(table.added_kl(row))
                    seen.add(row.stage)
            cells += [_number(sum(v) / len(v)) if v else "" for v in (found[True], found[False])]
        if any(cells[1:]):
            rows.append(cells)
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _number(kl: float) -> str:
    return "< 0.0001" if kl < 1e-4 else f"{kl:.4f}"


def image(weights: Sensitivity, activations: Sensitivity) -> str:
    """SVG: components by blocks, a panel for each width."""
    panels = [
        *((f"weights of {one.words}", _cells(weights, "weights", one)) for one in (FOUR, THREE, TWO)),
        ("activations of 4 bits", _cells(activations, "activations", FOUR_BITS)),
    ]
    kinds = [k for k in KINDS if any(k in rows for _, cells in panels for rows in cells)]
    columns = max(len(cells) for _, cells in panels)
    height = CELL * len(kinds)
    parts: list[str] = []
    for i, (title, cells) in enumerate(panels):
        y = TOP + i * (height + GAP)
        parts.append(svg.text(LEFT, y - 7, f"{title}: KL added, nats, by block", size=13))
        for j, kind in enumerate(kinds):
            parts.append(svg.text(LEFT - 8, y + CELL * j + 13, SHORT.get(kind, KINDS[kind]), "end", 11))
        for x, column in enumerate(cells):
            for kind, row in column.items():
                table = weights if row.kind == "weights" else activations
                kl = table.added_kl(row)
                place = LEFT + CELL * x, y + CELL * kinds.index(kind)
                parts.append(svg.bar(*place, CELL - 1, CELL - 1, colour(kl), f"{row.nodes[0]}: {kl:.4f}"))
    bottom = TOP + len(panels) * (height + GAP)
    parts += _scale(bottom)
    return svg.page(LEFT + CELL * columns + 20, bottom + 42, parts)


def _cells(table: Sensitivity, kind: Kind, format: Format) -> list[dict[str, Row]]:
    """Per block, the most harmful row of each component."""
    columns: list[dict[str, Row]] = []
    before = ""
    for row in table.rows:
        if row.kind != kind or row.format != format:
            continue
        fresh = row.component != before and (row.component in STARTS or before in ENDS)
        if not columns or fresh or (row.component in ENDS and row.component == before):
            columns.append({})
        best = columns[-1].get(row.component)
        if best is None or table.added_kl(row) > table.added_kl(best):
            columns[-1][row.component] = row
        before = row.component
    return columns


def colour(kl: float) -> str:
    """#rrggbb on a logarithmic scale: white, orange at 0.01, red at 1."""
    share = (math.log10(max(kl, LEAST)) - math.log10(LEAST)) / -math.log10(LEAST)
    share = min(share, 1.0)
    first, second = (WHITE, ORANGE) if share < 0.5 else (ORANGE, RED)
    t = (share % 0.5) * 2 if share < 1.0 else 1.0
    return "#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in zip(first, second, strict=True))


def _scale(y: float) -> list[str]:
    parts = []
    for i in range(40):
        parts.append(svg.bar(LEFT + 6 * i, y, 6, 10, colour(10 ** (-4 + i / 10))))
    for i, name in enumerate(("≤ 0.0001", "0.001", "0.01", "0.1", "≥ 1")):
        parts.append(svg.text(LEFT + 60 * i, y + 24, name, "middle", 11))
    return parts


if __name__ == "__main__":
    sys.exit(main())

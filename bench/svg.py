"""Drawing of small plots: strings that are SVG elements, in pixels from the upper left corner."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

#: Blues for this package, as in the report; `INK` and `GRID` for everything else.
COLOURS = ("#0b3d91", "#1976d2", "#7fb8ee", "#00897b", "#d4822b", "#8d6e63")
INK, GRID = "#333b44", "#d5dae0"


def text(x: float, y: float, content: str, anchor: str = "start", size: int = 12) -> str:
    """anchor: "start", "middle" or "end" of the text lies at x; y is its base line."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f'<text {place} fill="{INK}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'


def bar(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    """title: what a viewer shows under the pointer."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{colour}"><title>{escape(title)}</title></rect>'


def dot(x: float, y: float, radius: float, colour: str, title: str = "") -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"'
    return f'<circle {place} fill="{colour}" fill-opacity="0.7"><title>{escape(title)}</title></circle>'


def legend(x: float, y: float, names: Iterable[str]) -> list[str]:
    """Names beside squares of COLOURS, one below the other."""
    parts = []
    for i, name in enumerate(names):
        parts += [bar(x, y + 18 * i - 10, 11, 11, COLOURS[i]), text(x + 17, y + 18 * i, name)]
    return parts


def page(width: float, height: float, elements: Iterable[str]) -> str:
    """The file's text, on white."""
    space = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif"'
    head = f'<svg {space} viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *elements, "</svg>\n"])

"""One HTML page of frames with the key points over them; it needs no network, and no script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from subbyte.hands.draw import colour, coloured
from subbyte.hands.landmarks import Hand
from subbyte.system.printable import printable

WIDEST = 640  # pixels of an image in the page
_STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2rem; background: #fff; color: #222 }
div { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0; width: 20rem }
svg { width: 100%; height: auto; display: block }
figcaption { font-size: 13px; overflow-wrap: anywhere }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th:first-child, td:first-child { text-align: left }
"""


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame for the page. name: what it is called. image: uint8 [H, W, 3]. hand: None if no hand.
    text: what is said below it."""

    name: str
    image: np.ndarray
    hand: Hand | None
    text: str


def page(title: str, shots: Iterable[Shot], rows: Iterable[tuple[str, ...]]) -> Iterator[bytes]:
    """The page, piece by piece. rows: of a table of times above the frames, the first its heading."""
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{_text(title)}</h1>\n<table>"
    ).encode()
    for i, row in enumerate(rows):
        cell = "td" if i else "th"
        yield ("<tr>" + "".join(f"<{cell}>{_text(one)}</{cell}>" for one in row) + "</tr>\n").encode()
    yield b"</table>\n<div>\n"
    for shot in shots:
        yield figure(shot).encode()
    yield b"</div></body></html>\n"


def figure(shot: Shot) -> str:
    """The frame as an SVG: the image, and lines and dots over it, in the image's pixels."""
    height, width = shot.image.shape[:2]
    picture = Image.fromarray(shot.image)
    picture.thumbnail((WIDEST, WIDEST))
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=85)
    data = base64.b64encode(packed.getvalue()).decode()
    thin = max(width, height) / 160
    parts = [
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{_text(shot.name)}">'
        f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>'
    ]
    if shot.hand is not None:
        for shade, (x, y), (u, v) in coloured(shot.hand.points):
            parts.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{shade}" '
                f'stroke-width="{thin:.2f}"/>'
            )
        for joint, (x, y) in enumerate(shot.hand.points[:, :2]):
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="{1.5 * thin:.2f}" fill="{colour(joint)}"'
            edge = f'stroke="#000" stroke-width="{thin / 4:.2f}"'
            title = f"<title>{joint}: x {x:.1f}, y {y:.1f}</title>"
            parts.append(f"<circle {place} {edge}>{title}</circle>")
    parts.append(f"</svg><figcaption>{_text(shot.name)}: {_text(shot.text)}</figcaption></figure>\n")
    return "".join(parts)


def _text(text: str) -> str:
    return html.escape(printable(text))

"""SVG elements as text. Whatever is put into one is escaped here, and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is markup already: neither `element` nor a template escapes it again."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def element(name: str, *content: str | Iterable[str], **attributes: object) -> Markup:
    """<name ...>content</name>. Of attributes' names `_` becomes `-`, and one at the end is dropped, as
    in class_; those that are None are left out. Numbers have one decimal."""
    inside = [part for piece in content for part in ([piece] if isinstance(piece, str) else piece)]
    head = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{head}>{''.join(map(escaped, inside))}</{name}>")


def escaped(text: str) -> Markup:
    """The text as markup; markup as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def shortened(text: str, letters: int) -> str:
    """The end of a text that is too long: names differ there."""
    return text if len(text) <= letters else "…" + text[len(text) - letters + 1 :]


def group(*content: str | Iterable[str], tip: str = "", **attributes: object) -> Markup:
    """Elements under one `tip`, which shows under the pointer."""
    return element("g", [element("title", tip)] if tip else [], *content, **attributes)


def text(x: float, y: float, content: str, anchor: str = "start", **attributes: object) -> Markup:
    """anchor: "start", "middle" or "end" of the text lies at x; y is its base line."""
    return element("text", content, x=float(x), y=float(y), text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> Markup:
    """From one point to another, in pixels."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def rect(x: float, y: float, width: float, height: float, **attributes: object) -> Markup:
    """By its upper left corner and size, in pixels."""
    size = {"x": float(x), "y": float(y), "width": float(width), "height": float(height)}
    return element("rect", **size, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: object) -> Markup:
    """Through points (x, y), in pixels."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **attributes)


def drawing(width: float, height: float, label: str, content: Iterable[str], **attributes: object) -> Markup:
    """A whole image; label: what it shows, for those who do not see it."""
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return element("svg", content, **size, role="img", aria_label=label, **attributes)

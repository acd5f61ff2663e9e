"""What a search found: the networks that no other one beats in error and cost, as a file and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subbyte.report import svg
from subbyte.report.axes import Frame
from subbyte.search.costs import Costs, cost_of
from subbyte.search.engine import Evaluated

WIDTH, HEIGHT = 640.0, 400.0  # pixels
STYLE = (
    "text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}.axis{stroke:#888}"
    "polyline{fill:none;stroke-width:2}circle{stroke:none;opacity:.45}.nsga2{stroke:#0072b2}circle.nsga2,text.nsga2{fill:#0072b2;stroke:none}"
    ".random{stroke:#d55e00}circle.random,text.random{fill:#d55e00;stroke:none}svg{background:#fff}"
)
TITLES = {
    "latency": "latency, ms",
    "energy": "energy, mJ",
    "size": "file, bytes",
    "memory": "activations, bytes",
    "macs": "multiply-accumulates",
}


def front(found: Sequence[Evaluated], cost: str) -> list[Evaluated]:
    """Of those within the limits, each network once, the ones that no other is at least as good as in error
    and cost, and better in one; from the least error on."""
    within = {one.candidate: one for one in found if one.error is not None}
    ordered = sorted(within.values(), key=lambda one: (_error(one), cost_of(one.costs, cost)))
    best: list[Evaluated] = []
    for one in ordered:
        if not best or cost_of(one.costs, cost) < cost_of(best[-1].costs, cost):
            best.append(one)
    return best


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area between a front's points (error, cost), as `front` orders them, and a reference that is worse
    than all: the larger, the better (Zitzler and Thiele, 1999)."""
    area, right = 0.0, reference[1]
    for error, cost in points:
        area += max(0.0, reference[0] - error) * max(0.0, right - cost)
        right = min(right, cost)
    return area


def front_json(
    searches: Mapping[str, Sequence[Evaluated]], cost: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The fronts of searches by their method, as plain values, beside `facts`."""
    fronts = {method: front(found, cost) for method, found in searches.items()}
    inside = [one for found in searches.values() for one in found if one.error is not None]
    worst = (
        max((_error(one) for one in inside), default=0.0),
        max((cost_of(one.costs, cost) for one in inside), default=0.0),
    )
    return {
        **facts,
        "cost": cost,
        "searches": {
            method: {
                "asked": len(searches[method]),
                "within_limits": sum(one.error is not None for one in searches[method]),
                "hypervolume": hypervolume([_point(one, cost) for one in best], worst),
                "front": [
                    {"choices": dict(one.choices), "error": one.error, "costs": one.costs.to_json()}
                    for one in best
                ],
            }
            for method, best in fronts.items()
        },
    }


def picture(searches: Mapping[str, Sequence[Evaluated]], cost: str, title: str) -> str:
    """An SVG file: every network within the limits as a dot, each method's front as a line.

    A method without any has none; if there is none at all, the axes are empty.
    """
    inside = {m: [one for one in found if one.error is not None] for m, found in searches.items()}
    every = [_point(one, cost) for found in inside.values() for one in found] or [(0.0, 0.0), (1.0, 1.0)]
    highest, right = max(100 * e for e, _ in every) * 1.05 or 1.0, max(c for _, c in every) * 1.05 or 1.0
    frame = Frame(WIDTH, HEIGHT, (0.0, right), (0.0, highest))
    parts = [svg.element("style", svg.Markup(STYLE)), *frame.axes(TITLES[cost], f"{title}: error, %")]
    for i, (method, found) in enumerate(inside.items()):
        for one in found:
            error, amount = _point(one, cost)
            tip = svg.element("title", f"{100 * error:.2f} %, {_words(one.costs)}")
            place = {"cx": frame.x(amount), "cy": frame.y(100 * error)}
            parts.append(svg.element("circle", tip, **place, r=3.0, class_=method))
        line = [_point(one, cost) for one in front(found, cost)]
        parts.append(svg.polyline(((frame.x(c), frame.y(100 * e)) for e, c in line), class_=method))
        parts.append(svg.text(WIDTH - 20, 40 + 16 * i, f"{method}, {len(found)}", "end", class_=method))
    drawn = svg.drawing(WIDTH, HEIGHT, f"search of {title}", parts, xmlns="http://www.w3.org/2000/svg")
    return f"{drawn}\n"


def _words(costs: Costs) -> str:
    energy = "" if costs.energy is None else f", {costs.energy:.3g} mJ"
    return f"{costs.latency:.3g} ms{energy}, {costs.size} bytes"


def _error(one: Evaluated) -> float:
    assert one.error is not None
    return one.error


def _point(one: Evaluated, cost: str) -> tuple[float, float]:
    return _error(one), cost_of(one.costs, cost)

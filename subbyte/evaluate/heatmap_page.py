"""The heat maps of a sensitivity analysis as a page of their own, which needs no network."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from subbyte.evaluate.heatmaps import sensitivity_heatmaps

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1500px;margin:2rem auto;padding:0 1rem}}
h1{{font-size:1.4rem}}h2{{font-size:1.1rem;margin-top:2rem}}</style></head>
<body><h1>{title}</h1>
<p>What one layer alone at that width adds to the KL divergence of the class probabilities from those of
float32, in a network that has 8 bits everywhere else.</p>
"""


def render_heatmaps(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """rows: as heatmaps.sensitivity_heatmaps takes them. Returns the page's HTML."""
    parts, calls = [_HEAD.format(title=html.escape(title))], []
    for figure in sensitivity_heatmaps(rows):
        parts.append(f'<h2>{html.escape(figure["title"])}</h2><div id="{figure["id"]}"></div>')
        # a "<" in a name must not end the script
        drawn = json.dumps([figure["id"], figure["data"], figure["layout"]]).replace("<", "\\u003c")
        calls.append(f"Plotly.newPlot(...{drawn}, {{responsive: true, displayModeBar: false}});")
    parts.append(f"<script>{get_plotlyjs()}</script><script>{' '.join(calls)}</script></body></html>\n")
    return "\n".join(parts)

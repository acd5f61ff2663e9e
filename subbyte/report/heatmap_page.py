"""The heat maps of a sensitivity analysis as a page of their own, which needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subbyte.report.heatmaps import sensitivity_heatmaps
from subbyte.report.page import page_environment


def render_heatmaps(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """rows: as heatmaps.sensitivity_heatmaps takes them. Returns the page's HTML."""
    template = page_environment().get_template("heatmaps.html")
    return str(template.render(title=title, heatmaps=sensitivity_heatmaps(rows)))

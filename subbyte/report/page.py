"""What every page is rendered with: escaping, number formats, the style sheet, the one script, its policy."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from subbyte.report.layer_table import described, histogram_drawing
from subbyte.report.svg import Markup
from subbyte.system.units import percent, size_text


def page_environment() -> Any:
    """The jinja2 environment of pages: everything is escaped, and what a page needs is at hand as `script`,
    `policy` and the template report.css."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("subbyte.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size_text, "percent": percent, "kilobytes": _kilobytes}
    environment.filters |= {"histogram": histogram_drawing, "described": described}
    script = Path(__file__).with_name("report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "policy": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
    }
    return environment


def _kilobytes(count: float) -> str:
    return f"{count / 1e3:,.1f}"

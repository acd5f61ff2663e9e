"""The page by its parts: hostile names stay text, nothing loads, tables sort, and it fits on a telephone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data.samples import Sample
from subbyte.metrics.accuracy import agreement, score, top_classes
from subbyte.metrics.robustness import Robustness
from subbyte.metrics.statistics import Paired
from subbyte.preprocess import Preprocessing
from subbyte.report import report
from subbyte.report.contents import Report
from subbyte.report.entry import Entry
from subbyte.report.heatmap_page import render_heatmaps
from subbyte.report.layers import Histogram, Layer

HOSTILE = "\"'><img src=x onerror=alert(1)></script><!--\u2028|`[a](javascript:x)`\n# {{ 7 * 7 }}"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def plan_row(name: str, share: float) -> dict[str, object]:
    return {
        **{"name": name, "op": "conv2d", "kernel": "dot_u8s4", "isa": "portable", "requested": "int4 uint8"},
        **{
            "executed": "int4 uint8",
            "macs": 9_000_000,
            "weight_bytes": 512,
            "buffer_bytes": 4096,
            "share": share,
        },
    }


def page_of(folder: Path, name: str) -> Report:
    """Everything measured, and `name` in every place that a file, a folder or metadata can fill."""
    samples = []
    for i in range(4):
        file = folder / f"{i}.png"
        Image.new("RGB", (60, 40), (60 * i, 90, 20)).save(file)
        samples.append(Sample(file, i % 3))
    good = top_classes(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    bad = top_classes(np.eye(3, dtype=np.float32)[[0, 1, 1, 1]])
    robust = Robustness(("snow", "fog"), (1, 3), np.ones(4, bool), np.ones((4, 2, 2), bool))
    layers = [
        Layer(f"blocks.{i}.{name}", "conv2d", "1×1", (f"blocks.{i - 1}.{name}",) if i else (), (7, 7, 64))
        for i in range(12)
    ]
    layers = [replace(layer, weights=Histogram(4, -8, 7, tuple(range(16)))) for layer in layers]
    base = Entry(
        f"base {name}",
        "fp32",
        accuracy=score(good, samples),
        agreement=None,
        file_bytes=20_000_000,
        memory_bytes=30_000_000,
        latency_ms=4.0,
        latency_range_ms=(3.9, 4.4),
        float_speedup=0.5,
        predictions=good,
        robustness=robust,
    )
    small = replace(
        base,
        name=f"small {name}",
        precision=name,
        accuracy=score(bad, samples),
        agreement=agreement(bad, good),
        compared=Paired(4, 2, 0),
        calibration=0.1,
        file_bytes=2_000_000,
        float_speedup=3.6,
        float_speedup_range=(3.5, 3.7),
        speedup=1.8,
        predictions=bad,
        plan=[plan_row(layer.name, 1 / 12) for layer in layers],
        layers=layers,
        sqnr={layer.name: 20.0 for layer in layers},
        recipe={"name": name, name: [name, {name: name}]},
        provenance={name: name},
    )
    peer = Entry(f"peer {name}", name, peer=True, latency_ms=2.0, file_bytes=20_000_000, float_speedup=1.0)
    sensitivity = [
        {"kind": "weights", "layer": layer.name, "bits": bits, "kl": 0.01 * bits, "sqnr": 9.0}
        for layer in layers
        for bits in (4, 2)
    ]
    return Report(
        name,
        [base, small, peer],
        samples,
        [f"class {i} {name}" for i in range(3)],
        base.name,
        {"CPU": name, "threads": 1, name: {name: name}, "list": [name]},
        fastest_peer=f"quick {name}",
        warning=name,
        sensitivity=sensitivity,
        fastest_float=peer.name,
        corrupted=samples,
        preprocessing=Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3),
        error_images=2,
    )


class Elements(HTMLParser):
    """All start tags with their attributes, and the text outside of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.found.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text += data

    def of(self, tag: str, class_: str = "") -> list[dict[str, str]]:
        """Attributes of all elements of that tag, and class if one is given."""
        found = [attributes for name, attributes in self.found if name == tag]
        return [a for a in found if not class_ or class_ in a.get("class", "").split()]


@pytest.mark.parametrize("html", ["report", "heatmaps"])
def test_hostile_names_stay_text(tmp_path: Path, html: str) -> None:
    """The page has the same elements and attributes as with a harmless name, and shows the name."""
    page, harmless = (page_of(tmp_path, name) for name in (HOSTILE, "harmless"))
    pair = [
        report.render(p) if html == "report" else render_heatmaps(p.sensitivity, p.title)
        for p in (page, harmless)
    ]
    hostile, plain = (Elements(text) for text in pair)
    shape = [[(tag, sorted(attributes)) for tag, attributes in e.found] for e in (hostile, plain)]
    assert shape[0] == shape[1]
    assert "onerror=alert(1)" in hostile.text
    assert "{{ 7 * 7 }}" in hostile.text
    assert pair[0].count("<script") == pair[0].count("</script>") == 1


def test_hostile_names_stay_one_cell_of_markdown(tmp_path: Path) -> None:
    text = report.markdown(page_of(tmp_path, HOSTILE))
    assert not re.search(r"(?<!\\)`|(?<!\\)\[|<(?!!--)", text.replace("&lt;", ""))
    assert "<" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert len(cells) == 1
    assert len(rows) == 5
    assert [line for line in text.splitlines() if line.startswith("#")] == [text.splitlines()[0]]


def test_nothing_is_loaded(tmp_path: Path) -> None:
    html = report.render(page_of(tmp_path, "tiny"))
    for tag, attributes in Elements(html).found:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        for key in ("src", "href", "srcset", "xlink:href", "action", "data"):
            assert attributes.get(key, "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert not any(key.startswith("on") for key in attributes), attributes
    assert not re.search(r"https?://|url\(|@import", html)


def test_headline_and_tables(tmp_path: Path) -> None:
    page = Elements(report.render(page_of(tmp_path, "tiny")))
    assert (
        "small tiny is 10.0× smaller than base tiny and 3.6× faster than peer tiny, the fastest" in page.text
    )
    assert "with an accuracy drop of 50.0 points (95 % interval " in page.text
    assert len(page.of("table", "sortable")) == 2
    headings = [attributes["data-sort"] for attributes in page.of("th") if "data-sort" in attributes]
    assert {"text", "number"} == set(headings)
    values = [a["data-value"] for a in page.of("td", "n") if "data-value" in a]
    assert len(values) >= 12 * 5
    assert all(value == "" or float(value) is not None for value in values)
    assert page.of("svg", "plot")
    assert len(page.of("polyline", "pareto")) == 2 * 3
    assert len(page.of("svg", "histogram")) == 12
    assert [a["class"] for a in page.of("input") if a.get("type") == "radio"] == [
        "by-bits",
        "by-time",
        "by-error",
    ]
    (box,) = page.of("div", "filter")
    assert "hidden" in box  # without the script there is nothing to filter with
    assert box["data-table"] in {a.get("id") for a in page.of("table", "layers")}
    assert len(page.of("button", "zoom")) == 12 + 4 + 2 * 3  # histograms, samples, corrupted ones


def test_the_words_are_those_of_the_field(tmp_path: Path) -> None:
    page = page_of(tmp_path, "tiny")
    for text in (Elements(report.render(page)).text, report.markdown(page)):
        assert not re.search("pictur|times as fast|technique|impact", text.lower())
        for word in ("speedup", "accuracy drop"):
            assert word in text


def test_style_has_dark_narrow_print_and_a_first_column_that_stays(tmp_path: Path) -> None:
    html = report.render(page_of(tmp_path, "tiny"))
    for pattern in (
        r"@media \(prefers-color-scheme: dark\)",
        r':root\[data-theme="dark"\] \{\s*color-scheme: dark',
        r"@media \(max-width: 640px\)",
        r"@media print",
        r"\.scroll tr > :first-child \{ position: sticky; left: 0",
        r"\.scroll \{\s*overflow-x: auto",
    ):
        assert re.search(pattern, html), pattern
    wrapped = re.findall(r'<div class="scroll[^>]*>\s*<(\w+)', html)
    assert wrapped.count("table") == 4


PAIRS = {"text": ("--ink", "--card"), "soft": ("--soft", "--raised"), "link": ("--accent", "--tint")}
PAIRS |= {"good": ("--good", "--card"), "bad": ("--bad", "--card"), "tile": ("--soft", "--card")}
PAIRS |= {
    f"{scale}{i}": (f"--{scale}{i}", "--low" if i < 4 else "--high") for scale in "te" for i in range(7)
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("pair", PAIRS)
def test_contrast(tmp_path: Path, theme: str, pair: str) -> None:
    """At least 4.5, what WCAG 2.1 asks of text at level AA."""
    start = ":root {" if theme == "light" else ':root[data-theme="dark"] {'
    rules = report.render(page_of(tmp_path, "tiny")).split(start)[1].partition("}")[0]
    colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", rules))
    a, b = (luminance(colours[name]) for name in PAIRS[pair])
    assert (max(a, b) + 0.05) / (min(a, b) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


FRAME = """<!doctype html><iframe src="page.html" width="{width}" height="2000"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, width = {width};
  const wide = [...page.body.querySelectorAll("*")].filter((e) =>
    e.getBoundingClientRect().right > width + 0.5 && !e.closest(".scroll") && !e.closest("[hidden]"));
  const shown = wide.map((e) => e.outerHTML.slice(0, 120));
  document.title = JSON.stringify([page.documentElement.scrollWidth, shown,
    page.querySelectorAll("th button").length, page.querySelector(".filter output").textContent,
    page.querySelector(".theme").textContent]);
}};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
@pytest.mark.parametrize("name", ["tiny", "a_very_long_name_without_any_space_" * 3])
def test_nothing_is_wider_than_a_telephone(tmp_path: Path, name: str) -> None:
    """At 360 pixels; and the one script runs, although the policy forbids every other."""
    assert CHROMIUM is not None
    (tmp_path / "page.html").write_text(report.render(page_of(tmp_path, name)), "utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=360), "utf-8")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += ["--allow-file-access-from-files", "--virtual-time-budget=20000", "--hide-scrollbars"]
    command += ["--dump-dom"]
    shown = subprocess.run(
        [*command, (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (title,) = re.findall(r"<title>(.*?)</title>", shown.stdout) or [shown.stderr]
    assert title.startswith("[360,[],"), title
    assert '"12 of 12 layers","Dark theme"]' in title

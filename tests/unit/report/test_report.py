"""The report holds what it was given, and nothing that needs a network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir.shares import Shares
from subbyte.metrics.accuracy import agreement, score, top_classes
from subbyte.metrics.cue_conflict import ShapeBias
from subbyte.metrics.robustness import Robustness
from subbyte.metrics.statistics import Paired
from subbyte.preprocess import Preprocessing
from subbyte.quant import activation_format, weight_format
from subbyte.quant.format import INT8, UINT8
from subbyte.report import report
from subbyte.report.contents import Report
from subbyte.report.entry import Entry
from subbyte.report.figures import accuracy_by_severity, figures_of, latency_bars, pareto
from subbyte.report.gallery import corrupted_rows, pick
from subbyte.report.heatmaps import corruption_table, degradation_step, sensitivity_heatmaps
from subbyte.report.techniques import markdown_table, technique_table
from subbyte.tasks import TASKS


def plan_row(name: str, share: float | None, executed: str = "int4 uint8") -> dict[str, Any]:
    return {
        "name": name,
        "op": "conv2d",
        "kernel": "dot_u8s4",
        "isa": "portable",
        "requested": "int4 uint8",
        "executed": executed,
        "macs": 1_000_000,
        "weight_bytes": 512,
        "buffer_offset": 64,
        "buffer_bytes": 4096,
        "share": share,
    }


@pytest.fixture
def page(tmp_path: Path) -> Report:
    """Four images, three classes, three entries that disagree on image 2 only."""
    samples = []
    for i, label in enumerate((0, 1, 2, 0)):
        Image.new("RGB", (40, 30), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
        samples.append(Sample(tmp_path / f"{i}.png", label))
    good = top_classes(np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0]], np.float32))
    bad = top_classes(np.array([[3, 0, 0], [0, 3, 0], [3, 0, 0], [3, 0, 0]], np.float32))
    float_entry = Entry(
        "tiny-fp32",
        "fp32",
        accuracy=score(good, samples),
        agreement=4,
        file_bytes=4_000_000,
        latency_ms=2.0,
        latency_range_ms=(1.9, 2.2),
        predictions=good,
    )
    small = replace(
        float_entry,
        name="tiny-w4a8",
        precision="w4a8",
        accuracy=score(bad, samples),
        agreement=agreement(bad, good),
        file_bytes=600_000,
        latency_ms=0.5,
        latency_range_ms=(0.4, 0.6),
        speedup=1.8,
        predictions=bad,
        plan=[plan_row("stem", 0.25), plan_row("head", 0.75, executed="w8a8")],
        recipe={"name": "w4a8", "weights": {"bits": 4}},
        provenance={"model": "tiny <model>"},
    )
    peer = Entry("onnxruntime-int8", "int8", peer=True, latency_ms=0.9, file_bytes=700_000)
    facts = {"CPU": "a processor", "threads": 1, "isas": ["portable", "avx2"]}
    return Report(
        "Tiny & small", [float_entry, small, peer], samples, ["cat", "dog", "</script>"], "tiny-fp32", facts
    )


def text_of(html: str) -> str:
    """What the page shows, roughly: without its style and script."""
    return re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.DOTALL)


def test_page_holds_every_number(page: Report) -> None:
    html = report.render(page)
    for text in ("100.00", "4 of 4", "75.00", "3 of 4", "4.00 MB", "600 kB", "0.50 ms", "0.40 – 0.60"):
        assert text in html
    for text in ("tiny-w4a8", "onnxruntime-int8", "tiny &lt;model&gt;", "Tiny &amp; small", "bits: 4"):
        assert text in html
    assert "a processor · 1 thread<" in html


def test_page_is_self_contained_and_escapes(page: Report) -> None:
    html = report.render(page)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)
    assert "@import" not in html
    assert "url(" not in html
    assert html.count("</script>") == 1
    assert "&lt;/script&gt;" in html


def test_the_policy_allows_the_page_s_own_script_only(page: Report) -> None:
    html = report.render(page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert policy
    assert script
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    directives = unescape(policy.group(1)).split("; ")
    assert "default-src 'none'" in directives
    assert f"script-src 'sha256-{digest}'" in directives
    assert "img-src data:" in directives
    assert not re.search(r"https?:|\*|unsafe-eval", policy.group(1))


def test_speedups_name_what_they_are_relative_to_and_a_warning_shows(page: Report) -> None:
    assert "speedup" not in text_of(report.render(page))
    own, small, peer = page.entries
    entries = [own, replace(small, float_speedup=3.6, float_speedup_range=(3.5, 3.7)), peer]
    timed = replace(
        page, entries=entries, fastest_peer="onnxruntime-int8", fastest_float="ort-fp32", warning="Busy."
    )
    html = report.render(timed)
    for text in ("1.80×", "3.60×", "3.50 – 3.70", "speedup vs ort-fp32", "speedup vs onnxruntime-int8"):
        assert text in text_of(html)
    assert "ort-fp32 is the fastest float32 runtime timed" in html
    assert '<p class="warning">Busy.</p>' in html


def test_gallery_shows_images_and_who_is_wrong(page: Report) -> None:
    html = report.render(page)
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(uris) == 4
    for uri in uris:
        with Image.open(io.BytesIO(base64.b64decode(uri))) as image:
            assert image.size == (40, 30)
    assert html.count('class="wrong"') == 1
    assert html.count('class="right"') == 7
    assert html.count('class="zoom" data-caption="') >= 4


def test_pick_prefers_disagreement_then_spreads(page: Report) -> None:
    assert pick(page, 2) == [0, 2]
    assert pick(page, 99) == [0, 1, 2, 3]
    assert pick(replace(page, entries=page.entries[2:]), 4) == []


def test_plan_marks_another_executed_precision_and_shares(page: Report) -> None:
    html = report.render(page)
    assert html.count('class="differs"') == 1
    assert '<td class="n share" data-value="0.25">25.0<' in html
    assert '<td class="n share" data-value="0.75">75.0<' in html
    assert 'style="width: 33.3%"' in html
    assert 'style="width: 100.0%"' in html


def test_plan_without_profile(page: Report) -> None:
    entry = replace(page.entries[1], plan=[plan_row("stem", None)])
    html = report.render(replace(page, entries=[entry], reference=entry.name))
    assert "stem" in html
    assert 'style="width' not in html


def test_figures_carry_the_measured_values(page: Report) -> None:
    figures = figures_of(page.entries)
    assert [f.id for f in figures] == ["accuracy-over-size", "accuracy-over-latency", "latency"]
    for drawing in (figures[0].wide, figures[0].narrow):
        svg = ElementTree.fromstring(drawing)
        tips = [title.text or "" for title in svg.iter("title")]
        assert tips[0].startswith("tiny-fp32: 100.00 % (51.0 to 100.0), file size, MB 4.00")
        assert tips[1].startswith("tiny-w4a8: 75.00 %")
        (front,) = svg.findall("polyline[@class='pareto']")
        assert len(front.attrib["points"].split()) == 4  # two points, the corner between, and the end
        assert {e.text for e in svg.findall("text[@class='label']")} == {"tiny-fp32", "tiny-w4a8"}
        assert len(svg.findall("line[@class='leader']")) == 2
    tips = [str(title.text) for title in ElementTree.fromstring(figures[2].wide).iter("title")]
    assert tips == ["tiny-w4a8: 0.500 ms", "onnxruntime-int8: 0.900 ms", "tiny-fp32: 2.000 ms"]
    assert [f.id for f in figures_of(page.entries[:1])] == ["latency"]
    assert latency_bars([replace(page.entries[0], latency_ms=None)]) is None


def test_equal_points_are_rings_around_each_other(page: Report) -> None:
    twin = replace(page.entries[0], name="twin", file_bytes=page.entries[0].file_bytes)
    svg = ElementTree.fromstring(figures_of([page.entries[0], twin])[0].wide)
    marks = [element for element in svg.iter() if "mark" in element.attrib.get("class", "").split()]
    assert ["ring" in mark.attrib["class"] for mark in marks] == [True, False]
    places = [element.attrib["y"] for element in svg.findall("text[@class='label']")]
    assert len(set(places)) == 2


def test_pareto_front() -> None:
    """b costs as much as c and is worse, d costs more than c and is not better."""
    a, b, c, d, e = (1.0, 0.2), (2.0, 0.3), (2.0, 0.6), (3.0, 0.6), (4.0, 0.9)
    assert pareto([e, d, b, a, c]) == [a, c, e]


def robust(*right: list[list[int]]) -> Robustness:
    """Two families at two severities."""
    cells = np.array(right, bool)
    return Robustness(("snow", "zoom_blur"), (1, 3), np.ones(len(cells), bool), cells)


@pytest.fixture
def full(page: Report) -> Report:
    """Everything measured; the second entry agrees on one image of four."""
    first, small, peer = page.entries
    first = replace(first, robustness=robust([[1, 1], [1, 0]], [[1, 1], [1, 1]]), memory_bytes=9_000_000)
    small = replace(
        small,
        agreement=1,
        compared=Paired(4, lost=1, gained=0),
        calibration=0.125,
        memory_bytes=1_000_000,
        load_ms=7.0,
        reference_speedup=4.0,
        float_speedup=3.6,
        float_speedup_range=(3.5, 3.7),
        robustness=robust([[1, 0], [0, 0]], [[1, 1], [1, 0]]),
        shape_bias=ShapeBias(n=10, shape=2, texture=6),
    )
    layers = [
        {"kind": "weights", "layer": name, "bits": bits, "kl": kl, "sqnr": sqnr}
        for name, bits, kl, sqnr in (("stem", 4, 0.3, 8.5), ("head", 8, 0.0, 40.0), ("stem", 2, 2.0, 1.5))
    ]
    return replace(page, entries=[first, small, peer], sensitivity=layers)


def test_techniques_beside_the_reference(full: Report) -> None:
    headings, rows = technique_table(full.entries, "tiny-fp32", "ort-fp32")
    cells = [dict(zip(headings, row, strict=True)) for row in rows]
    assert cells[1]["network"] == ("tiny-w4a8", "failed")
    assert cells[1]["file"] == ("600 kB", "6.7× smaller")
    assert cells[1]["memory"] == ("1.00 MB", "9.0× smaller")
    assert cells[1]["speedup vs ort-fp32"] == ("3.60×", "3.50 – 3.70")
    low, high = Paired(4, 1, 0).interval()
    note = f"{-100 * high:.2f} to {-100 * low:.2f}, p = 1".replace("-", "−")
    assert cells[1]["accuracy drop"] == ("25.00", note)
    assert cells[1]["corrupted images"].text == "50.00 %"
    assert cells[1]["robustness drop"].text == "37.50"
    assert cells[1]["shape bias"] == ("25.00 %", "20.00 % by shape")
    assert cells[1]["calibration error"].text == "12.50 %"
    assert [cell.text for cell in rows[2][5:]] == ["–"] * len(rows[2][5:])
    assert cells[0]["robustness drop"].text == "–"


def test_columns_without_measurements_are_left_out(page: Report) -> None:
    headings, _ = technique_table(page.entries, "tiny-fp32")
    assert "shape bias" not in headings
    assert "file" in headings


def test_markdown_is_the_same_table(full: Report) -> None:
    lines = markdown_table(full.entries, "tiny-fp32").splitlines()
    headings, rows = technique_table(full.entries, "tiny-fp32")
    assert len(lines) == 2 + len(rows)
    assert {line.count("|") for line in lines} == {len(headings) + 1}
    assert "600 kB (6.7× smaller)" in lines[3]
    text = report.markdown(full)
    assert text.startswith("# Tiny &amp; small\n")
    assert "- CPU: a processor" in text


def test_json_rows_hold_everything(full: Report) -> None:
    first, small, _ = json.loads(json.dumps(report.table_rows(full), allow_nan=False))
    assert (small["lost"], small["gained"], small["difference"], small["mcnemar_p"]) == (1, 0, -0.25, 1.0)
    assert (small["memory_bytes"], small["load_ms"], small["reference_speedup"]) == (1_000_000, 7.0, 4.0)
    assert (small["float_speedup"], small["fastest_float"]) == (3.6, None)
    assert small["robustness"]["top1"] == {"snow": [2, 1], "zoom_blur": [1, 0]}
    assert small["shape_bias"]["shape_bias"] == 0.25
    assert (first["failed"], small["failed"]) == (False, True)
    assert first["difference"] is None


def test_failures_name_their_worst_layers(full: Report) -> None:
    """The second entry asks for 4 bits: neither the row of 2 bits nor that of 8 is about it."""
    html = report.render(full)
    section = html[
        html.index("<h2>Failed") : html.index("accuracy-over-size")
        if "accuracy-over-size" in html
        else html.index("<h2>Latency")
    ]
    assert "on 1 of 4 images only" in section
    assert "<code>stem</code> at 4 bits (8.5 dB)." in section
    assert "head" not in section
    assert "<h2>Failed" not in report.render(replace(full, entries=full.entries[:1]))


def test_corruption_table_is_the_mean_of_the_severities(full: Report) -> None:
    table = corruption_table(full.entries)
    assert table is not None
    assert table.headings == ["clean", "snow", "zoom blur"]
    assert [(name, [percent for percent, _ in cells]) for name, cells in table.rows] == [
        ("tiny-fp32", [100, 100, 75]),
        ("tiny-w4a8", [100, 75, 25]),
    ]
    assert [step for _, step in table.rows[1][1]] == [0, 1, 5]
    curves = accuracy_by_severity(full.entries)
    assert curves is not None
    tips = [str(title.text) for title in ElementTree.fromstring(curves.wide).iter("title")]
    assert tips[3:] == [f"tiny-w4a8, severity {x}: {y:.1f} %" for x, y in ((0, 100), (1, 75), (3, 25))]
    assert corruption_table(full.entries[2:]) is None
    assert accuracy_by_severity(full.entries[2:]) is None


def test_corrupted_images_stand_beside_their_original(full: Report) -> None:
    assert corrupted_rows(full, 2) == []
    way = Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3)
    shown = replace(full, corrupted=full.samples[:2], preprocessing=way)
    rows = corrupted_rows(shown, 2)
    assert [row["truth"] for row in rows] == ["cat", "dog"]
    assert [cell["title"] for cell in rows[0]["cells"]] == ["original", "snow", "zoom blur"]
    assert rows[0]["cells"][1]["right"] == ["tiny-fp32"]  # at severity 3, the second of two
    uris = [cell["uri"] for cell in rows[0]["cells"]]
    assert uris[0] != uris[1]
    html = report.render(shown)
    assert all(uri in html for uri in uris)
    assert "1 of 2 right" in html


def test_sensitivity_maps(full: Report) -> None:
    (plot,) = sensitivity_heatmaps(full.sensitivity)
    cells = {
        (title.text or "").split("\n")[0]: group.attrib["class"]
        for group in ElementTree.fromstring(plot.drawing).iter("g")
        for title in group.findall("title")
    }
    assert cells == {"stem, 4 bits": "h6", "head, 8 bits": "h0", "stem, 2 bits": "h6"}
    assert [degradation_step(kl) for kl in (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 9.0)] == [0, 0, 1, 3, 5, 6, 6]
    html = report.render(full)
    assert 'id="sensitivity-weights"' in html
    assert 'id="corruptions"' in html


def test_page_without_measurements_has_no_figures(page: Report) -> None:
    bare = Entry("tiny", "fp32")
    html = report.render(replace(page, entries=[bare], reference="tiny"))
    assert "<svg" not in html
    assert "latency, ms" not in html
    assert "nothing was measured" in html
    assert "–" in html


def test_unreadable_sample_is_named(page: Report) -> None:
    page.samples[2].path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.png"):
        report.render(page)


def test_a_page_of_key_points_has_their_words_and_marks(tmp_path: Path) -> None:
    task = TASKS["keypoints"]
    label = (0.25, 0.25, 0.75, 0.75)
    samples = []
    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
        samples.append(Sample(tmp_path / f"{i}.png", label))
    good = task.answers([np.array([label] * 4, np.float32)])
    bad = task.answers([np.array([(0.75, 0.75, 0.25, 0.25)] * 4, np.float32)])
    base = Entry("exact", "fp32", accuracy=task.score(good, samples), predictions=good)
    wrong = Entry(
        "swapped",
        "w2a8",
        accuracy=task.score(bad, samples),
        predictions=bad,
        agreement=0.0,
        compared=task.compared(bad, good, samples),
    )
    page = Report("Points", [base, wrong], samples, None, "exact", {}, task=task)
    html = report.render(page)
    assert "PCK@0.1, %" in html
    assert "swapped</b> agrees with exact to 0.00 % only (points within 0.1)" in html
    assert "top-1" not in text_of(html)
    assert pick(page, 4) == [0, 1, 2, 3]
    assert report.table_rows(page)[1]["pck"] == 0.0
    uri = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert uri
    with Image.open(io.BytesIO(base64.b64decode(uri.group(1)))) as image:
        pixels = np.asarray(image).astype(int)
    assert pixels.shape[:2] == (160, 160)  # enlarged, so that marks do not hide it
    ring, corner = pixels[40 - 8 : 40 + 8, 40 - 8 : 40 + 8], pixels[:16, :16]
    assert ring.max() > 200 > corner.max()


def test_shares_of_weights_and_activations_stand_side_by_side(full: Report) -> None:
    four = Shares({INT8: 1, weight_format(4): 3}, {UINT8: 1000, activation_format(4): 1})
    entries = [replace(entry, shares=None if entry.peer else four) for entry in full.entries]
    headings, rows = technique_table(entries, "tiny-fp32")
    assert headings.index("activations") == headings.index("weights") + 1
    cells = dict(zip(headings, rows[0], strict=True))
    assert cells["weights"].text == "8 bits 25 %, 4 bits 75 %"
    assert cells["activations"].text == "8 bits > 99 %, 4 bits < 1 %"

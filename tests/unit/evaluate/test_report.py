"""The report holds what it was given, and nothing that needs a network."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subbyte.errors import InputError
from subbyte.evaluate import report
from subbyte.evaluate.accuracy import agreement, score, top_classes
from subbyte.evaluate.cue_conflict import ShapeBias
from subbyte.evaluate.data import Sample
from subbyte.evaluate.entry import Entry
from subbyte.evaluate.figures import accuracy_by_severity, figures_of, latency_bars, pareto
from subbyte.evaluate.gallery import pick
from subbyte.evaluate.heatmaps import corruption_heatmap, sensitivity_heatmaps
from subbyte.evaluate.robustness import Robustness
from subbyte.evaluate.statistics import Paired
from subbyte.evaluate.techniques import markdown_table, technique_table


def plan_row(name: str, share: float | None, executed: str = "w4a8") -> dict[str, Any]:
    return {
        "name": name,
        "op": "conv2d",
        "kernel": "dot_u8s4",
        "isa": "portable",
        "requested": "w4a8",
        "executed": executed,
        "macs": 1_000_000,
        "weight_bytes": 512,
        "buffer_offset": 64,
        "buffer_bytes": 4096,
        "share": share,
    }


@pytest.fixture
def page(tmp_path: Path) -> report.Report:
    """Four pictures, three classes, three entries that disagree on picture 2 only."""
    samples = []
    for i, label in enumerate((0, 1, 2, 0)):
        Image.new("RGB", (40, 30), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
        samples.append(Sample(tmp_path / f"{i}.png", label))
    good = top_classes(np.float32([[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0]]))
    bad = top_classes(np.float32([[3, 0, 0], [0, 3, 0], [3, 0, 0], [3, 0, 0]]))
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
    return report.Report(
        "Tiny & small", [float_entry, small, peer], samples, ["cat", "dog", "</script>"], "tiny-fp32", facts
    )


def without_plotly(html: str) -> str:
    from plotly.offline import get_plotlyjs

    assert html.count(get_plotlyjs()) == 1
    return html.replace(get_plotlyjs(), "")


def test_page_holds_every_number(page: report.Report) -> None:
    html = without_plotly(report.render(page))
    for text in ("100.00 %", "4 of 4", "75.00 %", "3 of 4", "4.00 MB", "600 kB", "0.50 ms", "0.40 – 0.60"):
        assert text in html
    for text in ("tiny-w4a8", "onnxruntime-int8", "tiny &lt;model&gt;", "Tiny &amp; small", "bits: 4"):
        assert text in html
    assert "a processor · 1 thread<" in html


def test_page_is_self_contained_and_escapes(page: report.Report) -> None:
    html = without_plotly(report.render(page))
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)
    assert "@import" not in html
    assert html.count("</script>") == 2
    assert "&lt;/script&gt;" in html


def test_speedup_names_its_peer_and_a_warning_shows(page: report.Report) -> None:
    assert "times as fast" not in without_plotly(report.render(page))
    html = without_plotly(report.render(replace(page, fastest_peer="onnxruntime-int8", warning="Busy.")))
    assert "1.80 ×" in html
    assert "as onnxruntime-int8, the fastest peer" in html
    assert '<p class="warning">Busy.</p>' in html


def test_gallery_shows_pictures_and_who_is_wrong(page: report.Report) -> None:
    html = without_plotly(report.render(page))
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(uris) == 4
    for uri in uris:
        with Image.open(io.BytesIO(base64.b64decode(uri))) as picture:
            assert picture.size == (40, 30)
    assert html.count('class="wrong"') == 1
    assert html.count('class="right"') == 7


def test_pick_prefers_disagreement_then_spreads(page: report.Report) -> None:
    assert pick(page, 2) == [0, 2]
    assert pick(page, 99) == [0, 1, 2, 3]
    assert pick(replace(page, entries=page.entries[2:]), 4) == []


def test_plan_marks_another_executed_precision_and_shares(page: report.Report) -> None:
    html = without_plotly(report.render(page))
    assert html.count('class="differs"') == 1
    assert "25.0 %" in html
    assert "75.0 %" in html
    assert 'style="width: 33.3%"' in html
    assert 'style="width: 100.0%"' in html


def test_plan_without_profile(page: report.Report) -> None:
    entry = replace(page.entries[1], plan=[plan_row("stem", None)])
    html = without_plotly(report.render(replace(page, entries=[entry], reference=entry.name)))
    assert "stem" in html
    assert 'style="width' not in html


def test_figures_carry_the_measured_values(page: report.Report) -> None:
    figures = figures_of(page.entries)
    assert [f["id"] for f in figures] == ["accuracy-over-size", "accuracy-over-latency", "latency"]
    front, *points = figures[0]["data"]
    assert [trace["name"] for trace in points] == ["tiny-fp32", "tiny-w4a8"]
    assert [trace["x"] for trace in points] == [[4.0], [0.6]]
    assert [trace["y"] for trace in points] == [[100.0], [75.0]]
    assert (front["x"], front["y"]) == ([0.6, 4.0], [75.0, 100.0])
    assert figures[2]["data"][0]["x"] == [0.9, 0.5, 2.0]
    json.dumps(figures, allow_nan=False)
    assert [f["id"] for f in figures_of(page.entries[:1])] == ["latency"]
    assert latency_bars([replace(page.entries[0], latency_ms=None)]) is None


def test_pareto_front() -> None:
    """b costs as much as c and is worse, d costs more than c and is not better."""
    a, b, c, d, e = (1.0, 0.2), (2.0, 0.3), (2.0, 0.6), (3.0, 0.6), (4.0, 0.9)
    assert pareto([e, d, b, a, c]) == [a, c, e]


def robust(*right: list[list[int]]) -> Robustness:
    """Two families at two severities."""
    cells = np.array(right, bool)
    return Robustness(("snow", "zoom_blur"), (1, 3), np.ones(len(cells), bool), cells)


@pytest.fixture
def full(page: report.Report) -> report.Report:
    """Everything measured; the second entry agrees on one picture of four."""
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
        robustness=robust([[1, 0], [0, 0]], [[1, 1], [1, 0]]),
        shape_bias=ShapeBias(n=10, shape=2, texture=6),
    )
    layers = [
        {"kind": "weights", "layer": name, "bits": bits, "kl": kl, "sqnr": sqnr}
        for name, bits, kl, sqnr in (("stem", 4, 0.3, 8.5), ("head", 8, 0.0, 40.0), ("stem", 2, 2.0, 1.5))
    ]
    return replace(page, entries=[first, small, peer], sensitivity=layers)


def test_techniques_beside_the_reference(full: report.Report) -> None:
    headings, rows = technique_table(full.entries, "tiny-fp32")
    cells = [dict(zip(headings, row, strict=True)) for row in rows]
    assert cells[1]["technique"] == ("tiny-w4a8", "failed")
    assert cells[1]["file"] == ("600 kB", "6.7 × smaller")
    assert cells[1]["memory"] == ("1.00 MB", "9.0 × smaller")
    assert cells[1]["speed-up"] == ("4.00 ×", "")
    low, high = Paired(4, 1, 0).interval()
    assert cells[1]["accuracy impact"] == ("-25.00", f"{100 * low:+.2f} to {100 * high:+.2f}, p = 1")
    assert cells[1]["corrupted pictures"].text == "50.00 %"
    assert cells[1]["robustness impact"].text == "-37.50"
    assert cells[1]["shape bias"] == ("25.00 %", "20.00 % by shape")
    assert cells[1]["calibration error"].text == "12.50 %"
    assert [cell.text for cell in rows[2][5:]] == ["–"] * len(rows[2][5:])
    assert cells[0]["robustness impact"].text == "–"


def test_columns_without_measurements_are_left_out(page: report.Report) -> None:
    headings, _ = technique_table(page.entries, "tiny-fp32")
    assert "shape bias" not in headings
    assert "file" in headings


def test_markdown_is_the_same_table(full: report.Report) -> None:
    lines = markdown_table(full.entries, "tiny-fp32").splitlines()
    headings, rows = technique_table(full.entries, "tiny-fp32")
    assert len(lines) == 2 + len(rows)
    assert {line.count("|") for line in lines} == {len(headings) + 1}
    assert "600 kB (6.7 × smaller)" in lines[3]
    text = report.markdown(full)
    assert text.startswith("# Tiny & small\n")
    assert "- CPU: a processor" in text


def test_json_rows_hold_everything(full: report.Report) -> None:
    first, small, _ = json.loads(json.dumps(report.table_rows(full), allow_nan=False))
    assert (small["lost"], small["gained"], small["difference"], small["mcnemar_p"]) == (1, 0, -0.25, 1.0)
    assert (small["memory_bytes"], small["load_ms"], small["reference_speedup"]) == (1_000_000, 7.0, 4.0)
    assert small["robustness"]["top1"] == {"snow": [2, 1], "zoom_blur": [1, 0]}
    assert small["shape_bias"]["shape_bias"] == 0.25
    assert (first["failed"], small["failed"]) == (False, True)
    assert first["difference"] is None


def test_failures_name_their_worst_layers(full: report.Report) -> None:
    """The second entry asks for 4 bits: neither the row of 2 bits nor that of 8 is about it."""
    html = without_plotly(report.render(full))
    section = html[html.index("<h2>Failed") : html.index("<h2>What each")]
    assert "on 1 of 4 pictures only" in section
    assert "<code>stem</code> at 4 bits (8.5 dB)." in section
    assert "head" not in section
    assert "<h2>Failed" not in without_plotly(report.render(replace(full, entries=full.entries[:1])))


def test_corruption_heatmap_is_the_mean_of_the_severities(full: report.Report) -> None:
    plot = corruption_heatmap(full.entries)
    assert plot is not None
    (trace,) = plot["data"]
    assert trace["x"] == ["clean", "snow", "zoom blur"]
    assert trace["y"] == ["tiny-fp32", "tiny-w4a8"]
    assert trace["z"] == [[100, 100, 75], [100, 75, 25]]
    curves = accuracy_by_severity(full.entries)
    assert curves is not None
    assert curves["data"][1]["x"] == [0, 1, 3]
    assert curves["data"][1]["y"] == [100, 75, 25]
    assert corruption_heatmap(full.entries[2:]) is None
    assert accuracy_by_severity(full.entries[2:]) is None


def test_sensitivity_maps(full: report.Report) -> None:
    (plot,) = sensitivity_heatmaps(full.sensitivity)
    (trace,) = plot["data"]
    assert (trace["x"], trace["y"]) == (["stem", "head"], ["8 bits", "4 bits", "2 bits"])
    assert trace["z"][0] == [None, -4.0]
    assert trace["z"][1][0] == pytest.approx(np.log10(0.3))
    html = without_plotly(report.render(full))
    assert 'id="sensitivity-weights"' in html
    assert 'id="corruptions"' in html
    json.dumps(plot, allow_nan=False)


def test_page_without_measurements_has_no_figures(page: report.Report) -> None:
    bare = Entry("tiny", "fp32")
    html = report.render(replace(page, entries=[bare], reference="tiny"))
    assert "Plotly" not in html
    assert "latency, median" not in html
    assert "–" in html


def test_unreadable_sample_is_named(page: report.Report) -> None:
    page.samples[2].path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.png"):
        report.render(page)

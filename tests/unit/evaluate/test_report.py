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
from subbyte.evaluate.data import Sample
from subbyte.evaluate.figures import accuracy_over_size, latency_bars


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
    float_entry = report.Entry(
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
    peer = report.Entry("onnxruntime-int8", "int8", peer=True, latency_ms=0.9, file_bytes=700_000)
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
    for text in ("100.00 %", "4 of 4", "75.00 %", "3 of 4", "4.00 MB", "0.60 MB", "0.50 ms", "0.40 – 0.60"):
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
    assert report.pick(page, 2) == [0, 2]
    assert report.pick(page, 99) == [0, 1, 2, 3]
    assert report.pick(replace(page, entries=page.entries[2:]), 4) == []


def test_plan_marks_another_executed_precision_and_shares(page: report.Report) -> None:
    html = without_plotly(report.render(page))
    assert html.count('class="differs"') == 1
    assert "25.0 %" in html
    assert "75.0 %" in html
    assert 'style="width: 33.3%"' in html
    assert 'style="width: 100.0%"' in html


def test_plan_without_profile(page: report.Report) -> None:
    entry = replace(page.entries[1], plan=[plan_row("stem", None)])
    html = without_plotly(report.render(replace(page, entries=[entry])))
    assert "stem" in html
    assert 'style="width' not in html


def test_figures_carry_the_measured_values(page: report.Report) -> None:
    scatter, bars = accuracy_over_size(page.entries), latency_bars(page.entries)
    assert scatter is not None
    assert bars is not None
    assert [trace["name"] for trace in scatter["data"]] == ["tiny-fp32", "tiny-w4a8"]
    assert [trace["x"] for trace in scatter["data"]] == [[4.0], [0.6]]
    assert [trace["y"] for trace in scatter["data"]] == [[100.0], [75.0]]
    assert bars["data"][0]["x"] == [0.9, 0.5, 2.0]
    json.dumps([scatter, bars], allow_nan=False)
    assert accuracy_over_size(page.entries[:1]) is None
    assert latency_bars([replace(page.entries[0], latency_ms=None)]) is None


def test_page_without_measurements_has_no_figures(page: report.Report) -> None:
    bare = report.Entry("tiny", "fp32")
    html = report.render(replace(page, entries=[bare]))
    assert "Plotly" not in html
    assert "–" in html


def test_unreadable_sample_is_named(page: report.Report) -> None:
    page.samples[2].path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.png"):
        report.render(page)

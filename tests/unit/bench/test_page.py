"""The benchmark page says what the result files say, and marks disturbed ones."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import page
from subbyte.benchmark.machine import Machine
from subbyte.benchmark.result import BenchResult, Spread, Timing
from subbyte.metrics.output_check import Check


def timing(name: str, precision: str, ms: float, ratio: float | None, peak: float | None = None) -> Timing:
    """CPU time is wall-clock time and 1 ms."""
    spread = Spread(min=ms - 0.5, p10=ms - 0.25, median=ms, p90=ms + 1)
    cpu = Spread(min=ms + 0.5, p10=ms + 0.75, median=ms + 1, p90=ms + 2)
    return Timing(
        name=name,
        precision=precision,
        version="1.2.3",
        peer=name != "subbyte",
        isa="avx2" if name == "subbyte" else None,
        file_bytes=1,
        sha256=None,
        check=Check(correlation=1, top1=1, images=1, equal=True),
        fidelity=None,
        calls=3,
        ms=spread,
        cpu_ms=cpu,
        round_ms=(ms,),
        ratio=None if ratio is None else Spread(min=ratio, p10=ratio, median=ratio, p90=ratio),
        gmac_per_second=1,
        peak=peak,
    )


def result(load: float, *timings: Timing, threads: int = 1) -> BenchResult:
    return BenchResult(
        date="2001-02-03T04:05:06+00:00",
        commit="0123456789abcdef0123-dirty",
        host=Machine(
            cpu="Some | CPU",
            flags=("avx2",),
            cpus=4,
            memory=8 * 2**30,
            system="Linux 6 x86_64",
            python="3.11.1",
            governor=None,
            caches={},
            load_before=load,
            load_after=1.25,
        ),
        threads=threads,
        cpus=(0,),
        batch=1,
        input_shape=(32, 48, 3),
        images="synthetic",
        float_network="given",
        macs=1,
        peak_gmacs={"avx2": 123.4},
        preemptions=17,
        best_peer="openvino-int8" if any(t.peer for t in timings) else None,
        timings=timings,
    )


SVG = "{http://www.w3.org/2000/svg}"
COMPLETE = (
    timing("onnxruntime", "int8", 9.75, 0.5),
    timing("subbyte", "w8a8", 3.0, 1.75, 0.5),
    timing("subbyte", "w2a8", 2.5, 2.25, 0.625),
    timing("openvino", "int8", 5.25, 1.0),
)


def held(t: Timing, load_ms: float, megabytes: float | None, speed: float) -> Timing:
    spread = Spread(min=speed, p10=speed, median=speed, p90=speed)
    resident = None if megabytes is None else int(megabytes * 1e6)
    return t.model_copy(update={"load_ms": load_ms, "resident_bytes": resident, "images_per_second": spread})


def test_memory_and_throughput_have_tables_of_their_own(tmp_path: Path) -> None:
    timings = [held(t, 10 * i, 5.5 * i if i else None, 100 + i) for i, t in enumerate(COMPLETE)]
    served = result(1.0, *timings).model_copy(update={"streams": 2, "batch": 4})
    text, _ = made(tmp_path, net_32_t1_b4=served, other_t1=result(1.0, *COMPLETE))
    assert (
        "| net-32 | 1 | 5.5 / – / 11.0 | openvino-int8 16.5; onnxruntime-int8 – | 10 / – / 20 "
        "| openvino-int8 30; onnxruntime-int8 0 | 0.0 / – / 0.0 | openvino-int8 0.0; onnxruntime-int8 0.0 |\n"
    ) in text
    assert ("| net-32 | 2 | 4 | 101.0 / – / 102.0 | openvino-int8 103.0; onnxruntime-int8 100.0 |\n") in text
    assert text.count("| other |") == 2  # speeds and conditions only


def test_of_a_serving_result_no_latency_is_shown(tmp_path: Path) -> None:
    timings = [held(t, 10 * i, 5.5 * i, 100 + i) for i, t in enumerate(COMPLETE)]
    (tmp_path / "results/serving").mkdir(parents=True)
    result(9.0, *timings).model_copy(update={"streams": 2}).save(tmp_path / "results/serving/net-32-t1.json")
    result(1.0, *COMPLETE).save(tmp_path / "results/net-32-t1.json")
    assert page.main(["--results", str(tmp_path / "results"), "--output", str(tmp_path / "docs")]) == 0
    text, plot = (tmp_path / "docs/benchmarks.md").read_text(), (tmp_path / "docs/benchmarks.svg").read_text()
    assert text.count("| 1.75 / – / 2.25 |") == 1
    assert text.count("| net-32 | 2 | 1 | 101.0 / – / 102.0 |") == 0  # it is marked
    assert text.count(f"| net-32{page.MARK} | 2 | 1 | 101.0 / – / 102.0 |") == 1
    assert page.MARK not in plot


def made(folder: Path, **files: BenchResult) -> tuple[str, str]:
    """The page and the plot of results by file name."""
    (folder / "results").mkdir()
    for name, value in files.items():
        value.save(folder / "results" / f"{name.replace('_', '-')}.json")
    assert page.main(["--results", str(folder / "results"), "--output", str(folder / "docs")]) == 0
    return (folder / "docs/benchmarks.md").read_text(), (folder / "docs/benchmarks.svg").read_text()


def test_a_row_holds_the_numbers_of_its_file(tmp_path: Path) -> None:
    text, _ = made(tmp_path, net_32_t1=result(1.0, *COMPLETE))
    assert (
        "| net-32 | 32×48×3 | 1 | 3.00 (2.50) | – | 2.50 (2.00) | openvino-int8 5.25 (4.75) "
        "| 1.75 / – / 2.25 | 1.56 / – / 1.79 | onnxruntime-int8 9.75 (9.25) | 50 / – / 62 |\n"
    ) in text
    assert (
        "| net-32 | 1 | 2001-02-03T04:05:06+00:00 | 0123456789ab (dirty) | Some / CPU, 4 CPUs, 8 GiB, "
        "Linux 6 x86_64, Python 3.11.1 | avx2 123 | 1.0, 1.2 | 17 | synthetic "
        "| onnxruntime 1.2.3; subbyte 1.2.3; openvino 1.2.3 |\n"
    ) in text
    assert page.MARK not in text


def test_every_table_row_has_its_heads_cells(tmp_path: Path) -> None:
    text, _ = made(tmp_path, a_t1=result(1.0, *COMPLETE), b_t2=result(1.0, *COMPLETE, threads=2))
    tables = [block.split("\n") for block in text.strip().split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [4, 4]
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1]


@pytest.mark.parametrize(
    ("load", "threads", "marked"), [(1.5, 1, 0), (1.75, 1, 2), (1.75, 2, 0), (2.75, 2, 2)]
)
def test_a_disturbed_result_is_marked(tmp_path: Path, load: float, threads: int, marked: int) -> None:
    text, plot = made(tmp_path, net_t1=result(load, *COMPLETE, threads=threads))
    assert text.count(f"| net{page.MARK} |") == marked
    assert ("Disturbed" in text) is (marked > 0)
    assert (page.MARK in plot) is (marked > 0)


@pytest.mark.parametrize(("load", "w8", "w2"), [(1.0, 1.75, 2.25), (9.0, 6.25 / 4, 6.25 / 3.5)])
def test_the_plot_has_a_bar_per_ratio(tmp_path: Path, load: float, w8: float, w2: float) -> None:
    """Of a disturbed result it shows the CPU times' ratio."""
    _, text = made(tmp_path, net_32_t1=result(load, *COMPLETE))
    plot = ElementTree.fromstring(text)
    bars = [e for e in plot.iter(SVG + "rect") if e.find(SVG + "title") is not None]
    widths = [float(e.attrib["width"]) for e in bars if e[0].text in page.RECIPES]
    assert len(widths) == 2
    assert widths[0] / widths[1] == pytest.approx(w8 / w2, abs=0.1 / widths[1])  # 0.1 pixel is printed
    assert {f"{w8:.2f}", f"{w2:.2f}"} <= {e.text for e in plot.iter(SVG + "text")}


def test_a_result_without_peers(tmp_path: Path) -> None:
    text, plot = made(tmp_path, net_t1=result(1.0, timing("subbyte", "w4a8", 3.0, None)))
    assert "| net | 32×48×3 | 1 | – | 3.00 (2.50) | – | – | – / – / – | – / – / – | – | – / – / – |\n" in text
    assert ElementTree.fromstring(plot).tag == SVG + "svg"


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert page.main(["--results", str(tmp_path)]) == 1
    (tmp_path / "x.json").write_text('{"format": 1}')
    assert page.main(["--results", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "holds no results; run bench/networks.py" in lines[0]
    assert "x.json: this is no benchmark result" in lines[1]

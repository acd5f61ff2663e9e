"""docs/benchmarks.md and its plot, from the result files and nothing else.

    python -m bench.page

Rows and bars follow the files' names; networks.py writes NETWORK-SIZE-tTHREADS.json, with -bBATCH for
batches of more than one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import svg
from subbyte.benchmark.result import BenchResult, Timing
from subbyte.errors import InputError, SubbyteError

RECIPES = ("w8a8", "w4a8", "w2a8")
#: Processes beyond the benchmark's own threads (mean of the minute before) from which a row is marked.
TOLERATED_LOAD = 0.5
MARK = "†"
SPEEDS = (
    *("network", "input", "threads"),
    *(f"{recipe}, ms" for recipe in RECIPES),
    *("fastest peer, ms", "ratio", "CPU ratio", "other peers, ms", "peak, %"),
)
MEMORY = ("network", "threads", "memory, MB", "peers", "load, ms", "peers", "file, MB", "peers")
THROUGHPUT = ("network", "streams", "batch", "images/s", "peers")
CONDITIONS = (
    *("network", "threads", "date", "commit", "host", "peak, GMAC/s"),
    *("load", "preemptions", "images", "versions"),
)


@dataclass(frozen=True)
class Row:
    """A result and the network's name, which only the file's name tells."""

    label: str
    result: BenchResult

    @property
    def disturbed(self) -> bool:
        """Whether other programs were running: see bench/README.md, "Reading a result"."""
        return self.result.host.load_before > self.result.threads + TOLERATED_LOAD

    @property
    def title(self) -> str:
        return f"{self.label}{MARK if self.disturbed else ''}"

    def own(self, recipe: str) -> Timing | None:
        return next((t for t in self.result.timings if not t.peer and t.precision == recipe), None)

    def cpu_ratio(self, t: Timing) -> float | None:
        """How many times the CPU time of `t` the thriftiest peer takes; None without peers."""
        peers = [p.cpu_ms.median for p in self.result.timings if p.peer]
        return min(peers) / t.cpu_ms.median if peers and t.cpu_ms.median > 0 else None

    def shown(self, t: Timing) -> float | None:
        """The ratio that means something: of wall-clock times, or of CPU times if disturbed."""
        return self.cpu_ratio(t) if self.disturbed else t.ratio.median if t.ratio else None

    def peers(self) -> list[Timing]:
        """The one that ratios are against first, then the others, fastest first."""
        found = [t for t in self.result.timings if t.peer]
        return sorted(found, key=lambda t: (_name(t) != self.result.best_peer, t.ms.median))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("bench/results"),
        help="folder of results; of those in its folder `serving`, only memory and throughput are shown",
    )
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the page and its plot")
    options = parser.parse_args(arguments)
    try:
        rows = read(options.results)
        serving = read(options.results / "serving") if (options.results / "serving").is_dir() else []
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.md").write_text(render(rows, serving))
    (options.output / "benchmarks.svg").write_text(plot(rows))
    print(f"{len(rows)} result(s) -> {options.output / 'benchmarks.md'}, {options.output / 'benchmarks.svg'}")
    return 0


def read(folder: Path) -> list[Row]:
    """The folder's results by name. InputError if there are none, or a file is none."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise InputError(f"{folder} holds no results; run bench/networks.py first")
    rows = []
    for path in paths:
        try:
            rows.append(
                Row(re.sub(r"-t\d+(-b\d+)?$", "", path.stem), BenchResult.from_json(path.read_bytes()))
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return rows


def render(rows: Sequence[Row], serving: Sequence[Row] = ()) -> str:
    """The page. The protocol is bench/README.md's. serving: results whose latencies are not shown."""
    parts = [
        "# Benchmarks",
        "Made by `python -m bench.page` from the files in `bench/results`; do not edit. How they were made, "
        "and how to read them: [bench/README.md](../bench/README.md). This page is about speed and says "
        "nothing about accuracy.",
        "![speedup over the fastest peer](benchmarks.svg)",
        "Milliseconds are median (minimum) of one call. *Ratio*: speedup over the fastest peer, "
        "median over rounds. *CPU ratio*: the least CPU time of a peer over ours, medians (threads that spin "
        "while they wait count, so it says little about several threads). *Peak*: share of the measured "
        f"integer dot-product peak of the threads' cores. All three are for {' / '.join(RECIPES)}.",
        _table(SPEEDS, [_speeds(row) for row in rows]),
    ]
    if any(t.name == "litert" and t.precision == "int8" for row in rows for t in row.result.timings):
        parts.append(
            "LiteRT INT8 runs the network as recipe w8a8 quantizes it, in TensorFlow Lite's 8-bit format; "
            "TensorFlow's own converter, which needs TensorFlow, takes no part. Rows without LiteRT were not "
            "measured against it."
        )
    if any(row.disturbed for row in rows):
        parts.append(
            f"{MARK} Disturbed: more than {TOLERATED_LOAD:g} other processes were running in the minute "
            "before (*load* below). Of such a row only the minima and the CPU ratio mean something: a long "
            "call is interrupted more often than a short one, which flatters the *ratio*, and *fastest peer* "
            "may name the wrong engine; where both ratios agree, it mattered little. The plot shows the CPU "
            "ratio for it."
        )
    held = [row for row in (*rows, *serving) if any(t.load_ms is not None for t in row.result.timings)]
    if held:
        parts += [
            "## Memory and load time",
            "Measured in fresh processes that do nothing else: resident memory (Pss) after the file was "
            "loaded and run ten times, minus that before the engine was imported, median of three; time "
            "from the file, in the system's cache, to ready, least of three. Peers read their own kind of "
            f"file (ONNX, OpenVINO IR, TensorFlow Lite). Ours: {' / '.join(RECIPES)}.",
            _table(MEMORY, [_memory(row) for row in held]),
        ]
    served = [row for row in (*rows, *serving) if row.result.streams]
    if served:
        parts += [
            "## Throughput",
            "Images per second of as many callers at a time as streams, each on one thread and one CPU, "
            "median over rounds. OpenVINO in throughput mode with as many streams; ONNX Runtime with one "
            "session that runs in its callers' threads, LiteRT with an interpreter each. Ours: "
            f"{' / '.join(RECIPES)}.",
            _table(THROUGHPUT, [_throughput(row) for row in served]),
        ]
    parts += [
        "## Conditions",
        "*Load*: processes running, averaged over the minute before and the minute up to the end, the "
        "benchmark's own included. *Preemptions*: how often others took a CPU from it. *Peak*: measured, of "
        "one core.",
        _table(CONDITIONS, [_conditions(row) for row in (*rows, *serving)]),
    ]
    return "\n\n".join(parts) + "\n"


def _speeds(row: Row) -> tuple[str, ...]:
    own, peers = [row.own(recipe) for recipe in RECIPES], row.peers()
    batch = f", batch {row.result.batch}" if row.result.batch > 1 else ""
    return (
        row.title,
        "×".join(map(str, row.result.input_shape)) + batch,
        str(row.result.threads),
        *("–" if t is None else _ms(t) for t in own),
        "–" if not peers else f"{_name(peers[0])} {_ms(peers[0])}",
        _three(None if t is None or t.ratio is None else t.ratio.median for t in own),
        _three(None if t is None else row.cpu_ratio(t) for t in own),
        "; ".join(f"{_name(t)} {_ms(t)}" for t in peers[1:]) or "–",
        _three((None if t is None or t.peak is None else 100 * t.peak for t in own), 0),
    )


def _memory(row: Row) -> tuple[str, ...]:
    own, peers = [row.own(recipe) for recipe in RECIPES], row.peers()
    cells = [row.title, str(row.result.threads)]
    values: tuple[tuple[Callable[[Timing], float | None], int], ...] = (
        (lambda t: None if t.resident_bytes is None else t.resident_bytes / 1e6, 1),
        (lambda t: t.load_ms, 0),
        (lambda t: t.file_bytes / 1e6, 1),
    )
    for value, digits in values:
        cells.append(_three((None if t is None else value(t) for t in own), digits))
        cells.append("; ".join(f"{_name(t)} {_three([value(t)], digits)}" for t in peers) or "–")
    return tuple(cells)


def _throughput(row: Row) -> tuple[str, ...]:
    def speed(t: Timing | None) -> float | None:
        return t.images_per_second.median if t and t.images_per_second else None

    peers = sorted(row.peers(), key=lambda t: -(speed(t) or 0.0))
    return (
        row.title,
        str(row.result.streams),
        str(row.result.batch),
        _three((speed(row.own(recipe)) for recipe in RECIPES), 1),
        "; ".join(f"{_name(t)} {_three([speed(t)], 1)}" for t in peers) or "–",
    )


def _conditions(row: Row) -> tuple[str, ...]:
    result, host = row.result, row.result.host
    after = "" if host.load_after is None else f", {host.load_after:.1f}"
    isas = ", ".join(f"{isa} {peak:.0f}" for isa, peak in result.peak_gmacs.items())
    versions = dict.fromkeys(f"{t.name} {t.version}" for t in result.timings)
    return (
        row.title,
        str(result.threads),
        result.date,
        _commit(result.commit),
        f"{host.cpu}, {host.cpus} CPUs, {host.memory / 2**30:.0f} GiB, {host.system}, Python {host.python}",
        isas or "–",
        f"{host.load_before:.1f}{after}",
        str(result.preemptions),
        result.images,
        "; ".join(versions),
    )


def _three(values: Iterable[float | None], digits: int = 2) -> str:
    return " / ".join("–" if value is None else f"{value:.{digits}f}" for value in values)


def _commit(commit: str | None) -> str:
    """Twelve digits, and whether the tree was changed."""
    digits, _, changed = (commit or "unknown").partition("-")
    return digits[:12] + (f" ({changed})" if changed else "")


def _name(t: Timing) -> str:
    return f"{t.name}-{t.precision}"


def _ms(t: Timing) -> str:
    return f"{t.ms.median:.2f} ({t.ms.min:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines)


def plot(rows: Sequence[Row]) -> str:
    """Bars of the ratio to the fastest peer, a group per result, as SVG. 1 is as fast."""
    left, top, step, thick, width = 250, 50, 64, 15, 480
    names = [f"{row.title}, {row.result.threads} thread{'s' * (row.result.threads > 1)}" for row in rows]
    ratios = [[row.shown(t) if (t := row.own(recipe)) else None for recipe in RECIPES] for row in rows]
    highest = max([1.0, *(ratio for group in ratios for ratio in group if ratio is not None)])
    bottom, scale = top + step * len(rows), width / highest
    parts = [svg.text(left, 22, "speedup over the fastest peer (line: 1)", size=14)]
    for i, (name, group) in enumerate(zip(names, ratios, strict=True)):
        y = top + i * step
        parts.append(svg.text(left - 10, y + 1.5 * thick + 5, name, "end"))
        for j, ratio in enumerate(group):
            if ratio is not None:
                label = f"{ratio:.2f}"
                parts.append(
                    svg.bar(left, y + j * thick, ratio * scale, thick - 2, svg.COLOURS[j], RECIPES[j])
                )
                parts.append(svg.text(left + ratio * scale + 5, y + (j + 1) * thick - 4, label, size=11))
    parts.append(svg.line(left + scale, top - 8, left + scale, bottom, svg.INK, 1.5))
    parts += svg.legend(left + width + 60, top + 10, RECIPES)
    if any(row.disturbed for row in rows):
        parts.append(svg.text(left, bottom + 16, f"{MARK} other programs were running: CPU times", size=11))
    return svg.page(left + width + 140, bottom + 30, parts)


if __name__ == "__main__":
    sys.exit(main())

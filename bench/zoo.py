"""docs/zoo.md: every network that was measured, its files, and the command that makes each.

    python -m bench.zoo [--page docs/zoo.md]

Rows come from the JSON files alone: those of bench/analyses (bench/accuracy.py: real weights), and of
bench/results (bench/networks.py: random weights, whose sizes and times stand for real ones) where the former
have no such file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import page
from bench.accuracy import placed
from subbyte.errors import InputError, SubbyteError

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- zoo -->", "<!-- /zoo -->"
HEAD = (
    *("network", "input", "recipe", "file, MB", "× smaller", "right", "agreement", "ms", "× fastest peer"),
    "command",
)


@dataclass(frozen=True)
class Entry:
    """A file of the zoo. kind: what its recipe starts with, as w4a8; None: was not measured."""

    network: str
    shape: tuple[int, ...]
    kind: str
    recipe: str
    file_bytes: int
    float_bytes: int | None
    right: str | None
    agreement: str | None
    ms: float
    speedup: float | None
    options: str

    @property
    def key(self) -> tuple[str, tuple[int, ...], str]:
        return self.network, self.shape, self.kind

    def cells(self) -> list[str]:
        smaller = None if self.float_bytes is None else f"{self.float_bytes / self.file_bytes:.1f}"
        speedup = None if self.speedup is None else f"{self.speedup:.2f}"
        command = f"subbyte compress {self.network} --weights WEIGHTS --recipe {self.recipe} {self.options}"
        found = [
            f"{self.file_bytes / 1e6:.2f}",
            smaller,
            self.right,
            self.agreement,
            f"{self.ms:.2f}",
            speedup,
        ]
        recipe = Path(self.recipe).stem.removeprefix(f"{self.network}-")
        return [
            self.network,
            "×".join(map(str, self.shape)),
            f"[{recipe}](../{self.recipe})" if "/" in self.recipe else recipe,
            *("–" if cell is None else cell for cell in found),
            f"`{command.strip()}`",
        ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "zoo.md")
    options = parser.parse_args(arguments)
    try:
        entries = zoo(ROOT / "bench" / "analyses", ROOT / "bench" / "results")
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = options.page.read_text("utf-8")
    options.page.write_text(placed(text, BEGIN, END, table(entries)), "utf-8")
    print(f"{len(entries)} files -> {options.page}")
    return 0


def zoo(analyses: Path, results: Path) -> list[Entry]:
    """By network and input, the largest file first. InputError if a folder holds no results."""
    timed = [row for row in page.read(results) if row.result.threads == row.result.batch == 1]
    entries = {}
    for path in sorted(analyses.glob("accuracy-*.json")):
        for entry in _measured(path, timed):
            entries[entry.key] = entry
    if not entries:
        raise InputError(f"{analyses} holds no accuracy-*.json; run bench/accuracy.py first")
    for row in timed:
        for entry in _timed(row):
            entries.setdefault(entry.key, entry)
    return sorted(entries.values(), key=lambda entry: (entry.network, entry.shape, -entry.file_bytes))


def _measured(path: Path, timed: Iterable[page.Row]) -> Iterable[Entry]:
    """The files whose accuracy was measured; the first is the float32 one."""
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    base = result["rows"][0]
    for row in result["rows"]:
        network, shape, kind = row["model"], tuple(row["input"]), row["name"].partition("-")[2]
        own = f"bench/recipes/{network}-{kind}.toml"
        same = row["agreement"]["same"] / result["agreement_images"] if "agreement" in row else None
        yield Entry(
            network,
            shape,
            kind,
            own if (ROOT / own).exists() else row["recipe"],
            row["file_bytes"],
            base["file_bytes"],
            f"{sum(row['right'])} of {sum(result['images'])}",
            None if same is None or row is base else f"{100 * same:.1f} %",
            row["latency_ms"],
            next((speedup(t, kind) for t in timed if (_network(t), _shape(t)) == (network, shape)), None),
            "" if row is base else f"--calibration IMAGES --images {row['calibration'].partition(' ')[0]}",
        )


def _timed(row: page.Row) -> Iterable[Entry]:
    """The files that were timed only."""
    side = f"--input-size {row.result.input_shape[0]}"
    peers = row.peers()
    base = next((t.file_bytes for t in peers if (t.name, t.precision) == ("onnxruntime", "fp32")), None)
    for t in row.result.timings:
        if not t.peer and t.file_bytes is not None:
            options = f"{side} --calibration IMAGES"
            yield Entry(
                *(_network(row), _shape(row), t.precision, t.precision, t.file_bytes, base, None, None),
                *(t.ms.median, speedup(row, t.precision), options),
            )


def speedup(row: page.Row, kind: str) -> float | None:
    """Over the fastest other engine in the same run, as docs/benchmarks.md shows it."""
    own = row.own(kind)
    return None if own is None else row.shown(own)


def _network(row: page.Row) -> str:
    return re.sub(r"-\d+$", "", row.label)


def _shape(row: page.Row) -> tuple[int, ...]:
    return tuple(row.result.input_shape)


def table(entries: Iterable[Entry]) -> str:
    """Markdown."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(entry.cells() for entry in entries)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())

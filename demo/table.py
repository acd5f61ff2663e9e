"""The comparison as a Markdown table, and its place in the front page.

    python -m demo.table demo-out/results.json demo-out/bench.json README.md

replaces what stands between the `results` marks of README.md, so that no number is typed by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from subbyte.report.markdown_text import plain

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def markdown_of(results: str) -> str:
    """Rows that `subbyte report --json` printed, as a table."""
    rows = json.loads(results)
    baseline = next((row["fastest_float"] for row in rows if row["fastest_float"]), None)
    speedup = f"speedup vs {plain(baseline)}" if baseline else "speedup"
    lines = [
        f"| EfficientNet-Lite0 | top-1 | agreement with fp32 | file | latency, median | {speedup} |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: dict[str, Any]) -> str:
    n = row["images"]
    engine = plain(row["name"]) if row["peer"] else f"**subbyte {plain(row['precision'])}**"
    top1 = "–" if row["top1"] is None else f"{row['top1']} of {n}"
    same = "–" if row["agreement"] is None else f"{row['agreement']} of {n}"
    latency = "–" if row["latency_ms"] is None else f"{row['latency_ms']:.2f} ms"
    speedup = "–" if row["float_speedup"] is None else f"{row['float_speedup']:.2f}×"
    return f"| {engine} | {top1} | {same} | {row['file_bytes'] / 1e6:.2f} MB | {latency} | {speedup} |"


def caption_of(bench: str) -> str:
    """What the numbers were measured on, from `subbyte bench --json`."""
    result = json.loads(bench)
    host = result["host"]
    versions = sorted({f"{t['name']} {t['version']}" for t in result["timings"]})
    return (
        f"`make demo` on {host['cpu']}, {result['threads']} thread(s), batch {result['batch']}, "
        f"{result['date'][:10]}, {', '.join(versions)}; speedup over the fastest float32 runtime "
        f"timed, compared in turns; load before {host['load_before']:.1f}. The 100 photographs are "
        "easier than ImageNet's validation set: compare these rows with each other only.\n"
    )


def placed(page: str, block: str) -> str:
    """The page with `block` between its marks. SystemExit if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"error: the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{block}{END}{after}"


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    results, bench, page = (Path(argument) for argument in sys.argv[1:])
    block = f"{markdown_of(results.read_text('utf-8'))}\n{caption_of(bench.read_text('utf-8'))}"
    page.write_text(placed(page.read_text("utf-8"), block), "utf-8")


if __name__ == "__main__":
    main()

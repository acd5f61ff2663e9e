"""Accuracy, size and latency of artifacts beside the float network: one row each, as JSON and as a table.

    python -m bench.accuracy b0-fp32.subbyte b0-w4a8.subbyte ... --data IMAGES:crop --data OTHERS:squash \\
        --agreement MANY:squash --output bench/analyses/accuracy-b0.json
    python -m bench.accuracy --page docs/accuracy.md     # the page's tables from all such files

The first artifact is what the others are compared with. Every image goes through the engine. --agreement: a
large set, on which only agreement with the first artifact counts, since the network was trained on it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.artifact.compact import coded_bits
from subbyte.benchmark.machine import describe_machine
from subbyte.cli.measure import Subject, labelled, predictions_of, subject
from subbyte.data.samples import Sample
from subbyte.data.sets import ImageSet, parse_sets
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import SubbyteError
from subbyte.metrics.accuracy import Predictions, wilson_interval
from subbyte.metrics.statistics import Paired, correct, paired, random_effects
from subbyte.quant import QTensor
from subbyte.system.interleave import interleave

RESULTS = Path("bench/analyses")
BEGIN, END = "<!-- results -->", "<!-- /results -->"
POOLED_BEGIN, POOLED_END = "<!-- pooled -->", "<!-- /pooled -->"


@dataclass(frozen=True)
class Answers:
    """What one artifact says: per set bool [n] whether it is right, int [n] the best class."""

    right: list[np.ndarray]
    best: list[np.ndarray]

    def compared(self, reference: Answers) -> dict[str, Any]:
        """Beside another artifact's on the same images."""
        pairs = zip(self.best, reference.best, strict=True)
        pair: Paired = paired(np.concatenate(self.right), np.concatenate(reference.right))
        same = int(sum((own == other).sum() for own, other in pairs))
        return {"same": same, "lost": pair.lost, "gained": pair.gained, "p": pair.p_value()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--data", action="append", default=[], help="FOLDER, FOLDER:crop or FOLDER:squash")
    parser.add_argument("--agreement", help="the same, a set for agreement only")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing")
    parser.add_argument("--page", type=Path, help="write the table of all results into this page")
    options = parser.parse_args(arguments)
    try:
        if options.artifacts:
            result = measure(options.artifacts, options.data, options.agreement, options.seconds)
            options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print(table([result]))
        if options.page is not None:
            write_page(options.page)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(
    artifacts: Sequence[Path], data: Sequence[str], agreement: str | None, seconds: float
) -> dict[str, Any]:
    """Answers on all images, and one thread's time of a call, taken in turns."""
    sets = parse_sets(data)
    subjects = [subject(path, None, 1, None) for path in artifacts]
    answers = [_answers(one, sets) for one in subjects]
    rows = [_row(one, a, answers[0]) for one, a in zip(subjects, answers, strict=True)]
    shape = subjects[0].artifact.graph.value(subjects[0].artifact.graph.input).shape
    image = synthetic_images(shape, 1, seed=1)
    timings = interleave([lambda run=one.session.run: run(image) for one in subjects], seconds)  # type: ignore[misc]
    for row, timing in zip(rows, timings, strict=True):
        row["latency_ms"], row["least_ms"] = 1e3 * float(np.median(timing.all)), 1e3 * float(timing.all.min())
    result = {
        "sets": [each.folder.name for each in sets],
        "images": [len(r) for r in answers[0].right],
        "host": describe_machine().model_dump(mode="json"),
        "rows": rows,
    }
    return result if agreement is None else result | _agreement(subjects, agreement, rows)


def _agreement(subjects: Sequence[Subject], data: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Adds to every row how often it agrees with the first on the images of this set."""
    (images,) = parse_sets([data])
    answers = [_answers(one, [images]) for one in subjects]
    for row, each in zip(rows, answers, strict=True):
        row["agreement"] = each.compared(answers[0])
    return {"agreement_set": images.folder.name, "agreement_images": len(answers[0].best[0])}


def _answers(one: Subject, sets: Sequence[ImageSet]) -> Answers:
    right, best = [], []
    for each in sets:
        samples: list[Sample] = labelled(one, [each], None)
        predictions: Predictions = predictions_of(one, samples)
        right.append(correct(predictions, samples))
        best.append(predictions.top[:, 0])
    return Answers(right, best)


def _row(one: Subject, answers: Answers, reference: Answers) -> dict[str, Any]:
    weights = [n.params["weight"] for n in one.artifact.graph.nodes if "weight" in n.params]
    bits = [(w.bits if isinstance(w, QTensor) else 8 * w.itemsize, int(np.prod(w.shape))) for w in weights]
    total = sum(count for _, count in bits)
    coded = coded_bits(one.artifact.graph) if one.artifact.coding == "entropy" else None
    return (
        {
            "name": one.path.stem,
            "model": one.artifact.provenance.get("model", ""),
            "recipe": one.artifact.recipe.get("name", ""),
            "calibration": one.artifact.provenance.get("calibration", ""),
            "input": list(one.artifact.graph.value(one.artifact.graph.input).shape),
            "file_bytes": one.path.stat().st_size,
            "weights": {
                str(b): sum(c for x, c in bits if x == b) / total for b in sorted({b for b, _ in bits})
            },
            "right": [int(r.sum()) for r in answers.right],
        }
        | ({} if coded is None else {"coded_bits": coded})
        | answers.compared(reference)
    )


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown, one line per artifact."""
    lines = [
        "| artifact | weights | right | lost / gained, p | agreement, more images | lost / gained there "
        "| file, MB | × smaller | ms (least) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        base = result["rows"][0]
        lines += [_line(row, base, result) for row in result["rows"]]
    return "\n".join(lines)


def _line(row: dict[str, Any], base: dict[str, Any], result: dict[str, Any]) -> str:
    widths = ", ".join(f"{100 * share:.0f} % {bits} bit" for bits, share in row["weights"].items())
    if (coded := row.get("coded_bits")) is not None:
        widths += f", {coded:.2f} in the file"
    right = " + ".join(map(str, row["right"])) + f" = **{sum(row['right'])}** of {sum(result['images'])}"
    cells = [row["name"], widths, right, "–", "–", "–"]
    if row is not base:
        cells[3] = f"{row['lost']} / {row['gained']}, {row['p']:.2g}"
        if "agreement" in row:
            found, n = row["agreement"], result["agreement_images"]
            low, high = wilson_interval(found["same"], n)
            cells[4] = f"{100 * found['same'] / n:.1f} % ({100 * low:.1f} – {100 * high:.1f})"
            cells[5] = f"{found['lost']} / {found['gained']}"
    cells += [f"{row['file_bytes'] / 1e6:.2f}", f"{base['file_bytes'] / row['file_bytes']:.1f}"]
    return f"| {' | '.join(cells)} | {row['latency_ms']:.2f} ({row['least_ms']:.2f}) |"


def pooled_table(result: dict[str, Any], others: dict[str, Any]) -> str:
    """Markdown: the accuracy drop on the images at hand, on others, and on both together.

    others: the counts of bench/analyses/kept-back-b0.json. The last interval contains what varies between
    the sets (DerSimonian and Laird's random effects); with two sets it says so only roughly.
    """
    n, m = sum(result["images"]), others["images"]
    lines = [
        "| artifact | drop here | drop on the others | together | 95 % interval over sets |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        other = others["rows"].get(row["name"])
        if other is None:
            continue
        pairs = [Paired(n, row["lost"], row["gained"]), Paired(m, other["lost"], other["gained"])]
        effects = random_effects([p.difference for p in pairs], [p.variance for p in pairs])
        low, high = effects.interval()
        both = (sum(p.lost for p in pairs) - sum(p.gained for p in pairs)) / (n + m)
        drops = [f"{p.lost - p.gained} of {p.n}" for p in pairs]
        lines.append(
            f"| {row['name']} | {' | '.join(drops)} | {100 * both:.1f} points "
            f"| {-100 * high:.1f} to {-100 * low:.1f} |"
        )
    return "\n".join(lines)


def write_page(page: Path) -> None:
    """Puts the table of every result file between the page's marks, and that of the drops together."""
    results = {
        path.stem: json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("accuracy-*.json"))
    }
    text = placed(page.read_text("utf-8"), BEGIN, END, table(list(results.values())))
    others = RESULTS / "kept-back-b0.json"
    if others.exists():
        pooled = pooled_table(results["accuracy-b0"], json.loads(others.read_text("utf-8")))
        text = placed(text, POOLED_BEGIN, POOLED_END, pooled)
    page.write_text(text, "utf-8")


def placed(text: str, begin: str, end: str, content: str) -> str:
    """The text of a page with other content between its two marks."""
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())

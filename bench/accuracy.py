"""Accuracy, size and latency of artifacts beside the float network: one row each, as JSON and as a table.

    python -m bench.accuracy b0-fp32.subbyte b0-w4a8.subbyte ... --data PICTURES:crop --data OTHERS:squash \\
        --output bench/analyses/accuracy-b0.json
    python -m bench.accuracy --page docs/accuracy.md     # the page's table from all such files

The first artifact is what the others are compared with. Every picture goes through the engine.
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

from subbyte.cli.measure import Subject, labelled, predictions_of, subject
from subbyte.errors import SubbyteError
from subbyte.evaluate.accuracy import Predictions
from subbyte.evaluate.data import Sample
from subbyte.evaluate.host import describe_host
from subbyte.evaluate.interleave import interleave
from subbyte.evaluate.sets import ImageSet, parse_sets
from subbyte.evaluate.statistics import Paired, correct, paired
from subbyte.evaluate.synthetic import synthetic_pictures
from subbyte.quant import QTensor

RESULTS = Path("bench/analyses")
BEGIN, END = "<!-- results -->", "<!-- /results -->"


@dataclass(frozen=True)
class Answers:
    """What one artifact says about all pictures: bool [n] whether it is right, int [n] the best class."""

    right: list[np.ndarray]
    best: np.ndarray


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--data", action="append", default=[], help="FOLDER, FOLDER:crop or FOLDER:squash")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing")
    parser.add_argument("--page", type=Path, help="write the table of all results into this page")
    options = parser.parse_args(arguments)
    try:
        if options.artifacts:
            result = measure(options.artifacts, options.data, options.seconds)
            options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
            print(table([result]))
        if options.page is not None:
            write_page(options.page)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(artifacts: Sequence[Path], data: Sequence[str], seconds: float) -> dict[str, Any]:
    """Answers on all pictures, and one thread's time of a call, taken in turns."""
    sets = parse_sets(data)
    subjects = [subject(path, None, 1, None) for path in artifacts]
    answers = [_answers(one, sets) for one in subjects]
    rows = [_row(one, a, answers[0]) for one, a in zip(subjects, answers, strict=True)]
    shape = subjects[0].artifact.graph.value(subjects[0].artifact.graph.input).shape
    picture = synthetic_pictures(shape, 1, seed=1)
    timings = interleave([lambda run=one.session.run: run(picture) for one in subjects], seconds)  # type: ignore[misc]
    for row, timing in zip(rows, timings, strict=True):
        row["latency_ms"], row["least_ms"] = 1e3 * float(np.median(timing.all)), 1e3 * float(timing.all.min())
    names = [each.folder.name for each in sets]
    return {
        "sets": names,
        "pictures": [len(r) for r in answers[0].right],
        "host": describe_host().model_dump(mode="json"),
        "rows": rows,
    }


def _answers(one: Subject, sets: Sequence[ImageSet]) -> Answers:
    right, best = [], []
    for each in sets:
        samples: list[Sample] = labelled(one, [each], None)
        predictions: Predictions = predictions_of(one, samples)
        right.append(correct(predictions, samples))
        best.append(predictions.top[:, 0])
    return Answers(right, np.concatenate(best))


def _row(one: Subject, answers: Answers, reference: Answers) -> dict[str, Any]:
    compared: Paired = paired(np.concatenate(answers.right), np.concatenate(reference.right))
    weights = [n.params["weight"] for n in one.artifact.graph.nodes if "weight" in n.params]
    bits = [(w.bits if isinstance(w, QTensor) else 8 * w.itemsize, int(np.prod(w.shape))) for w in weights]
    total = sum(count for _, count in bits)
    return {
        "name": one.path.stem,
        "model": one.artifact.provenance.get("model", ""),
        "recipe": one.artifact.recipe.get("name", ""),
        "file_bytes": one.path.stat().st_size,
        "weights": {str(b): sum(c for x, c in bits if x == b) / total for b in sorted({b for b, _ in bits})},
        "right": [int(r.sum()) for r in answers.right],
        "same": int((answers.best == reference.best).sum()),
        "lost": compared.lost,
        "gained": compared.gained,
        "p": compared.p_value(),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown, one line per artifact."""
    lines = [
        "| artifact | weights | right | same class as fp32 | lost / gained, p | file, MB | × smaller "
        "| ms (least) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        base, pictures = result["rows"][0], sum(result["pictures"])
        for row in result["rows"]:
            widths = ", ".join(f"{100 * share:.0f} % {bits} bit" for bits, share in row["weights"].items())
            right = " + ".join(map(str, row["right"])) + f" = **{sum(row['right'])}**"
            same, flips = "–", "–"
            if row is not base:
                same, flips = str(row["same"]), f"{row['lost']} / {row['gained']}, {row['p']:.2g}"
            lines.append(
                f"| {row['name']} | {widths} | {right} of {pictures} "
                f"| {same} | {flips} "
                f"| {row['file_bytes'] / 1e6:.2f} | {base['file_bytes'] / row['file_bytes']:.1f} "
                f"| {row['latency_ms']:.2f} ({row['least_ms']:.2f}) |"
            )
    return "\n".join(lines)


def write_page(page: Path) -> None:
    """Puts the table of every result file between the page's marks."""
    results = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("accuracy-*.json"))]
    before, rest = page.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""`subbyte evaluate`: how often an artifact is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from subbyte.cli.console import percent, show, show_json
from subbyte.cli.measure import (
    Subject,
    check_extras,
    labelled,
    predictions_of,
    robustness_of,
    shape_bias_of,
    subject,
)
from subbyte.cli.options import Artifact_, Isa, Json, Limit, Resize, Threads
from subbyte.evaluate.accuracy import Predictions, agreement, score
from subbyte.evaluate.data import Sample
from subbyte.evaluate.robustness import Robustness, check_corruptible
from subbyte.evaluate.statistics import calibration_error, correct, paired
from subbyte.evaluate.transfer import transfer

FLOOR = 0.70  # the top-1 that --reference-accuracy says the distance to

Corruptions = Annotated[
    str | None,
    typer.Option(help="Corrupt the pictures as well: all, or groups and families (noise,blur,fog)."),
]
Corrupted = Annotated[
    int, typer.Option(min=2, help="How many pictures --corruptions takes, drawn at random with seed 0.")
]
Severities = Annotated[str, typer.Option(help="Severities of --corruptions, 1 to 5.")]
CueConflictFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of shape/texture pictures: labels.csv (file,shape,texture), JSON of categories."
    ),
]


def evaluate(
    artifact: Artifact_,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled pictures: labels.csv (file,label), or one subfolder a class."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--against", "--reference", help="Another artifact, to compare with picture by picture."
        ),
    ] = None,
    reference_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Top-1 of --against on a harder set; bounds this artifact's there."),
    ] = None,
    corruptions: Corruptions = None,
    severities: Severities = "1,2,3,4,5",
    cue_conflict: CueConflictFolder = None,
    resize: Resize = None,
    limit: Limit = None,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Accuracy with intervals; beside another artifact's; on corrupted pictures; by shape and texture."""
    if data is None and cue_conflict is None:
        raise typer.BadParameter("give --data or --cue-conflict")
    if reference_accuracy is not None and reference is None:
        raise typer.BadParameter("--reference-accuracy is that of --against")
    one = subject(artifact, resize, threads, isa)
    other = None if reference is None else subject(reference, resize, threads, isa)
    check_extras(corruptions, severities, cue_conflict, one.classes)
    if corruptions is not None:
        check_corruptible([one.preprocessing])
    result: dict[str, Any] = {"artifact": str(artifact), "isa": one.session.isa, "threads": threads}
    if data is not None:
        samples = labelled(one, data, limit)
        result |= {"data": str(data)} | _on_pictures(one, other, samples, reference_accuracy)
        if corruptions is not None:
            result["robustness"] = _robustness(one, other, samples, corruptions, severities)
    if cue_conflict is not None:
        result["cue_conflict"] = shape_bias_of(one, cue_conflict, resize).to_json()
    if json:
        show_json(result)
    else:
        show(*_tables(result))


def _on_pictures(
    one: Subject, other: Subject | None, samples: Sequence[Sample], reference_accuracy: float | None
) -> dict[str, Any]:
    predictions = predictions_of(one, samples)
    result = counts(predictions, samples)
    if other is None:
        return result
    answers = predictions_of(other, samples)
    result |= {"reference": str(other.path)} | comparison(predictions, answers, samples)
    if reference_accuracy is not None:
        labels = np.array([sample.label for sample in samples])
        result["transfer"] = transfer(predictions, answers, labels, reference_accuracy).to_json(FLOOR)
    return result


def counts(predictions: Predictions, samples: Sequence[Sample]) -> dict[str, Any]:
    """Accuracy and calibration as JSON values."""
    result = score(predictions, samples)
    return {
        "pictures": result.n,
        "top1": result.top1,
        "top5": result.top5,
        "top1_rate": result.top1_rate,
        "top5_rate": result.top5_rate,
        "top1_interval_95": list(result.interval()),
        "calibration_error": calibration_error(predictions.probability[:, 0], correct(predictions, samples)),
    }


def comparison(predictions: Predictions, reference: Predictions, samples: Sequence[Sample]) -> dict[str, Any]:
    """Both on the same pictures, as JSON values."""
    both = paired(correct(predictions, samples), correct(reference, samples))
    return {
        "agreement": agreement(predictions, reference),
        "lost": both.lost,
        "gained": both.gained,
        "difference": both.difference,
        "difference_interval_95": list(both.interval()),
        "mcnemar_p": both.p_value(),
    }


def _robustness(
    one: Subject, other: Subject | None, samples: Sequence[Sample], corruptions: str, severities: str
) -> dict[str, Any]:
    subjects = [one] if other is None else [one, other]
    first, *rest = robustness_of(subjects, samples, corruptions, severities)
    return first.to_json() | (robustness_change(first, rest[0]) if rest else {})


def robustness_change(one: Robustness, reference: Robustness) -> dict[str, Any]:
    """Mean corruption accuracy beside the reference's, as JSON values."""
    difference, interval = one.change(reference)
    return {
        "reference_mean_accuracy": reference.mean,
        "difference": difference,
        "difference_interval_95": list(interval),
    }


# --------------------------------------------------------------------------- for people


def _tables(result: dict[str, Any]) -> list[Table]:
    table = Table(show_header=False, box=None)
    if "pictures" in result:
        _accuracy(table, result)
    if "difference" in result:
        _comparison(table, result)
    if "transfer" in result:
        _transfer(table, result["transfer"])
    if "cue_conflict" in result:
        _cues(table, result["cue_conflict"])
    table.add_row("engine", f"{result['isa']}, {result['threads']} thread(s)")
    return [table, _grid(result["robustness"])] if "robustness" in result else [table]


def _accuracy(table: Table, result: dict[str, Any]) -> None:
    n = result["pictures"]
    low, high = result["top1_interval_95"]
    table.add_row("pictures", str(n))
    table.add_row("top-1", f"{result['top1']} of {n}  {percent(result['top1_rate'])}")
    table.add_row("", f"95 % interval {percent(low)} – {percent(high)}")
    table.add_row("top-5", f"{result['top5']} of {n}  {percent(result['top5_rate'])}")
    table.add_row("calibration error", percent(result["calibration_error"]))


def _comparison(table: Table, result: dict[str, Any]) -> None:
    n = result["pictures"]
    low, high = result["difference_interval_95"]
    share = percent(result["agreement"] / n)
    table.add_row("same best class", f"{result['agreement']} of {n}  {share}  as {result['reference']}")
    table.add_row(
        "top-1 beside it", f"{points(result['difference'])}: {result['lost']} lost, {result['gained']} gained"
    )
    table.add_row("", f"95 % interval {points(low)} to {points(high)}, McNemar p = {result['mcnemar_p']:.2g}")


def _transfer(table: Table, bound: dict[str, Any]) -> None:
    low, high = bound["estimate_interval_95"]
    table.add_row("where that one has", f"{percent(bound['reference_accuracy'])}:")
    table.add_row(
        "  estimate", f"{percent(bound['estimate'])}  95 % interval {percent(low)} – {percent(high)}"
    )
    table.add_row("  worst case, 95 %", percent(bound["worst_case_95"]))
    factor = f"if losses were {bound['factor']:.1f} times as frequent as on these pictures"
    table.add_row(f"  {percent(bound['floor'])} only", factor)


def _cues(table: Table, cues: dict[str, Any]) -> None:
    bias = "–" if cues["shape_bias"] is None else percent(cues["shape_bias"])
    table.add_row("shape bias", f"{bias}  {cues['shape']} by shape, {cues['texture']} by texture")
    table.add_row("by shape", f"{cues['shape']} of {cues['pictures']}  {percent(cues['accuracy'])}")


def _grid(robust: dict[str, Any]) -> Table:
    n = robust["pictures"]
    table = Table("top-1 of corrupted pictures", box=None)
    for severity in robust["severities"]:
        table.add_column(f"severity {severity}", justify="right")
    table.add_column("mean", justify="right")
    for family, row in robust["top1"].items():
        shares = [count / n for count in row]
        table.add_row(family.replace("_", " "), *map(percent, shares), percent(sum(shares) / len(shares)))
    low, high = robust["mean_accuracy_interval_95"]
    relative = robust["relative_to_clean"]
    caption = f"mean {percent(robust['mean_accuracy'])} ({percent(low)} – {percent(high)})"
    caption += "" if relative is None else f", {percent(relative)} of that on the {n} clean pictures"
    if "difference" in robust:
        low, high = robust["difference_interval_95"]
        caption += (
            f"; beside the other artifact {points(robust['difference'])} ({points(low)} to {points(high)})"
        )
    table.caption, table.caption_justify = caption, "left"
    return table


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f} points"

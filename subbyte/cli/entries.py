"""From artifacts, peers and a benchmark result to the entries of a report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.benchmark.result import BenchResult, Spread, Timing
from subbyte.cli.bench import calibration_arrays, names_of
from subbyte.cli.console import progress
from subbyte.cli.measure import Subject, predictions_of, robustness_of, shape_bias_of
from subbyte.cli.options import Extras
from subbyte.data.samples import Sample, batches, image_folder, subset
from subbyte.errors import InputError
from subbyte.ir.shares import shares
from subbyte.metrics.accuracy import Predictions
from subbyte.metrics.layer_error import layer_sqnr
from subbyte.metrics.statistics import calibration_error, correct
from subbyte.report.entry import Entry
from subbyte.report.layers import layers_of
from subbyte.report.plan import plan_rows
from subbyte.tasks import Task, predict

#: What is known of a peer: its name, precision, size of its file, and answers if it was run.
PeerAnswers = tuple[str, str, int, Any]


def with_extras(
    entries: Sequence[Entry],
    subjects: Sequence[Subject],
    samples: Sequence[Sample],
    extras: Extras,
    resize: str | None,
    measured: BenchResult | None = None,
) -> list[Entry]:
    """The entries of the subjects, with what else was asked for."""
    entries = list(entries)
    if measured is not None:
        timings = [timing_of(measured, one.path) for one in subjects]
        entries = [
            replace(e, **_latency(measured, t, timings[0])) for e, t in zip(entries, timings, strict=True)
        ]
    if extras.corruptions is not None:
        some = subset(samples, extras.corrupted)
        robust = robustness_of(subjects, some, extras)
        entries = [replace(e, robustness=r) for e, r in zip(entries, robust, strict=True)]
    if extras.cue_conflict is not None:
        biases = [shape_bias_of(one, extras.cue_conflict, resize) for one in subjects]
        entries = [replace(e, shape_bias=b) for e, b in zip(entries, biases, strict=True)]
    return entries


def entry_of(one: Subject, name: str, samples: Sequence[Sample], reference: Entry | None) -> Entry:
    """What the artifact says about the images, beside what the reference said."""
    entry = Entry(
        name,
        str(one.artifact.recipe.get("name", "")),
        file_bytes=one.path.stat().st_size,
        memory_bytes=one.session.weight_bytes + one.session.arena_bytes,
        load_ms=1e3 * one.load_seconds,
        plan=plan_rows(one.session),
        layers=layers_of(one.artifact.graph),
        shares=shares(one.artifact.graph),
        recipe=one.artifact.recipe,
        provenance=one.artifact.provenance,
    )
    return _judged(entry, one.task, predictions_of(one, samples), samples, reference)


def _judged(
    entry: Entry, task: Task[Any], answers: Any, samples: Sequence[Sample], reference: Entry | None
) -> Entry:
    score = task.score(answers, samples)
    entry = replace(entry, predictions=answers, accuracy=score)
    if isinstance(answers, Predictions):
        error = calibration_error(answers.probability[:, 0], correct(answers, samples))
        entry = replace(entry, calibration=error)
    if reference is None:
        return entry
    alike = float(task.alike(answers, reference.predictions).sum())
    return replace(
        entry,
        agreement=alike if score.count is None else round(alike),
        compared=task.compared(answers, reference.predictions, samples),
    )


def timing_of(measured: BenchResult, path: Path) -> Timing:
    """The timing of the very file, by its hash. InputError if the benchmark has another one."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for timing in measured.timings:
        if timing.sha256 == digest:
            return timing
    raise InputError(f"the benchmark result has no timing of {path} as it is now; run subbyte bench again")


def _latency(measured: BenchResult, timing: Timing, reference: Timing | None = None) -> dict[str, Any]:
    """Speedups are medians over rounds. reference: what `reference_speedup` is relative to, None for none."""
    result: dict[str, Any] = {
        "latency_ms": timing.ms.median,
        "latency_range_ms": (timing.ms.p10, timing.ms.p90),
        "speedup": None if timing.ratio is None else timing.ratio.median,
    }
    if reference is not None and reference is not timing:
        result["reference_speedup"] = _speedup(timing, reference).median
    if measured.fastest_float is not None:
        spread = _speedup(timing, measured.fastest_float)
        result |= {"float_speedup": spread.median, "float_speedup_range": (spread.p10, spread.p90)}
    return result


def _speedup(timing: Timing, over: Timing) -> Spread:
    """Round by round, so that what disturbs the machine cancels."""
    return Spread.of(np.array(over.round_ms) / np.array(timing.round_ms))


def fastest_float_of(
    measured: BenchResult | None, subjects: Sequence[Subject], names: Sequence[str]
) -> str | None:
    """What `Entry.float_speedup` is relative to: the entry's name if it is one of the subjects."""
    fastest = None if measured is None else measured.fastest_float
    if measured is None or fastest is None:
        return None
    for one, name in zip(subjects, names, strict=True):
        if timing_of(measured, one.path) is fastest:
            return name
    return f"{fastest.name}-{fastest.precision}"


def with_layer_errors(
    entries: Sequence[Entry], subjects: Sequence[Subject], samples: Sequence[Sample], count: int
) -> list[Entry]:
    """The entries with the error of every layer beside the first entry's, on `count` of the images."""
    if count == 0 or len(subjects) < 2:
        return list(entries)
    first, *others = subjects
    chosen = subset(samples, count)
    images = np.concatenate(list(batches(chosen, first.preprocessing)))
    found = [entries[0]]
    with progress("error of every layer", len(others)) as done:
        for i, (entry, one) in enumerate(zip(entries[1:], others, strict=True), start=1):
            if one.preprocessing == first.preprocessing:  # else they do not see the same
                entry = replace(entry, sqnr=layer_sqnr(one.artifact.graph, first.artifact.graph, images))
            found.append(entry)
            done(i)
    return found


# --------------------------------------------------------------------------- peers


def check_peers(against: str, calibration: Path | None) -> None:
    """InputError unless the peers are known and there are images for their INT8."""
    if calibration is not None:
        image_folder(calibration)
    if names_of(against):
        from subbyte.benchmark.peers import peer_names

        peer_names(names_of(against))
        if calibration is None:
            raise InputError("--against needs --calibration, images for the peers' INT8")


def answers_of_peers(
    first: Subject, against: str, calibration: Path | None, samples: Sequence[Sample]
) -> list[PeerAnswers]:
    """Every peer on the images."""
    from subbyte.benchmark.peers import load_peers
    from subbyte.passes.dequantize import dequantize_graph

    if not names_of(against):
        return []
    assert calibration is not None  # see check_peers
    peers = load_peers(
        dequantize_graph(first.artifact.graph),
        names_of(against),
        threads=first.session.threads,
        calibration=calibration_arrays(first.artifact, calibration),
    )
    answers = []
    for peer in peers:
        with progress(f"evaluating {peer.label}", len(samples)) as done:
            found = predict(peer, samples, first.preprocessing, task=first.task.name, batch=1, progress=done)
        answers.append((peer.name, peer.precision, peer.file_bytes, found))
    return answers


def peer_entries(
    answers: Sequence[PeerAnswers],
    task: Task[Any],
    reference: Entry,
    samples: Sequence[Sample],
    measured: BenchResult | None,
) -> list[Entry]:
    """Peers that were run on the images, peers that were timed, or both in one row."""
    timings = {(t.name, t.precision): t for t in measured.timings if t.peer} if measured else {}
    entries = []
    for name, precision, size, found in answers:
        entry = Entry(f"{name}-{precision}", precision, peer=True, file_bytes=size)
        timing = timings.pop((name, precision), None)
        if measured is not None and timing is not None:
            entry = replace(entry, **_latency(measured, timing))
        entries.append(_judged(entry, task, found, samples, reference))
    if measured is None:
        return entries
    return entries + [
        Entry(
            f"{t.name}-{t.precision}",
            t.precision,
            peer=True,
            file_bytes=t.file_bytes,
            **_latency(measured, t),
        )
        for t in timings.values()
    ]

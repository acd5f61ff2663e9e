"""`subbyte report`: accuracy, size, latency and every layer on one page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subbyte.artifact import Artifact, load
from subbyte.cli.bench import calibration_arrays, names_of
from subbyte.cli.console import progress, show, show_json
from subbyte.cli.evaluate import labelled, logits_of, predictions_of
from subbyte.cli.options import Against, Artifacts, Data, Isa, Json, Limit, Resize, Threads
from subbyte.errors import InputError
from subbyte.evaluate.accuracy import Predictions, agreement, predict, score
from subbyte.evaluate.data import Sample, with_resize
from subbyte.evaluate.plan import plan_rows
from subbyte.evaluate.report import Entry, Report, render, table_rows, write_text

if TYPE_CHECKING:
    from subbyte.evaluate.bench_result import BenchResult, Timing

#: What is known of a peer: its name, precision, size of its file, and answers if it was run.
PeerAnswers = tuple[str, str, int, Predictions]


def report(
    artifacts: Artifacts,
    data: Data,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
    bench: Annotated[
        Path | None, typer.Option(help="Latencies: what `subbyte bench ... --json` printed.")
    ] = None,
    against: Against = "",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of pictures for the INT8 of the peers in --against.")
    ] = None,
    resize: Resize = None,
    limit: Limit = None,
    threads: Threads = 1,
    isa: Isa = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    json: Json = False,
) -> None:
    """Compare artifacts, and peers, on labelled pictures: one HTML page that needs no network.

    Agreement is counted against the first artifact: give the float32 one first. Peers in --against
    run that artifact's network.
    """
    if not output.parent.is_dir():
        raise InputError(f"{output.parent} is not a folder")
    measured = None if bench is None else _read_bench(bench)
    loaded = [load(path) for path in artifacts]
    names = _unique_names(artifacts)
    samples = labelled(loaded[0], data, limit)
    entries: list[Entry] = []
    for name, path, artifact in zip(names, artifacts, loaded, strict=True):
        predictions, session = predictions_of(artifact, samples, resize, threads, isa, name)
        entries.append(
            Entry(
                name,
                str(artifact.recipe.get("name", "")),
                accuracy=score(predictions, samples),
                agreement=agreement(predictions, entries[0].predictions or predictions) if entries else None,
                file_bytes=path.stat().st_size,
                predictions=predictions,
                plan=plan_rows(session),
                recipe=artifact.recipe,
                provenance=artifact.provenance,
                **_latency(_timing_of(measured, path)),
            )
        )
    entries += _peer_entries(
        _answers_of_peers(loaded[0], against, calibration, samples, resize, threads),
        entries[0],
        samples,
        measured,
    )
    page = Report(
        title or "subbyte: accuracy, size, latency",
        entries,
        samples,
        loaded[0].classes,
        names[0],
        _facts(measured, data, samples, threads, isa),
        fastest_peer=None if measured is None else measured.best_peer,
        warning=_warning(measured),
    )
    write_text(output, render(page))
    show_json(table_rows(page)) if json else show(f"{output}: {len(entries)} rows, {len(samples)} pictures")


def _read_bench(path: Path) -> BenchResult:
    from subbyte.evaluate.bench_result import BenchResult

    try:
        return BenchResult.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the benchmark result {path}: {error}") from None


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """File names without suffix, where they differ, else the paths."""
    names = [path.stem for path in paths]
    if len(set(map(str, paths))) != len(paths):
        raise InputError("an artifact is given twice")
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _timing_of(measured: BenchResult | None, path: Path) -> Timing | None:
    """The timing of the very file, by its hash. InputError if the benchmark has another one."""
    if measured is None:
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for timing in measured.timings:
        if timing.sha256 == digest:
            return timing
    raise InputError(f"the benchmark result has no timing of {path} as it is now; run subbyte bench again")


def _latency(timing: Timing | None) -> dict[str, Any]:
    if timing is None:
        return {}
    return {
        "latency_ms": timing.ms.median,
        "latency_range_ms": (timing.ms.p10, timing.ms.p90),
        "speedup": None if timing.ratio is None else timing.ratio.median,
    }


def _warning(measured: BenchResult | None) -> str | None:
    """A sentence if other programs disturbed the timing."""
    if measured is None or measured.host.load_before < measured.threads + 0.5:
        return None
    load = f"{measured.host.load_before:.1f}"
    return f"Other programs disturbed the timing (load {load}): time again on a quiet machine."


def _answers_of_peers(
    first: Artifact,
    against: str,
    calibration: Path | None,
    samples: Sequence[Sample],
    resize: str | None,
    threads: int,
) -> list[PeerAnswers]:
    """Every peer on the pictures."""
    from subbyte.evaluate.peers import load_peers
    from subbyte.passes.dequantize import dequantize_graph

    if not names_of(against):
        return []
    if calibration is None:
        raise InputError("--against needs --calibration, pictures for the peers' INT8")
    preprocessing = with_resize(first.preprocessing, resize)
    peers = load_peers(
        dequantize_graph(first.graph),
        names_of(against),
        threads=threads,
        calibration=calibration_arrays(first, calibration),
    )
    answers = []
    for peer in peers:
        with progress(f"evaluating {peer.label}", len(samples)) as done:
            predictions = predict(logits_of(peer), samples, preprocessing, batch=1, progress=done)
        answers.append((peer.name, peer.precision, peer.file_bytes, predictions))
    return answers


def _peer_entries(
    answers: Sequence[PeerAnswers], reference: Entry, samples: Sequence[Sample], measured: BenchResult | None
) -> list[Entry]:
    """Peers that were run on the pictures, peers that were timed, or both in one row."""
    timings = {(t.name, t.precision): t for t in measured.timings if t.peer} if measured else {}
    assert reference.predictions is not None
    entries = [
        Entry(
            f"{name}-{precision}",
            precision,
            peer=True,
            accuracy=score(predictions, samples),
            agreement=agreement(predictions, reference.predictions),
            file_bytes=size,
            predictions=predictions,
            **_latency(timings.pop((name, precision), None)),
        )
        for name, precision, size, predictions in answers
    ]
    return entries + [
        Entry(f"{t.name}-{t.precision}", t.precision, peer=True, file_bytes=t.file_bytes, **_latency(t))
        for t in timings.values()
    ]


def _facts(
    measured: BenchResult | None, data: Path, samples: Sequence[Sample], threads: int, isa: str | None
) -> dict[str, Any]:
    from subbyte.evaluate.host import commit, describe_host
    from subbyte.runtime import best_isa

    host = describe_host() if measured is None else measured.host
    facts: dict[str, Any] = {
        "CPU": host.cpu,
        "CPU flags": host.flags,
        "CPUs": host.cpus,
        "caches": host.caches,
        "system": host.system,
        "python": host.python,
        "threads": threads if measured is None else measured.threads,
        "engine": isa or best_isa(),
        "commit": commit() or "unknown",
        "pictures": f"{len(samples)} of {data.name}",
    }
    if measured is not None:
        facts |= {
            "timed": f"{measured.date}, batch {measured.batch}, load {host.load_before:.2f} before",
            "timed commit": measured.commit or "unknown",
            "peak": {isa: f"{peak:.0f} GMAC/s per core" for isa, peak in measured.peak_gmacs.items()},
            "peers": sorted({f"{t.name} {t.version}" for t in measured.timings if t.peer}),
        }
    return facts

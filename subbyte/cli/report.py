"""`subbyte report`: accuracy, robustness, size, latency and every layer on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from subbyte.benchmark.result import BenchResult
from subbyte.cli import options
from subbyte.cli.bench import calibration_arrays, names_of, skipped_peers
from subbyte.cli.checks import check_output
from subbyte.cli.console import note, say, show_json
from subbyte.cli.entries import (
    answers_of_peers,
    check_peers,
    entry_of,
    fastest_float_of,
    peer_entries,
    timing_of,
    with_extras,
    with_layer_errors,
)
from subbyte.cli.measure import Subject, check_extras, labelled, subject
from subbyte.data.samples import subset
from subbyte.data.sets import ImageSet, parse_sets
from subbyte.errors import InputError
from subbyte.report.entry import Entry
from subbyte.system.text_file import read_text, write_text

MAX_BENCH = 1 << 26  # bytes of a benchmark result


@options.spread
def report(
    artifacts: options.Artifacts,
    data: options.Data,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
    *,
    bench: Annotated[
        Path | None, typer.Option(help="Latencies: what `subbyte bench ... --json` printed.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="Time everything in turns for so long, instead of --bench; 0: not.")
    ] = 0.0,
    against: options.Against = "",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images for the INT8 of the peers in --against.")
    ] = None,
    extras: options.Extras,
    sensitivity: Annotated[
        Path | None, typer.Option(help="The result of `subbyte sensitivity`, for maps of the layers.")
    ] = None,
    layer_errors: Annotated[
        int, typer.Option(min=0, help="Images that the error of every layer is measured on; 0: none.")
    ] = 2,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="A Markdown file to write the table to as well.")
    ] = None,
    task: options.TaskName = None,
    resize: options.Resize = None,
    limit: options.Limit = None,
    threads: options.Threads = 1,
    isa: options.Isa = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    json: options.Json = False,
) -> None:
    """Compare artifacts, and peers, on labelled images: one HTML page that needs no network.

    The first artifact is the baseline: give the float32 one first. Peers in --against run its network.
    Speedups are over the fastest float32 runtime that was timed, ours or a peer.
    """
    import jinja2  # noqa: F401  better missed now than when everything is measured

    from subbyte.report.contents import Report
    from subbyte.report.report import markdown, render, table_rows

    inputs = (*artifacts, bench, sensitivity)
    check_output("--output", output, ".html", inputs)
    if markdown_file is not None:
        check_output("--markdown", markdown_file, ".md", inputs)
    check_extras(extras)
    check_peers(against, calibration)
    sets = parse_sets(data)
    if bench is not None and seconds:
        raise InputError("give --bench or --seconds, not both")
    measured = None if bench is None else _read_bench(bench)
    layers = [] if sensitivity is None else _sensitivity(sensitivity)
    names = unique_names(artifacts)
    subjects = [subject(artifacts[0], resize, threads, isa, task)]
    meant = subjects[0].task
    subjects += [subject(path, resize, threads, isa, meant.name) for path in artifacts[1:]]
    check_extras(extras, subjects[0])
    if measured is not None:
        for path in artifacts:
            timing_of(measured, path)
    samples = labelled(subjects[0], sets, limit)
    answers = answers_of_peers(subjects[0], against, calibration, samples)
    if seconds:
        measured = timed(subjects, against, calibration, seconds, isa)
    entries: list[Entry] = []
    for one, name in zip(subjects, names, strict=True):
        entries.append(entry_of(one, name, samples, entries[0] if entries else None))
    entries = with_extras(entries, subjects, samples, extras, resize, measured)
    entries = with_layer_errors(entries, subjects, samples, layer_errors)
    page = Report(
        title or "subbyte: accuracy, robustness, size, latency",
        entries + peer_entries(answers, meant, entries[0], samples, measured),
        samples,
        subjects[0].artifact.classes,
        names[0],
        facts_of(measured, sets, samples, subjects[0]),
        fastest_peer=None if measured is None else measured.best_peer,
        warning=_warning(measured),
        sensitivity=layers,
        fastest_float=fastest_float_of(measured, subjects, names),
        corrupted=() if extras.corruptions is None else subset(samples, extras.corrupted),
        preprocessing=subjects[0].preprocessing,
        error_images=min(layer_errors, len(samples)),
        task=meant,
    )
    write_text(output, render(page))
    if markdown_file is not None:
        write_text(markdown_file, markdown(page))
    rows = len(page.entries)
    show_json(table_rows(page)) if json else say(f"{output}: {rows} rows, {len(samples)} images")


def _read_bench(path: Path) -> BenchResult:
    return BenchResult.from_json(read_text("the benchmark result", path, MAX_BENCH))


def timed(
    subjects: Sequence[Subject], against: str, calibration: Path | None, seconds: float, isa: str | None
) -> BenchResult:
    """A fresh benchmark, as `subbyte bench` makes it."""
    from subbyte.benchmark.bench import bench

    images = calibration_arrays(subjects[0].artifact, calibration)
    return bench(
        [one.path for one in subjects],
        names_of(against),
        threads=subjects[0].session.threads,
        seconds=seconds,
        isa=isa,
        images=images[0] if images else None,
        calibration=images,
        notify=note,
    )


def _sensitivity(path: Path) -> list[dict[str, Any]]:
    """What `subbyte sensitivity` wrote, as the report takes it. InputError if it is something else."""
    from subbyte.analysis.table import read_sensitivity

    return read_sensitivity(path).maps()


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names without suffix, where they differ, else the paths."""
    names = [path.stem for path in paths]
    if len(set(map(str, paths))) != len(paths):
        raise InputError("an artifact is given twice")
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _warning(measured: BenchResult | None) -> str | None:
    """A sentence if other programs disturbed the timing."""
    if measured is None or measured.host.load_before < measured.threads + 0.5:
        return None
    load = f"{measured.host.load_before:.1f}"
    return f"Other programs disturbed the timing (load {load}): time again on a quiet machine."


def facts_of(
    measured: BenchResult | None, sets: Sequence[ImageSet], samples: Sequence[object], first: Subject
) -> dict[str, Any]:
    """Host, versions and images, for people."""
    from subbyte.benchmark.machine import commit, describe_machine

    host = describe_machine() if measured is None else measured.host
    facts: dict[str, Any] = {
        "CPU": host.cpu,
        "CPU flags": host.flags,
        "CPUs": host.cpus,
        "caches": host.caches,
        "system": host.system,
        "python": host.python,
        "threads": first.session.threads if measured is None else measured.threads,
        "engine": first.session.isa,
        "commit": commit() or "unknown",
        "images": f"{len(samples)} of {' and '.join(each.folder.name for each in sets)}",
    }
    if measured is not None and measured.skipped:
        facts["not timed"] = skipped_peers(measured)
    if measured is not None:
        facts |= {
            "timed": f"{measured.date}, batch {measured.batch}, load {host.load_before:.2f} before",
            "timed commit": measured.commit or "unknown",
            "peak": {isa: f"{peak:.0f} GMAC/s per core" for isa, peak in measured.peak_gmacs.items()},
            "peers": sorted({f"{t.name} {t.version}" for t in measured.timings if t.peer}),
        }
    return facts

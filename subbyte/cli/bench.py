"""`subbyte bench`: how fast, beside what a user would otherwise pick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from subbyte.artifact import Artifact, load
from subbyte.cli.console import note, show, show_json
from subbyte.cli.options import Against, Artifacts, Isa, Json, Threads
from subbyte.data.samples import batches, image_folder, subset
from subbyte.system.units import size_text

if TYPE_CHECKING:
    from subbyte.benchmark.result import BenchResult

CALIBRATION_IMAGES = 64


def bench(
    artifacts: Artifacts,
    against: Against = "",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of images for the peers' INT8 and for checking; default: synthetic ones."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="Seconds of timing, all candidates together.")
    ] = 10.0,
    batch: Annotated[int, typer.Option(min=1, help="Images per call.")] = 1,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also measure load time and memory, in processes of their own.")
    ] = False,
    streams: Annotated[
        int,
        typer.Option(min=0, help="Also measure images per second of this many callers at a time; 0: not."),
    ] = 0,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Time artifacts of one network, in turns with other engines on the same images and cores.

    Peers run the first artifact's network, in float32 and quantized by their own tools: give the
    float32 artifact first, so that they start from the original weights.
    """
    from subbyte.benchmark.bench import bench as run_bench

    images = calibration_arrays(load(artifacts[0]), calibration)
    result = run_bench(
        artifacts,
        names_of(against),
        threads=threads,
        seconds=seconds,
        batch=batch,
        footprints=memory,
        streams=streams,
        isa=isa,
        images=None if not images or len(images[0]) < batch else images[0],
        calibration=images,
        notify=note,
    )
    if json:
        show_json(result.model_dump(mode="json"))
        return
    show(_facts(result), _table(result), *skipped_peers(result))


def names_of(against: str) -> list[str]:
    """The peers of a comma-separated list."""
    return [name.strip() for name in against.split(",") if name.strip()]


def calibration_arrays(artifact: Artifact, folder: Path | None) -> list[np.ndarray]:
    """Preprocessed images of a folder, at most 64, for the tools of the peers."""
    if folder is None:
        return []
    samples = subset(image_folder(folder), CALIBRATION_IMAGES)
    return list(batches(samples, artifact.preprocessing))


def skipped_peers(result: BenchResult) -> list[str]:
    """A line per peer that was not timed: which, and what was wrong with it."""
    return [f"{one.name}-{one.precision} was skipped: it {one.reason}" for one in result.skipped]


def _facts(result: BenchResult) -> str:
    where = f"{result.host.cpu}, {result.threads} thread(s), batch {result.batch}"
    return f"{where}, load {result.host.load_before:.1f}, {result.macs / 1e9:.3f} GMAC an image"


def _table(result: BenchResult) -> Table:
    table = Table("", "precision", box=None)
    timed = ("median ms", "10 % – 90 %", "speedup", "GMAC/s", "of peak", "file")
    held = any(t.load_ms is not None for t in result.timings)
    more = (*(("load ms", "memory") if held else ()), *(("images/s",) if result.streams else ()))
    for heading in (*timed, *more, "correlation"):
        table.add_column(heading, justify="right")
    for row in result.rows():
        cells = [
            f"{row['median_ms']:.3f}",
            f"{row['p10_ms']:.3f} – {row['p90_ms']:.3f}",
            "" if result.best_peer is None else f"{row['ratio']:.2f}",
            f"{row['gmac_per_second']:.1f}",
            "" if row["peak"] is None else f"{100 * row['peak']:.0f} %",
            size_text(row["file_bytes"]),
        ]
        if held:
            resident = row["resident_bytes"]
            cells += [f"{row['load_ms']:.0f}", "" if resident is None else size_text(resident)]
        if result.streams:
            cells.append(f"{row['images_per_second']:.1f}")
        agreement = "equal" if row["equal"] else f"{row['correlation']:.4f}"
        table.add_row(row["name"], row["precision"], *cells, agreement)
    best = "" if result.best_peer is None else f"Times as fast: beside {result.best_peer}, the fastest peer. "
    if result.streams:
        best += f"Images/s: of {result.streams} callers at a time. "
    table.caption = best + "Correlation: with what it should compute."
    table.caption_justify = "left"
    return table

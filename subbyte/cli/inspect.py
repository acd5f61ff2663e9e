"""`subbyte inspect`: what an artifact holds, and what the engine will do with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from subbyte.artifact import Artifact, load
from subbyte.artifact.compact import coded_bits
from subbyte.cli.console import show, show_json, styled
from subbyte.cli.options import Artifact_, Isa, Json, Threads
from subbyte.cli.priced import priced, show_priced
from subbyte.execute.native import Session
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.report.plan import memory, plan_rows, regions
from subbyte.system.units import size_text


def inspect(
    artifact: Artifact_,
    repeats: Annotated[int, typer.Option(min=0, help="Timed runs for the shares of time; 0: none.")] = 10,
    threads: Threads = 1,
    isa: Isa = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Instead: what each layer costs on a device: host, one of the package's profiles, or a "
            "profile.toml of your own."
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.001, help="--target: images a second that the power is told for.")
    ] = 30.0,
    json: Json = False,
) -> None:
    """Show the plan: memory, what runs depth-first, and per layer requested and executed formats,
    kernel, share of time.

    With --target: time and energy of each layer on a device, by its cost model.
    """
    loaded = load(artifact)
    if target is not None:
        found = priced(loaded.graph, target, rate)
        (show_json if json else show_priced)(found)
        return
    session = Session(loaded, threads=threads, isa=isa)
    facts = _facts(artifact, loaded, session)
    rows = plan_rows(session, repeats)
    depth_first = regions(rows)
    if json:
        show_json(facts | {"regions": depth_first, "plan": rows})
        return
    summary = Table(show_header=False, box=None)
    for key, value in {**facts, "shares": str(shares(loaded.graph))}.items():
        summary.add_row(key.replace("_bytes", "").replace("_", " "), _text(key, value))
    show(summary, "", *([_regions(depth_first), ""] if depth_first else []), _plan(rows))


def _facts(path: Path, artifact: Artifact, session: Session) -> dict[str, Any]:
    graph = artifact.graph
    return {
        "artifact": str(path),
        "file_bytes": path.stat().st_size,
        "input": list(graph.value(graph.input).shape),
        "outputs": {name: list(graph.value(name).shape) for name in graph.outputs},
        **_levels(graph),
        **_in_file(artifact),
        "classes": None if artifact.classes is None else len(artifact.classes),
        "preprocessing": artifact.preprocessing.to_json(),
        "description": artifact.recipe.get("description"),
        "recipe": artifact.recipe,
        "provenance": artifact.provenance,
        "isa": session.isa,
        "shares": shares(graph).to_json(),
        **memory(session, artifact),
    }


def _levels(graph: Graph) -> dict[str, str]:
    """How many activations are levels, in words; nothing where none is."""
    grids = [value.q for value in graph.values.values() if value.q is not None]
    counts = Counter(q.format.words for q in grids if q.levels is not None)
    return {"levels": ", ".join(f"{n} x {words}" for words, n in counts.items())} if counts else {}


def _in_file(artifact: Artifact) -> dict[str, float]:
    """The mean bits of a weight in a compact file; nothing for others."""
    bits = coded_bits(artifact.graph) if artifact.coding == "entropy" else None
    return {} if bits is None else {"bits_of_a_weight_in_the_file": round(bits, 3)}


def _text(key: str, value: Any) -> str:
    if "_bytes" in key:
        return size_text(value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "none" if value is None else str(value)


def _regions(found: list[dict[str, Any]]) -> Table:
    """A row per region; per step the rows that it makes in a row tile / keeps / has in all."""
    table = Table("depth-first region", box=None)
    for heading in ("steps", "row tiles", "line buffers"):
        table.add_column(heading, justify="right")
    table.add_column("rows a row tile / kept / in all, step by step")
    for region in found:
        rows = zip(region["tile_rows"], region["line_buffer_rows"], region["height"], strict=True)
        table.add_row(
            f"{region['steps'][0]} … {region['steps'][-1]}",
            str(len(region["steps"])),
            str(region["row_tiles"]),
            size_text(sum(region["line_buffer_bytes"][:-1])),
            ", ".join(f"{made}/{kept or height}/{height}" for made, kept, height in rows),
        )
    return table


def _plan(rows: list[dict[str, Any]]) -> Table:
    table = Table("layer", "operation", "requested", "executed", "kernel", "ISA", box=None)
    for heading in ("MMAC", "weights, B", "buffer at", "buffer, B", "time"):
        table.add_column(heading, justify="right")
    for row in rows:
        differs = row["executed"] != row["requested"]
        table.add_row(
            row["name"],
            row["op"],
            row["requested"],
            styled(row["executed"], "red") if differs else row["executed"],
            row["kernel"],
            row["isa"],
            f"{row['macs'] / 1e6:.2f}" if row["macs"] else "",
            f"{row['weight_bytes']}" if row["weight_bytes"] else "",
            f"{row['buffer_offset']}",
            f"{row['buffer_bytes']}",
            "" if row["share"] is None else f"{100 * row['share']:.1f} %",
        )
    return table

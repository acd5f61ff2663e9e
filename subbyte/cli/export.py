"""`subbyte export`: an artifact as the file of another runtime, and what that will compute in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from subbyte.artifact import Artifact, load
from subbyte.cli.checks import check_output
from subbyte.cli.console import progress, say, show, show_json, styled
from subbyte.cli.options import Artifact_, Json
from subbyte.data.samples import batches, image_folder, subset
from subbyte.errors import InputError
from subbyte.exporters import EXPORTERS, Exporter, exporter_for
from subbyte.exporters.ranges import observe_ranges
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.passes.dequantize import dequantize_graph
from subbyte.system.units import size_text
from subbyte.system.whole_file import write_whole


def export(
    artifact: Artifact_,
    output: Annotated[Path, typer.Option(help="The file to write: .onnx, .qonnx.onnx or .tflite.")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(EXPORTERS),
            help="Default: as the file ends; .onnx is onnx for float32 networks and qdq for all others.",
        ),
    ] = None,
    real: Annotated[
        bool, typer.Option("--float", help="The float32 network that the quantized weights stand for.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images of an input.")] = 1,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images, from which qdq and tflite take grids that the network lacks: "
            "of sums before a residual, and (tflite) of float32 outputs."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Use at most this many of them.")] = 64,
    fused_residuals: Annotated[
        bool,
        typer.Option(
            "--fused-residuals",
            help="qdq: round a sum and its residual once, as subbyte does; ONNX Runtime computes such layers "
            "in float32.",
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="qdq: round residuals and gates of squeeze-and-excitation as subbyte does; ONNX Runtime "
            "then computes the same codes, these layers in float32.",
        ),
    ] = False,
    int4: Annotated[
        bool,
        typer.Option(
            "--int4",
            help="qdq: weights of 2 to 4 bits without a code book as INT4; in float32 in ONNX Runtime.",
        ),
    ] = False,
    integer_io: Annotated[
        bool, typer.Option("--integer-io", help="tflite: int8 codes as input and outputs, for accelerators.")
    ] = False,
    json: Json = False,
) -> None:
    """Write an artifact as a file of another runtime: ONNX (QDQ), QONNX or TensorFlow Lite.

    Prints in which numbers each layer is asked for, and in which the target computes it.
    """
    loaded = load(artifact)
    graph = dequantize_graph(loaded.graph) if real else loaded.graph
    row = _row(graph, output, format)
    check_output("--output", output, output.suffix, [artifact])
    flags = {"fused_residuals": fused_residuals, "exact": exact, "int4": int4, "integer_io": integer_io}
    options: dict[str, Any] = {name: True for name, given in flags.items() if given}
    for name in options.keys() - set(row.options):
        raise InputError(f"the format {row.name} has no --{name.replace('_', '-')}")
    if calibration is not None:
        if "ranges" not in row.options:
            raise InputError(f"the format {row.name} takes nothing from --calibration")
        options["ranges"] = _ranges(loaded, graph, calibration, images)
    data = row.export(graph, batch=batch, **options)
    rows = _rows(graph, row.executed(graph, data))
    write_whole(output, [data])
    if json:
        show_json({"file": str(output), "format": row.name, "bytes": len(data), "layers": rows})
        return
    show(_table(rows))
    say(f"{output}: {row.what}, {size_text(len(data))}")


def _row(graph: Graph, output: Path, format: str | None) -> Exporter:
    """The exporter that is meant. InputError if there is none, or for the suffix of another one."""
    if format is None:
        return exporter_for(graph, output)
    if format not in EXPORTERS:
        raise InputError(f"unknown format {format!r}; known: {', '.join(EXPORTERS)}")
    row = EXPORTERS[format]
    if not output.name.endswith(row.suffix):
        raise InputError(f"--output {output} must end in {row.suffix}, for the format {row.name}")
    return row


def _ranges(loaded: Artifact, graph: Graph, folder: Path, count: int) -> Any:
    samples = subset(image_folder(folder), count)
    with progress("ranges", len(samples)) as advance:
        return observe_ranges(graph, batches(samples, loaded.preprocessing, progress=advance))


def _rows(graph: Graph, executed: dict[str, str]) -> list[dict[str, str]]:
    return [
        {
            "name": node.name,
            "op": node.op,
            "weights": str(weights_of(node) or ""),
            "reads": _numbers(graph, node.inputs[0]),
            "makes": _numbers(graph, node.output),
            "executed": executed[node.name],
        }
        for node in graph.nodes
    ]


def _numbers(graph: Graph, name: str) -> str:
    q = graph.value(name).q
    return "fp32" if q is None else str(q.format)


def _table(rows: list[dict[str, str]]) -> Table:
    """What is computed in float32 though it reads codes is red."""
    table = Table("layer", "operation", "weights", "reads", "makes", "target executes", box=None)
    for row in rows:
        falls_back = row["reads"] != "fp32" and "float32" in row["executed"] and row["op"] != "dequantize"
        executed = styled(row["executed"], "red") if falls_back else row["executed"]
        table.add_row(row["name"], row["op"], row["weights"], row["reads"], row["makes"], executed)
    return table

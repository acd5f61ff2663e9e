"""`subbyte sensitivity`: which layers tolerate low bit-widths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from subbyte.cli import options
from subbyte.cli.checks import check_output
from subbyte.cli.console import printable, say, show, show_json, stages
from subbyte.cli.source import load_model
from subbyte.data.samples import batches, image_folder, subset, with_resize
from subbyte.importers.table import is_quantized
from subbyte.system.units import percent

if TYPE_CHECKING:
    from subbyte.analysis.table import Sensitivity, Summary
    from subbyte.quant import Format

TITLES = {"weights": "Weights of fewer bits", "activations": "Activations of fewer bits"}


@options.spread
def sensitivity(
    model: options.Model,
    calibration: Annotated[
        Path, typer.Option(help="Folder of images to calibrate and to measure on; labels are not used.")
    ],
    output: Annotated[Path, typer.Option(help="The .json file to write; an interrupted run continues it.")],
    *,
    weights: options.Weights = None,
    task: options.TaskName = None,
    recipe: Annotated[
        str, typer.Option(help="Ranges and code books are those of this recipe; its widths do not count.")
    ] = "w4a8",
    images: Annotated[int, typer.Option(min=1, help="Use at most this many of them.")] = 128,
    resize: options.Fit = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of images.")] = 0,
    weight_bits: Annotated[
        str,
        typer.Option(
            help="Bits or formats to try, comma-separated, like 8,int4+2:4 (docs/sparsity.md); empty: none. "
            "fp16 and fp32: the layer stays in floating point."
        ),
    ] = "8,4,3,2",
    activation_bits: Annotated[
        str, typer.Option(help="Bits or formats to try, comma-separated; empty: none.")
    ] = "8,4,3,2",
    html: Annotated[
        Path | None, typer.Option(help="The heat maps; default: beside the output, as .html.")
    ] = None,
    threads: options.Threads = 1,
    own_input: options.OwnInput,
    json: options.Json = False,
) -> None:
    """Bring each layer's weights and activations alone to fewer bits, and measure the degradation.

    The degradation is the KL divergence of the class probabilities from those of float32 (of other tasks the
    square error of the outputs), beyond that of 8 bits everywhere; beside it stands the signal-to-noise ratio
    behind the layer's block.
    """
    from subbyte.analysis.table import parse_formats
    from subbyte.recipes import load_recipe

    formats = parse_formats("weights", weight_bits), parse_formats("activations", activation_bits)
    chosen, page = load_recipe(recipe), html or output.with_suffix(".html")
    inputs = (model.rpartition(":")[0] or None, recipe, weights)
    check_output("--output", output, ".json", inputs)
    check_output("--html", page, ".html", inputs)
    samples = subset(image_folder(calibration), images, seed)
    loaded = load_model(model, weights, own_input)
    if is_quantized(loaded.graph):
        from subbyte.compress.quantized import dequantized

        loaded = dequantized(loaded)  # as compression by a recipe does
    arrays = list(batches(samples, with_resize(loaded.preprocessing, resize)))
    from subbyte.analysis.sensitivity import sensitivity as analyse
    from subbyte.quantize.variants import Variants
    from subbyte.report.heatmap_page import render_heatmaps
    from subbyte.system.text_file import write_text

    with stages(f"{model}, {len(samples)} images") as stage:
        table = analyse(
            Variants(loaded.graph, chosen),
            np.concatenate(arrays),
            model=printable(model),
            weights=formats[0],
            activations=formats[1],
            output=output,
            threads=threads,
            progress=stage,
            task=task,
        )
    write_text(page, render_heatmaps(table.maps(), f"{model}: sensitivity to fewer bits"))
    if json:
        show_json(table.model_dump(mode="json"))
        return
    say(_head(table))
    for kind in TITLES:
        for by in ("component", "stage"):
            show("", _table(table, kind, by))
    say("")
    say(f"{output}, {page}")


def _head(table: Sensitivity) -> str:
    base = table.base
    return (
        f"{table.model}, {table.images} images. 8 bits everywhere: {base.loss_text}, "
        f"agreement {percent(base.agreement)}"
        + ("" if base.kl is None else f", logits' error {base.mse:.4f} of their variance")
    )


def _table(table: Sensitivity, kind: str, by: str) -> Table:
    from subbyte.analysis.table import EIGHT_BITS

    groups = table.grouped(kind, by)  # type: ignore[arg-type]
    loss = "KL" if table.base.kl is not None else "error"
    found = dict.fromkeys(f for group in groups for f in group.kl if f != EIGHT_BITS[kind])  # type: ignore[index]
    formats = sorted(found, key=lambda format: -format.width)
    result = Table(by, "layers", "numbers", box=None, title=TITLES[kind], title_justify="left")
    for heading in (loss, "worst", "dB"):
        for format in formats:
            result.add_column(f"{heading}, {format.words}", justify="right")
    for group in groups:
        result.add_row(group.name, str(group.layers), str(group.elements), *_cells(group, formats))
    result.caption = (
        f"{loss}: added by one layer alone, mean of the layers (below 0: removed); worst: the most of one. "
        "dB: signal over noise behind the layer's block, mean."
    )
    result.caption_justify = "left"
    return result


def _cells(group: Summary, formats: list[Format]) -> list[str]:
    def cell(found: Mapping[Format, float], form: str) -> list[str]:
        return [format(found[one], form) if one in found else "" for one in formats]

    return [*cell(group.kl, ".4f"), *cell(group.worst, ".4f"), *cell(group.sqnr, ".1f")]

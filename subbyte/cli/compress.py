"""`subbyte compress`: from a torch model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subbyte.cli.checks import check_output, check_output_folder
from subbyte.cli.console import printable, say, stages
from subbyte.cli.options import (
    Calibration,
    Channels,
    CropFraction,
    CropMode,
    Fit,
    InputSize,
    Interpolation,
    Mean,
    Model,
    Rescale,
    Seed,
    Std,
    TaskName,
    Traceback,
    Weights,
)
from subbyte.cli.source import OwnInput, load_model
from subbyte.data.classes import read_classes
from subbyte.data.samples import Sample, batches, image_folder, subset, with_resize
from subbyte.errors import InputError
from subbyte.report.units import size_text

if TYPE_CHECKING:
    from subbyte.artifact import Artifact

BUDGET = "Widths are chosen per layer: "


def compress(
    model: Model,
    recipe: Annotated[str, typer.Option(help="A name (see `subbyte recipes`) or a TOML file.")],
    output: Annotated[Path, typer.Option(help="The .subbyte file to write.")],
    weights: Weights = None,
    calibration: Calibration = None,
    images: Annotated[int, typer.Option(min=1, help="Use at most this many of them.")] = 256,
    classes: Annotated[Path | None, typer.Option(help="Text file of class names, one per line.")] = None,
    resize: Fit = None,
    task: TaskName = None,
    seed: Seed = None,
    threads: Annotated[
        int,
        typer.Option(
            min=1, help="CPU threads of calibration and training; another number rounds a little differently."
        ),
    ] = 1,
    input_size: InputSize = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    rescale: Rescale = True,
    interpolation: Interpolation = None,
    crop_fraction: CropFraction = None,
    crop_mode: CropMode = None,
    size: Annotated[
        str | None, typer.Option(help=BUDGET + "the file has at most so many bytes, like 3.5MB.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help=BUDGET + "an image takes at most so long on this machine, like 3ms.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help=BUDGET + "activations take at most so many bytes, like 1MB.")
    ] = None,
    drop: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help=BUDGET + "at most so many points of the images held back get another class than in "
            "float32. Without --size, the smallest file that keeps this on a fifth of the other images.",
        ),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            help="What `subbyte sensitivity` wrote for this network, best on other images; default: "
            "analysed and cached."
        ),
    ] = None,
    activation_bits: Annotated[
        str, typer.Option(help="Widths to choose from for activations, comma-separated.")
    ] = "8",
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the state of training steps: the same command, interrupted, goes on from there."
        ),
    ] = None,
    write_recipe: Annotated[
        Path | None, typer.Option(help="Write the recipe with the chosen widths to this TOML file, too.")
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Compress a model by a recipe and write one artifact.

    With a budget (--size, --latency, --memory, --drop) the recipe's widths do not count: each layer
    gets its own, so that the budget is kept at the least degradation. Everything else in it does. Every fifth
    image (of 10 or more) is then held back: nothing is calibrated, analysed, chosen or trained on it, and
    agreement and KL are those of these images.
    """
    from subbyte.allocate.budget import Budget, parse_bytes, parse_milliseconds
    from subbyte.analysis.table import check_widths, read_sensitivity
    from subbyte.data.held_back import held_back
    from subbyte.recipes import load_recipe

    chosen = load_recipe(recipe)
    names = None if classes is None else read_classes(classes)
    budget = Budget(
        None if size is None else parse_bytes("--size", size),
        None if latency is None else parse_milliseconds("--latency", latency),
        None if memory is None else parse_bytes("--memory", memory),
        drop,
    )
    if budget.given and calibration is None:
        raise InputError("a budget needs --calibration, images to measure the degradation of widths on")
    for option, value in (("--sensitivity", sensitivity), ("--write-recipe", write_recipe)):
        if value is not None and not budget.given:
            raise InputError(f"{option} needs a budget: --size, --latency, --memory or --drop")
    check_widths("activations", activation_bits)
    table = None if sensitivity is None else read_sensitivity(sensitivity)
    inputs = (model.rpartition(":")[0] or None, recipe, weights, classes, sensitivity)
    check_output("--output", output, ".subbyte", inputs)
    if write_recipe is not None:
        check_output("--write-recipe", write_recipe, ".toml", inputs)
    if work is not None:
        check_output_folder("--work", work)
    samples = [] if calibration is None else subset(image_folder(calibration), images, seed or 0)
    held: list[Sample] = []
    if budget.given:
        samples, held = held_back(samples)
    given = OwnInput(input_size, channels, mean, std, rescale, interpolation, crop_fraction, crop_mode)
    loaded = load_model(model, weights, given)
    preprocessing = with_resize(loaded.preprocessing, resize)
    stream = batches(samples, preprocessing)
    provenance: dict[str, Any] = {
        "model": printable(model),
        "weights": loaded.provenance,
        "calibration": _source(calibration, samples),
    }
    from subbyte import compress_model, save

    def made_by(recipe: Any, images: Any) -> Artifact:
        with stages(f"compressing {model} to {recipe.name}") as stage:
            return compress_model(
                loaded.module,
                recipe,
                images,
                preprocessing=loaded.preprocessing,
                classes=names,
                provenance=provenance,
                seed=seed,
                progress=stage,
                work=work,
                threads=threads,
                task=task,
            )

    if not budget.given:
        artifact = made_by(chosen, stream)
        save(output, artifact)
        say(f"{output}: {model} as {chosen.name}, {size_text(output.stat().st_size)}")
        return
    from subbyte.cli.allocation import Request, allocated, checked

    request = Request(
        model,
        loaded,
        chosen,
        budget,
        list(stream),
        list(batches(held, preprocessing)),
        names,
        provenance,
        seed,
        threads,
        table,
        activation_bits,
        task,
    )
    plan = allocated(request)
    artifact = checked(request, plan, made_by(plan.recipe, request.images))
    save(output, artifact)
    if write_recipe is not None:
        from subbyte.allocate.recipe import to_toml
        from subbyte.system.text_file import write_text

        write_text(write_recipe, to_toml(plan.recipe))
    say(f"{output}: {model} as {plan.recipe.name}, {size_text(output.stat().st_size)}")


def _source(folder: Path | None, samples: list[Sample]) -> str:
    return "none" if folder is None else f"{len(samples)} images of {printable(folder.name)}"

"""`subbyte compress`: from a model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.allocation import parse_budget, show_report
from subbyte.cli.checks import check_output, check_output_folder
from subbyte.cli.console import printable, say, stages
from subbyte.cli.options import (
    ActivationBits,
    Analysis,
    Calibration,
    Channels,
    Classes,
    CropFraction,
    CropMode,
    Drop,
    Fit,
    Images,
    InputSize,
    Interpolation,
    Latency,
    Mean,
    Memory,
    Model,
    Recipe,
    Rescale,
    Seed,
    Size,
    Std,
    Target,
    TaskName,
    TorchThreads,
    Traceback,
    Weights,
    Work,
    WriteRecipe,
)
from subbyte.cli.source import OwnInput, load_model
from subbyte.data.classes import read_classes
from subbyte.data.held_back import held_back
from subbyte.data.samples import batches, image_folder, subset, with_resize
from subbyte.errors import InputError
from subbyte.system.units import size_text


def compress(
    model: Model,
    recipe: Recipe,
    output: Annotated[Path, typer.Option(help="The .subbyte file to write.")],
    weights: Weights = None,
    calibration: Calibration = None,
    images: Images = 256,
    classes: Classes = None,
    resize: Fit = None,
    task: TaskName = None,
    seed: Seed = None,
    threads: TorchThreads = 1,
    input_size: InputSize = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    rescale: Rescale = True,
    interpolation: Interpolation = None,
    crop_fraction: CropFraction = None,
    crop_mode: CropMode = None,
    size: Size = None,
    latency: Latency = None,
    memory: Memory = None,
    drop: Drop = None,
    sensitivity: Analysis = None,
    activation_bits: ActivationBits = "8",
    target: Target = "host",
    work: Work = None,
    write_recipe: WriteRecipe = None,
    traceback: Traceback = False,
) -> None:
    """Compress a model by a recipe and write one artifact.

    With a budget (--size, --latency, --memory, --drop) the recipe's bit-widths do not count: each layer
    gets its own, so that the budget is kept at the least degradation. Everything else in it does. Every fifth
    image (of 10 or more) is then held back: nothing is calibrated, analysed, chosen or trained on it, and
    agreement and KL are those of these images.
    """
    from subbyte.analysis.table import parse_formats, read_sensitivity
    from subbyte.device import find_target
    from subbyte.recipes import load_recipe

    chosen = load_recipe(recipe)
    names = None if classes is None else read_classes(classes)
    budget = parse_budget(size, latency, memory, drop)
    if budget.given and calibration is None:
        raise InputError("a budget needs --calibration, images to measure the degradation of bit-widths on")
    for option, value in (("--sensitivity", sensitivity), ("--write-recipe", write_recipe)):
        if value is not None and not budget.given:
            raise InputError(f"{option} needs a budget: --size, --latency, --memory or --drop")
    activations = parse_formats("activations", activation_bits)
    find_target(target)
    table = None if sensitivity is None else read_sensitivity(sensitivity)
    inputs = (model, model.rpartition(":")[0] or None, recipe, weights, classes, sensitivity)
    check_output("--output", output, ".subbyte", inputs)
    if write_recipe is not None:
        check_output("--write-recipe", write_recipe, ".toml", inputs)
    if work is not None:
        check_output_folder("--work", work)
    samples = [] if calibration is None else subset(image_folder(calibration), images, seed or 0)
    used = held_back(samples)[0] if budget.given else samples
    origin = "none" if calibration is None else f"{len(used)} images of {printable(calibration.name)}"
    given = OwnInput(input_size, channels, mean, std, rescale, interpolation, crop_fraction, crop_mode)
    loaded = load_model(model, weights, given)
    from subbyte.artifact import save
    from subbyte.compress.budgeted import Report
    from subbyte.compress.model import compress_model

    reports: list[Report] = []
    with stages(f"compressing {model} to {chosen.name}") as stage:
        artifact = compress_model(
            loaded,
            chosen,
            batches(samples, with_resize(loaded.preprocessing, resize)),
            classes=names,
            provenance={"calibration": origin},
            seed=seed,
            progress=stage,
            work=work,
            threads=threads,
            task=task,
            budget=budget,
            target=target,
            sensitivity=table,
            activations=activations,
            report=reports.append,
        )
    save(output, artifact)
    for report in reports:
        show_report(report, write_recipe)
    say(f"{output}: {model} as {artifact.recipe['name']}, {size_text(output.stat().st_size)}")

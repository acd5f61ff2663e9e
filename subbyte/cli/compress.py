"""`subbyte compress`: from a model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli import options
from subbyte.cli.allocation import parse_budget, show_rate, show_report
from subbyte.cli.app import UsageError
from subbyte.cli.checks import check_output, check_output_folder
from subbyte.cli.console import printable, say, stages
from subbyte.cli.source import load_model, parse_size
from subbyte.cli.trained_on import labels_of, trained_on
from subbyte.data.classes import read_classes
from subbyte.data.held_back import held_back
from subbyte.data.samples import batches, with_resize
from subbyte.errors import InputError
from subbyte.importers import importer_of
from subbyte.importers.resolution import at_resolution
from subbyte.system.units import size_text


@options.spread
def compress(
    model: options.Model,
    output: Annotated[Path, typer.Option(help="The .subbyte file to write.")],
    *,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A name (see `subbyte recipes`) or a TOML file. Without: a file that is quantized already "
            "keeps its quantization."
        ),
    ] = None,
    weights: options.Weights = None,
    calibration: options.Calibration = None,
    images: options.Images = 256,
    classes: options.Classes = None,
    resize: options.Fit = None,
    task: options.TaskName = None,
    resolution: options.Resolution = None,
    seed: options.Seed = None,
    threads: options.TorchThreads = 1,
    own_input: options.OwnInput,
    size: options.Size = None,
    latency: options.Latency = None,
    energy: options.Energy = None,
    memory: options.Memory = None,
    drop: options.Drop = None,
    mean_activation_bits: options.MeanActivationBits = None,
    sensitivity: options.Analysis = None,
    activation_bits: options.ActivationBits = None,
    float_layers: options.FloatLayers = "",
    patterns: options.Patterns = "",
    target: options.Target = "host",
    start: options.Start = None,
    work: options.Work = None,
    log: options.Log = None,
    tensorboard: options.TensorBoard = False,
    write_recipe: options.WriteRecipe = None,
    traceback: options.Traceback = False,
) -> None:
    """Compress a model by a recipe and write one artifact.

    With a budget (--size, --latency, --energy, --memory, --drop, --mean-activation-bits) the recipe's
    bit-widths do not count: each layer gets its own, so that the budget is kept at the least degradation. So
    does what layers make, with --activation-bits or --mean-activation-bits, and with --float-layers a layer
    may stay in floating point; with --patterns weights may be sparse. Everything else in the recipe does
    count. Every fifth image (of 10 or more) is then held back: nothing is calibrated, analysed, chosen or
    trained on it, and agreement and KL are those of these images. Recipes like compact keep their bit-widths;
    with --size their weights get as many bits in the file as it leaves room for.
    """
    from subbyte.analysis.table import parse_floats, parse_formats, parse_patterns, read_sensitivity
    from subbyte.device import find_target
    from subbyte.recipes import load_recipe

    if recipe is None and not importer_of(model).quantized:
        raise UsageError("Missing option '--recipe'.")
    chosen = None if recipe is None else load_recipe(recipe)
    names = None if classes is None else read_classes(classes)
    budget = parse_budget(size, latency, memory, drop, mean_activation_bits, energy)
    if chosen is None and (budget.given or calibration is not None):
        raise InputError("calibration images and budgets need --recipe; without, the file stays as it is")
    if budget.given and calibration is None:
        raise InputError("a budget needs --calibration, images to measure the degradation of bit-widths on")
    needing = {
        "--sensitivity": sensitivity,
        "--write-recipe": write_recipe,
        "--float-layers": float_layers or None,
        "--patterns": patterns or None,
    }
    for option, value in needing.items():
        if value is not None and not budget.given:
            raise InputError(
                f"{option} needs a budget: --size, --latency, --energy, --memory, --drop or "
                "--mean-activation-bits"
            )
    every = "8" if mean_activation_bits is None else "8,4,3,2"
    activations = parse_formats("activations", every if activation_bits is None else activation_bits)
    floats = parse_floats("--float-layers", float_layers)
    sparse = parse_patterns("--patterns", patterns)
    find_target(target)
    table = None if sensitivity is None else read_sensitivity(sensitivity)
    inputs = (model, model.rpartition(":")[0] or None, recipe, weights, classes, sensitivity, start)
    check_output("--output", output, ".subbyte", inputs)
    if write_recipe is not None:
        check_output("--write-recipe", write_recipe, ".toml", inputs)
    if work is not None:
        check_output_folder("--work", work)
    if log is not None:
        check_output_folder("--log", log)
    if tensorboard and log is None and work is None:
        raise InputError("--tensorboard needs --log, or --work, a folder to write to")
    asked = [] if chosen is None else [chosen]
    samples = [] if calibration is None else trained_on(calibration, images, seed or 0, asked, names)
    used = held_back(samples)[0] if budget.given else samples
    origin = "none" if calibration is None else f"{len(used)} images of {printable(calibration.name)}"
    loaded = load_model(model, weights, own_input)
    if resolution is not None:
        loaded = at_resolution(loaded, *parse_size(resolution, "--resolution"))
    from subbyte.artifact import save
    from subbyte.compress.budgeted import Report
    from subbyte.compress.model import compress_model
    from subbyte.ir.shares import shares
    from subbyte.steps.log import logged

    reports: list[Report] = []
    with (
        stages(f"compressing {model} to {'what it is' if chosen is None else chosen.name}") as stage,
        logged(stage, log or work, tensorboard) as told,
    ):
        artifact = compress_model(
            loaded,
            chosen,
            batches(samples, with_resize(loaded.preprocessing, resize)),
            labels=labels_of(samples),
            classes=names,
            provenance={"calibration": origin},
            seed=seed,
            progress=told,
            work=work,
            threads=threads,
            task=task,
            start=start,
            budget=budget,
            target=target,
            sensitivity=table,
            activations=activations,
            float_layers=floats,
            patterns=sparse,
            report=reports.append,
        )
    save(output, artifact)
    for report in reports:
        show_report(report, write_recipe)
    if budget.given and not reports:
        show_rate(artifact, write_recipe)
    say(str(shares(artifact.graph)))
    name = artifact.recipe.get("name", "it is")
    say(f"{output}: {model} as {name}, {size_text(output.stat().st_size)}")
    if "dequantized" in artifact.provenance:
        say(f"Not the file's own quantization: {artifact.provenance['dequantized']}")

"""`subbyte compress`: from a torch model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from subbyte.cli.console import megabytes, show, stages
from subbyte.cli.source import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    is_own,
    load_named,
    load_own,
    parse_size,
    parse_triple,
)
from subbyte.errors import InputError
from subbyte.evaluate.classes import read_classes
from subbyte.evaluate.data import Sample, batches, picture_folder, subset, with_resize
from subbyte.preprocess import Preprocessing

OWN_OPTIONS = "For file.py:callable only. "


def compress(
    model: Annotated[str, typer.Argument(help="A name (see `subbyte models`), or path/to/file.py:callable.")],
    recipe: Annotated[str, typer.Option(help="A name (see `subbyte recipes`) or a TOML file.")],
    output: Annotated[Path, typer.Option(help="The .subbyte file to write.")],
    weights: Annotated[
        str | None,
        typer.Option(help="A checkpoint file, hub, hub:org/repo, package, random or random:SEED."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of pictures to calibrate on; labels are not used.")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Use at most this many of them.")] = 256,
    classes: Annotated[Path | None, typer.Option(help="Text file of class names, one per line.")] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="crop|squash", help="How calibration pictures reach the input size; default: as in tests."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random; default: the recipe's.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help=OWN_OPTIONS + "Pixels: 224 or HEIGHTxWIDTH.")] = None,
    mean: Annotated[
        str | None, typer.Option(help=OWN_OPTIONS + "Per channel, of pixel / 255; default ImageNet's.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help=OWN_OPTIONS + "Per channel, of pixel / 255; default ImageNet's.")
    ] = None,
) -> None:
    """Compress a model by a recipe and write one artifact."""
    from subbyte.recipes import load_recipe

    chosen = load_recipe(recipe)
    names = None if classes is None else read_classes(classes)
    samples = [] if calibration is None else subset(picture_folder(calibration), pictures, seed or 0)
    if not output.parent.is_dir():
        raise InputError(f"{output.parent} is not a folder")
    own = _own_preprocessing(model, input_size, mean, std)
    loaded = load_named(model, weights) if own is None else load_own(model, weights, own)
    stream = batches(samples, with_resize(loaded.preprocessing, resize))
    provenance = {"model": model, "weights": loaded.provenance, "calibration": _source(calibration, samples)}
    from subbyte import compress_model, save

    with stages(f"compressing {model} to {chosen.name}") as stage:
        artifact = compress_model(
            loaded.module,
            chosen,
            stream,
            preprocessing=loaded.preprocessing,
            classes=names,
            provenance=provenance,
            seed=seed,
            progress=stage,
        )
    save(output, artifact)
    show(f"{output}: {model} as {chosen.name}, {megabytes(output.stat().st_size)}")


def _own_preprocessing(
    model: str, input_size: str | None, mean: str | None, std: str | None
) -> Preprocessing | None:
    """The input of a user's own module, None for a model of the catalog, whose weights say it."""
    if not is_own(model):
        if input_size or mean or std:
            raise InputError("--input-size, --mean and --std are for a module of your own, file.py:callable")
        return None
    if input_size is None:
        raise InputError(f"{model} needs --input-size, such as 224")
    height, width = parse_size(input_size)
    return Preprocessing(
        height,
        width,
        parse_triple("--mean", mean) if mean else IMAGENET_MEAN,
        parse_triple("--std", std) if std else IMAGENET_STD,
    )


def _source(folder: Path | None, samples: list[Sample]) -> str:
    return "none" if folder is None else f"{len(samples)} pictures of {folder.name}"

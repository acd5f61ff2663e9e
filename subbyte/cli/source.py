"""MODEL on the command line, and the options that say what a module of one's own takes."""

from __future__ import annotations

import re

from subbyte.cli.options import OwnInput
from subbyte.errors import InputError
from subbyte.importers import Imported, import_model, importer_of
from subbyte.importers.table import image_input
from subbyte.preprocess import CHANNELS, PerChannel, Preprocessing

IMAGENET_MEAN: PerChannel = (0.485, 0.456, 0.406)
IMAGENET_STD: PerChannel = (0.229, 0.224, 0.225)


def load_model(model: str, weights: str | None, given: OwnInput) -> Imported:
    """MODEL with its weights. InputError for anything that does not fit together."""
    return import_model(model, weights=weights, preprocessing=own_preprocessing(model, given))


def own_preprocessing(model: str, given: OwnInput) -> Preprocessing | None:
    """The input of a user's own module, None for a model that says it itself."""
    if not importer_of(model).own_input:
        if given != OwnInput():
            raise InputError("the options of the input, like --input-size, are for a module of your own")
        return None
    told = image_input(model)
    if given.input_size is None and told is None:
        raise InputError(f"{model} needs --input-size, such as 224")
    size = told.shape[:2] if given.input_size is None and told else parse_size(str(given.input_size))
    channels = (told.shape[2] if told else 3) if given.channels is None else given.channels
    if channels not in CHANNELS:
        raise InputError(f"--channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {channels}")
    imagenet = channels == 3 and given.rescale
    mean = IMAGENET_MEAN if imagenet else (0.0,) * channels
    std = IMAGENET_STD if imagenet else (1.0,) * channels
    own = given.mean is None and given.std is None and given.rescale
    if own and told is not None and told.mean is not None and told.std is not None:
        mean, std = told.mean, told.std
    if given.mean is not None:
        mean = parse_numbers("--mean", given.mean, channels)
    if given.std is not None:
        std = parse_numbers("--std", given.std, channels)
    if not given.rescale:  # (pixel - mean) / std in units of pixel / 255
        mean, std = tuple(x / 255 for x in mean), tuple(x / 255 for x in std)
    squash = given.crop_mode == "squash"
    return Preprocessing(
        *size,
        mean,
        std,
        given.interpolation or "bicubic",
        (1.0 if squash else 0.875) if given.crop_fraction is None else given.crop_fraction,
        given.crop_mode or "center",
    )


def parse_size(text: str, what: str = "the input size") -> tuple[int, int]:
    """ "224" or "480x640" (height x width) in pixels."""
    parts = text.split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"[0-9]{1,9}", part) and int(part) > 0 for part in parts):
        raise InputError(f"{what} must be like 224 or 480x640 (height x width), got {text!r}")
    return int(parts[0]), int(parts[-1])


def parse_numbers(option: str, text: str, channels: int) -> PerChannel:
    """ "0.5,0.5,0.5", one number per channel."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != channels:
        example = ",".join(["0.5"] * channels)
        raise InputError(f"{option} must be {CHANNELS[channels]} like {example}, got {text!r}")
    return numbers

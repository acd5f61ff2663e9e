"""MODEL on the command line: a name of the catalog, or `file.py:callable`."""

from __future__ import annotations

import importlib.util
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from subbyte.cli.console import printable
from subbyte.errors import InputError
from subbyte.preprocess import CHANNELS, PerChannel, Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from subbyte.models import LoadedModel

IMAGENET_MEAN: PerChannel = (0.485, 0.456, 0.406)
IMAGENET_STD: PerChannel = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OwnInput:
    """The options that say what a user's own module takes; None (`rescale`: True) where not given."""

    input_size: str | None = None
    channels: int | None = None
    mean: str | None = None
    std: str | None = None
    rescale: bool = True
    interpolation: str | None = None
    crop_fraction: float | None = None
    crop_mode: str | None = None


def load_model(model: str, weights: str | None, given: OwnInput) -> LoadedModel:
    """MODEL with its weights. InputError for anything that does not fit together."""
    own = own_preprocessing(model, given)
    return load_named(model, weights) if own is None else load_own(model, weights, own)


def own_preprocessing(model: str, given: OwnInput) -> Preprocessing | None:
    """The input of a user's own module, None for a model of the catalog, whose weights say it."""
    if not is_own(model):
        if given != OwnInput():
            raise InputError("the options of the input, like --input-size, are for a module of your own")
        return None
    if given.input_size is None:
        raise InputError(f"{model} needs --input-size, such as 224")
    channels = 3 if given.channels is None else given.channels
    if channels not in CHANNELS:
        raise InputError(f"--channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got {channels}")
    imagenet = channels == 3 and given.rescale
    mean = IMAGENET_MEAN if imagenet else (0.0,) * channels
    std = IMAGENET_STD if imagenet else (1.0,) * channels
    if given.mean is not None:
        mean = parse_numbers("--mean", given.mean, channels)
    if given.std is not None:
        std = parse_numbers("--std", given.std, channels)
    if not given.rescale:  # (pixel - mean) / std in units of pixel / 255
        mean, std = tuple(x / 255 for x in mean), tuple(x / 255 for x in std)
    squash = given.crop_mode == "squash"
    return Preprocessing(
        *parse_size(given.input_size),
        mean,
        std,
        given.interpolation or "bicubic",
        (1.0 if squash else 0.875) if given.crop_fraction is None else given.crop_fraction,
        given.crop_mode or "center",
    )


def load_named(name: str, weights: str | None) -> LoadedModel:
    """A network of the catalog. InputError for an unknown name or unusable or missing weights."""
    from subbyte import models

    if weights is None:
        models.preprocessing(name)  # an unknown name is the first thing to say
        raise InputError(f"{name} needs weights: --weights FILE, hub, package or random")
    return models.load(name, weights)


def load_own(source: str, weights: str | None, preprocessing: Preprocessing) -> LoadedModel:
    """The module that `callable()` of `file.py` returns, with weights from a file if given.

    Runs the user's file. Raises InputError: no such file or callable, it fails, or returns no module.
    """
    from subbyte.models import LoadedModel, checkpoint

    module = _build(source)
    provenance = {"source": "module", "callable": printable(source)}
    if weights is not None:
        path = Path(weights)
        checkpoint.fit(checkpoint.read(path), module, weights)
        provenance |= {"file": printable(path.name), "sha256": checkpoint.sha256(path)}
    return LoadedModel(module.eval(), preprocessing, provenance)


def is_own(source: str) -> bool:
    """Whether MODEL is `file.py:callable`."""
    return source.rpartition(":")[0].endswith(".py") or source.endswith(".py")


def _build(source: str) -> nn.Module:
    from torch import nn

    file, _, name = source.rpartition(":")
    path = Path(file)
    if not name or path.suffix != ".py":
        raise InputError(f"{source}: a module of your own is given as path/to/file.py:callable")
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    namespace = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(namespace)
        if not callable(getattr(namespace, name, None)):
            raise InputError(f"{path} defines no callable {name!r}")
        module = getattr(namespace, name)()
    except InputError:
        raise
    except Exception as error:
        where = _line_in(path, error)
        raise InputError(f"{source} failed{where} with {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{source} returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def _line_in(path: Path, error: BaseException) -> str:
    """ " in line N of it": where the user's file was when the error came up, innermost; or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f" in line {lines[-1]} of {path}" if lines else ""


def parse_size(text: str) -> tuple[int, int]:
    """ "224" or "480x640" (height x width) in pixels."""
    parts = text.split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"[0-9]{1,9}", part) and int(part) > 0 for part in parts):
        raise InputError(f"the input size must be like 224 or 480x640 (height x width), got {text!r}")
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

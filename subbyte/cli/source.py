"""MODEL on the command line: a name of the catalog, or `file.py:callable`."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing, Triple

if TYPE_CHECKING:
    from torch import nn

    from subbyte.models import LoadedModel

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


def load_model(
    model: str, weights: str | None, input_size: str | None, mean: str | None, std: str | None
) -> LoadedModel:
    """MODEL with its weights. InputError for anything that does not fit together."""
    own = own_preprocessing(model, input_size, mean, std)
    return load_named(model, weights) if own is None else load_own(model, weights, own)


def own_preprocessing(
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
    provenance = {"source": "module", "callable": source}
    if weights is not None:
        path = Path(weights)
        checkpoint.fit(checkpoint.read(path), module, weights)
        provenance |= {"file": path.name, "sha256": checkpoint.sha256(path)}
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
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"the input size must be like 224 or 480x640 (height x width), got {text!r}")
    return int(parts[0]), int(parts[-1])


def parse_triple(option: str, text: str) -> Triple:
    """ "0.5,0.5,0.5", one number per channel."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} must be three numbers like 0.5,0.5,0.5, got {text!r}") from None
    return red, green, blue

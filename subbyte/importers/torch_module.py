"""torch modules as networks: a given one, one that a user's file makes, and those of the catalog."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

import torch
from torch import nn

from subbyte import models
from subbyte.errors import InputError
from subbyte.execute.torch.steady import fixed_threads
from subbyte.importers.table import Imported
from subbyte.importers.torch_export import capture, capture_program
from subbyte.models import checkpoint
from subbyte.preprocess import Preprocessing
from subbyte.system.printable import printable
from subbyte.system.quiet import quiet


def from_module(source: nn.Module, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """A module that takes float32 [N, C, H, W] with the H, W, C of `preprocessing`; of unknown provenance."""
    assert preprocessing is not None
    with fixed_threads(1):
        return Imported(capture(source, preprocessing.shape), preprocessing)


def from_file(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """The module that `callable()` of `file.py` returns, with weights from a file if given.

    Runs the user's file. Raises InputError: no such file or callable, it fails, or returns no module.
    """
    module = built(source)
    origin = {"source": "module", "callable": printable(source)}
    if weights is not None:
        path = Path(weights)
        checkpoint.fit(checkpoint.read(path), module, weights)
        origin |= {"file": printable(path.name), "sha256": checkpoint.sha256(path)}
    found = from_module(module.eval(), None, preprocessing)
    return Imported(found.graph, found.preprocessing, {"model": printable(source), "weights": origin})


def from_archive(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """The program in a file of torch.export.save, as far to be trusted as torch.export.load trusts it.

    Raises InputError for a file that torch does not load, or a program that takes another input.
    """
    assert preprocessing is not None
    path = Path(source)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    with fixed_threads(1), quiet():
        try:
            program = torch.export.load(path)
        except Exception as error:  # whatever torch makes of a damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"torch.export.load cannot read {path}: {reason:.200}") from error
        graph = capture_program(program, preprocessing.shape)
    origin = {"source": "torch.export", "file": printable(path.name), "sha256": checkpoint.sha256(path)}
    return Imported(graph, preprocessing, {"model": printable(path.name), "weights": origin})


def from_catalog(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """A network of the catalog. InputError for an unknown name or unusable or missing weights."""
    if weights is None:
        models.preprocessing(source)  # an unknown name is the first thing to say
        raise InputError(f"{source} needs weights: a checkpoint file, hub, package or random")
    loaded = models.load(source, weights)
    found = from_module(loaded.module, None, loaded.preprocessing)
    provenance = {"model": printable(source), "weights": loaded.provenance}
    return Imported(found.graph, found.preprocessing, provenance)


def built(source: str) -> nn.Module:
    """What `callable()` of `path/to/file.py:callable` returns. Runs the user's file.

    Raises InputError: no such file or callable, it fails, or returns no module.
    """
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

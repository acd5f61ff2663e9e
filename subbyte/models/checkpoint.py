"""Read a checkpoint file as plain tensors and fit it to a module, without running any code in it.

`.safetensors` holds only tensors. `.pth`, `.pt` and `.bin` are pickles: they are read with
`weights_only=True`, which refuses everything but tensors and plain containers.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing
from subbyte.system.whole_file import write_whole

PICKLES = (".pth", ".pt", ".bin")
WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the state dict
INPUT = "subbyte.preprocessing"  # in a safetensors file's metadata: Preprocessing as JSON
SHOWN = 3  # names listed in an error before "and N more"

StateDict = dict[str, Tensor]


def read(path: Path) -> StateDict:
    """Names -> CPU tensors of a checkpoint file.

    Raises InputError if the file is missing, damaged, of another kind, or a pickle with more
    than tensors in it.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint file at {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLES:
        return _unwrap(_read_pickle(path), path)
    raise InputError(
        f"{path} is not a checkpoint this package reads; give a .safetensors or {' or '.join(PICKLES)} file."
    )


def write(path: Path, state: Mapping[str, Tensor], preprocessing: Preprocessing) -> None:
    """Writes a .safetensors file, whole or not at all, that says what input its network expects.

    Raises InputError if it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    described = {INPUT: json.dumps(preprocessing.to_json())}  # of several keys, the order would be random
    write_whole(path, [save(tensors, described)])


def preprocessing(path: Path) -> Preprocessing | None:
    """The input that a file written by `write` expects; None for any other checkpoint.

    Raises InputError if what the file says is no Preprocessing.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        text = (file.metadata() or {}).get(INPUT)
    if text is None:
        return None
    try:
        return Preprocessing.from_json(json.loads(text))
    except (ValueError, RecursionError):
        raise InputError(f"{path} says of its input what is not JSON; write it again.") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fit(state: Mapping[str, Tensor], module: nn.Module, origin: str) -> None:
    """Put `state` into `module` in the module's dtypes, replacing its tensors (they may be meta).

    Every parameter and buffer must be there with its shape; only batch norm's
    `num_batches_tracked`, which inference does not use, may be absent. Raises InputError that
    names `origin` and the first offending tensors.
    """
    expected = module.state_dict()
    _refuse("lacks", (k for k in expected if k not in state and not _is_counter(k)), origin)
    _refuse("has unexpected tensors", (k for k in state if k not in expected), origin)
    _refuse(
        "has tensors of the wrong shape",
        (
            f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
            for k, v in expected.items()
            if k in state and state[k].shape != v.shape
        ),
        origin,
    )
    values = {k: _value(k, v, state) for k, v in expected.items()}
    _refuse(
        "has values that are not finite in",
        (k for k, v in values.items() if not torch.isfinite(v).all()),
        origin,
    )
    module.load_state_dict(values, assign=True)


def in_order_of(state: Mapping[str, Tensor], names: Iterable[str], origin: str) -> StateDict:
    """`state` under other names: the n-th tensor gets the n-th name.

    The last component (weight, running_mean, ...) must agree; `fit` checks the shapes after.

    Raises InputError if their numbers or last components differ.
    """
    names = list(names)
    if len(names) != len(state):
        raise InputError(f"{origin} has {len(state)} tensors, but this model has {len(names)}.")
    pairs = list(zip(state, names, strict=True))
    _refuse(
        "does not follow this model's order at",
        (f"{a} for {b}" for a, b in pairs if a.rpartition(".")[2] != b.rpartition(".")[2]),
        origin,
    )
    return {new: state[old] for old, new in pairs}


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a valid safetensors file ({error}).") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was refused: it is damaged, or it holds Python objects beside tensors, which "
            "could run code when loaded; save model.state_dict() or a .safetensors file instead."
        ) from error
    except Exception as error:  # damaged bytes surface as nearly any exception type
        raise InputError(f"{path} is not a readable PyTorch checkpoint; it may be cut off.") from error


def _unwrap(content: Any, path: Path) -> StateDict:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no state dict (a mapping from names to tensors).")
    wrong = [str(k) for k, v in content.items() if not (isinstance(k, str) and _is_tensor(v))]
    _refuse("has entries that are not named tensors:", wrong, str(path))
    return {key.removeprefix("module."): value for key, value in content.items()}


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _value(name: str, like: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    absent = torch.zeros((), dtype=like.dtype)  # only a counter can be
    return state.get(name, absent).to(like.dtype)


def _refuse(what: str, items: Iterable[str], origin: str) -> None:
    found = list(items)
    if not found:
        return
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise InputError(f"{origin} {what} {', '.join(found[:SHOWN])}{more}.")

"""Checkpoints from the Hugging Face hub: the weights and the preprocessing of a timm repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def split(reference: str) -> tuple[str, str | None]:
    """Repository and revision (branch, tag or commit) of "org/repo" or "org/repo@revision"."""
    repo, _, revision = reference.partition("@")
    return repo, revision or None


def weights(repo: str, revision: str | None) -> Path:
    """Local path of the repository's weights, downloaded unless the hub's cache has them.

    Raises InputError if the repository has none, does not exist, or cannot be reached.
    """
    path = _download(repo, WEIGHTS, revision)
    if path is None:
        raise InputError(f"The hub repository {repo} holds no {WEIGHTS}; choose another one.")
    return path


def preprocessing(repo: str, revision: str | None, name: str) -> Preprocessing | None:
    """What the repository's config.json says about its input; None if it has no config.json.

    Raises InputError if the config is of another architecture than `name` (some networks have
    the same tensors and differ in padding only) or cannot be understood.
    """
    path = _download(repo, CONFIG, revision)
    if path is None:
        return None
    origin = f"The {CONFIG} of the hub repository {repo}"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        architecture = config["architecture"]
        found = _from_timm(config.get("pretrained_cfg", config))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{origin} is not a timm configuration; pass a local file.") from error
    if architecture != name:
        raise InputError(f"{origin} is of {architecture}; load it under that name, not {name}.")
    return found


def commit(path: Path) -> str:
    """The commit a cached file belongs to: the hub cache keeps files under snapshots/<commit>/."""
    return path.parent.name


def _from_timm(config: dict[str, Any]) -> Preprocessing:
    _, height, width = config.get("test_input_size") or config["input_size"]
    return Preprocessing(
        height,
        width,
        config["mean"],
        config["std"],
        config["interpolation"],
        config.get("test_crop_pct") or config["crop_pct"],
        config.get("crop_mode", "center"),
    )


def _download(repo: str, filename: str, revision: str | None) -> Path | None:
    """A file of a repository, or None if the repository is there and has no such file."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise InputError("Weights from the hub need another package: pip install huggingface_hub") from error
    try:
        return Path(hf_hub_download(repo, filename, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{filename} of the hub repository {repo} is not in the cache and the hub cannot be "
            "reached; connect, or download the file elsewhere and pass its path."
        ) from error
    except errors.EntryNotFoundError:
        return None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        wanted = f"{repo}@{revision}" if revision else repo
        raise InputError(
            f"The hub shows no repository {wanted}; check the name, or log in if it is private."
        ) from error
    except errors.HFValidationError as error:
        raise InputError(f"{repo!r} is not the name of a hub repository (org/repo).") from error
    except Exception as error:  # transport errors of several libraries end here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"Fetching {filename} of the hub repository {repo} failed: {reason}") from error

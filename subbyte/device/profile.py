"""Profiles: files of TOML that describe a device, those that come with the package and a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from subbyte.device.npu_profile import read_npu
from subbyte.device.roofline import read_roofline
from subbyte.device.target import Target
from subbyte.errors import InputError

#: What makes a device of a profile's tables and the name for errors, by its `kind`; without one it is a
#: roofline.
KINDS: dict[str, Callable[[Mapping[str, Any], str], Target]] = {
    "roofline": read_roofline,
    "npu": read_npu,
}
_FOLDER = "profiles"


def profiles() -> list[str]:
    """Names of the files in profiles/, sorted."""
    folder = resources.files("subbyte.device").joinpath(_FOLDER)
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def read_profile(name: str) -> Target:
    """The device of a file in profiles/, by its name without suffix."""
    path = resources.files("subbyte.device").joinpath(_FOLDER).joinpath(f"{name}.toml")
    return parse_profile(path.read_text("utf-8"), name)


def read_profile_file(path: Path) -> Target:
    """The device of a user's file. InputError if it cannot be read or is no profile."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text") from None
    return parse_profile(text, str(path))


def parse_profile(text: str, where: str) -> Target:
    """The device of a text, called `where` in errors. InputError for the first thing that is wrong."""
    from subbyte.system.toml import parse_toml  # not among what running an artifact needs

    try:
        found = parse_toml(text)
    except ValueError as error:
        raise InputError(f"{where} is not TOML: {error}") from None
    kind = found.get("kind", "roofline")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}: kind must be one of {', '.join(KINDS)}, not {kind!r:.80}")
    return KINDS[kind](found, where)

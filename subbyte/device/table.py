"""Every device that widths can be chosen for, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from subbyte.device.host import Host
from subbyte.device.profile import profiles, read_profile, read_profile_file
from subbyte.device.target import Target
from subbyte.errors import InputError

#: "host" is this machine, measured; the others are the files of profiles/, by their names.
TARGETS: dict[str, Callable[[], Target]] = {
    "host": Host,
    **{name: partial(read_profile, name) for name in profiles()},
}


def find_target(name: str) -> Target:
    """The device of that name, or of that file, a profile that ends in .toml. InputError if there is none."""
    if name.endswith(".toml"):
        return read_profile_file(Path(name))
    if name not in TARGETS:
        raise InputError(f"there is no device {name!r:.80}; known: {', '.join(TARGETS)}, or a profile.toml")
    return TARGETS[name]()

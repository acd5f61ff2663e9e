"""Every device that widths can be chosen for, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from subbyte.device.host import Host
from subbyte.device.roofline import profiles, read_profile
from subbyte.device.target import Target
from subbyte.errors import InputError

#: "host" is this machine, measured; the others are the files of profiles/, by their names.
TARGETS: dict[str, Callable[[], Target]] = {
    "host": Host,
    **{name: partial(read_profile, name) for name in profiles()},
}


def find_target(name: str) -> Target:
    """InputError if there is no device of that name."""
    if name not in TARGETS:
        raise InputError(f"there is no device {name!r:.80}; known: {', '.join(TARGETS)}")
    return TARGETS[name]()

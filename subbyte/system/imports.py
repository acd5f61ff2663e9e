"""Imports of optional packages: what comparisons with other engines need, and files of theirs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from subbyte.errors import InputError


def peer_module(name: str) -> ModuleType:
    """The module `name`. InputError that says how to install it if it is missing."""
    with _no_telemetry():
        return _module(name, "peers", "work with other engines and their files")


def extra_module(name: str, extra: str) -> ModuleType:
    """A module that an extra of pyproject.toml brings. InputError that says how to install it."""
    return _module(name, extra, "reading such a file")


def _module(name: str, extra: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(
            f"{what} needs the package {package!r} ({error}); install it with: pip install subbyte[{extra}]"
        ) from None


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF report their import to a statistics server unless these variables are set."""
    wanted = {"CI": "true", "NNCF_CI": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

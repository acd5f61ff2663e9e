"""requirements.lock has the versions of constraints.txt, each file by its hash: `make lock` writes it."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement

from tests.boundary.tree import ROOT

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins(name: str) -> dict[Requirement, int]:
    """The requirements of a file, each with the number of its hashes."""
    lines = (ROOT / name).read_text("utf-8").replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    return {Requirement(entry.partition("--hash")[0]): len(HASH.findall(entry)) for entry in entries}


def versions(name: str, python: str) -> dict[str, str]:
    """What the file pins for a version of Python, by normalized name."""
    found: dict[str, str] = {}
    for pin in pins(name):
        if pin.marker is None or pin.marker.evaluate(
            {"python_version": python, "python_full_version": python}
        ):
            key = re.sub(r"[-_.]+", "-", pin.name).lower()
            assert key not in found, f"{name} pins {key} twice for Python {python}"
            found[key] = str(pin.specifier).removeprefix("==")
    return found


def unlocked() -> set[str]:
    (line,) = re.findall(r"^UNLOCKED := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return set(line.split())


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_the_versions_of_the_constraints(python: str) -> None:
    wanted = versions("constraints.txt", python)
    assert versions("requirements.lock", python) == {k: v for k, v in wanted.items() if k not in unlocked()}


def test_everything_in_the_lock_has_hashes() -> None:
    assert all(pins("requirements.lock").values())

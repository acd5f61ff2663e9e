"""Imports go down the table of rooms, never in a circle, and need the third parties that the table says."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from tests.boundary.declared import BASE, EXTRA, installed
from tests.boundary.modules import MODULES
from tests.boundary.rooms import DOORS, ROOMS, rank, room_of

INSIDE = {name: module for name, module in MODULES.items() if name not in DOORS}


def test_every_package_is_a_room() -> None:
    assert {name.split(".")[1] for name in INSIDE} == {
        room.name
        for room in ROOMS
        if "." not in room.name and room.name != "_native"  # the engine's library
    }


@pytest.mark.parametrize("room", [room.name for room in ROOMS if "." not in room.name])
def test_imports_go_down(room: str) -> None:
    for name, module in INSIDE.items():
        if name.split(".")[1] == room:
            assert not module.internal & set(DOORS), f"{name} imports the package that imports it"
            higher = {other for other in module.internal if rank(other) > rank(name)}
            assert not higher, f"{name} imports from a higher room: {higher}"


def test_no_circles() -> None:
    """Of modules, in one room or through several."""
    graph = {name: module.internal for name, module in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def allowed(extras: tuple[str, ...]) -> set[str]:
    return BASE.union(*(EXTRA[extra] for extra in extras))


@pytest.mark.parametrize("name", INSIDE)
def test_third_parties_are_those_of_the_table(name: str) -> None:
    room, module = room_of(name), MODULES[name]
    assert module.at_once <= allowed(room.needs)
    assert module.third_parties <= allowed(room.needs + room.later)


@pytest.mark.parametrize("needs", sorted({room.needs for room in ROOMS}), ids=lambda n: "+".join(n) or "base")
def test_modules_load_with_what_their_room_needs(needs: tuple[str, ...]) -> None:
    """Nothing else can be imported there: no torch for what runs artifacts, nor for the command line."""
    names = [name for name in INSIDE if room_of(name).needs == needs]
    result = installed("".join(f"import {name}\n" for name in names), *needs)
    assert names
    assert result.returncode == 0, result.stderr


def test_where_torch_is_not_needed_it_cannot_be_imported() -> None:
    """The tests above would prove nothing in a Python that finds everything."""
    assert "torch is blocked here" in installed("import torch", "cli").stderr

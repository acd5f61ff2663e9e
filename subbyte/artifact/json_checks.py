"""What a JSON value has to be: checks that end at the first thing that is wrong, and name its place.

A check takes a value that `parse_json` made and its place in the text, like `graph.nodes.3`. It returns what
the value is read as, or raises ArtifactError. Lists and objects are bounded before their items are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn

from subbyte.errors import ArtifactError

Check = Callable[[Any, str], Any]
KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a real number",
    bool: "a boolean",
    type(None): "null",
}


def exactly(*kinds: type) -> Check:
    """A value of one of these types; `true` is not 1, and 1 is not 1.0."""

    def check(value: Any, place: str) -> Any:
        if type(value) not in kinds:
            _fail(place, f"must be {' or '.join(KINDS[kind] for kind in kinds)}, not {KINDS[type(value)]}")
        return value

    return check


def one_of(*texts: str) -> Check:
    """A check that a value is one of these strings."""

    def check(value: Any, place: str) -> str:
        if type(value) is not str or value not in texts:
            _fail(place, f"must be {' or '.join(texts)}")
        return value

    return check


def array(item: Check, least: int, most: int) -> Check:
    """A list of `least` to `most` items."""
    a_list = exactly(list)

    def check(value: Any, place: str) -> list[Any]:
        _bound(a_list(value, place), place, least, most)
        return [item(one, f"{place}.{i}") for i, one in enumerate(value)]

    return check


def mapping(item: Check, most: int) -> Check:
    """An object of at most `most` members with any names."""
    an_object = exactly(dict)

    def check(value: Any, place: str) -> dict[str, Any]:
        _bound(an_object(value, place), place, 0, most)
        return {key: item(one, _member(place, key)) for key, one in value.items()}

    return check


def record(kind: Any, checks: Mapping[str, Check]) -> Check:
    """An object that is read as a dataclass: fields without a default must be there, and no others may be."""
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    an_object = exactly(dict)

    def check(value: Any, place: str) -> Any:
        for key in an_object(value, place):
            if key not in checks:
                _fail(_member(place, key), "there is no such field")
        for key in required:
            if key not in value:
                _fail(_member(place, key), "is missing")
        return kind(**{key: checks[key](one, f"{place}.{key}") for key, one in value.items()})

    return check


def _bound(value: list[Any] | dict[str, Any], place: str, least: int, most: int) -> None:
    if len(value) > most:
        _fail(place, f"has {len(value)} items; at most {most} are supported")
    if len(value) < least:
        _fail(place, f"has {len(value)} items; at least {least} are needed")


def _member(place: str, key: str) -> str:
    return f"{place}.{key:.80}"


def _fail(place: str, what: str) -> NoReturn:
    raise ArtifactError(f"{place}: {what}")

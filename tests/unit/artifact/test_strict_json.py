"""JSON without ambiguities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.artifact.strict_json import MAX_DEPTH, MAX_PUNCTUATION, dump_json, parse_json
from subbyte.errors import ArtifactError

BAD = [
    ("", "malformed"),
    ("{", "malformed"),
    ("[1,]", "malformed"),
    ("{} {}", "malformed"),
    ('{"a":1,"a":1}', "names a key twice"),
    ('[{"b":{"a":1,"a":2}}]', "names a key twice"),
    ("NaN", "NaN is not a number"),
    ("[-Infinity]", "-Infinity is not a number"),
    ("1e999", "not finite"),
    ("-1e999", "not finite"),
    ("1" * 33, "33 digits"),
    ("-" + "1" * 100_000, "digits"),
    ('"\\ud800"', "surrogates"),
    ('{"\\udfff":1}', "surrogates"),
    ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deeper than"),
    ("[" * 100_000, "malformed"),
    ('{"a":' * 100_000, "malformed"),
    ("[" * 100_000 + "]" * 100_000, "malformed"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        parse_json(text)


def test_depth_up_to_the_bound_is_fine() -> None:
    parse_json("[" * MAX_DEPTH + '1,"a"' + "]" * MAX_DEPTH)
    parse_json('{"a":' * MAX_DEPTH + "null" + "}" * MAX_DEPTH)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive(x: float) -> None:
    assert parse_json(dump_json(x)).hex() == x.hex()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object(), {"a": complex(1)}])
def test_dump_refuses(value: object) -> None:
    with pytest.raises(ArtifactError, match="not plain, finite JSON"):
        dump_json(value)


def test_dump_refuses_cycles() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ArtifactError, match="not plain"):
        dump_json(loop)


def test_dump_is_compact_and_sorted() -> None:
    assert dump_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'


@pytest.mark.parametrize("item", ["0", "[]", '{"":0}', '",,,"'])
def test_millions_of_values_are_refused_unread(item: str) -> None:
    """Counted in the text as it stands; what can be written can be read."""
    count = MAX_PUNCTUATION // (1 + sum(map(item.count, "[{,")))
    text = "[" + ",".join([item] * count) + "]"
    fits = parse_json(text)
    assert len(fits) == count
    assert dump_json(fits) == text
    for last in ("]", "[]]", "nonsense"):  # whatever follows
        with pytest.raises(ArtifactError, match="brackets, braces and commas"):
            parse_json(text[:-1] + "," + last)
    with pytest.raises(ArtifactError, match="brackets, braces and commas"):
        dump_json([*fits, 0, 0])

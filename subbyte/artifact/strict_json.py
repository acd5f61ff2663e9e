"""JSON without its ambiguities: no duplicate keys, NaN, infinities, lone surrogates or deep nesting.

And bounded: a few megabytes of text can hold millions of tiny values, which take up to fifty times their
text as Python objects. Each element of a list and each member of an object follows one of the characters
`[`, `{` and `,`, so counting these, wherever they stand, bounds the values before one of them is made.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from subbyte.errors import ArtifactError

MAX_DEPTH = 32
MAX_DIGITS = 32
MAX_PUNCTUATION = 1 << 19  # of the characters "[", "{" and "," in a text, those within strings included


def dump_json(value: object) -> str:
    """The one compact, sorted text of a plain JSON value. Raises ArtifactError if it is not plain."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"not plain, finite JSON: {error}") from None
    check_size(text)
    return text


def check_size(text: str) -> None:
    """Raises ArtifactError if a JSON text may hold more values than a reader accepts."""
    marks = sum(map(text.count, "[{,"))
    if marks > MAX_PUNCTUATION:
        raise ArtifactError(
            f"malformed JSON: {marks} brackets, braces and commas; at most {MAX_PUNCTUATION} are supported"
        )


def parse_json(text: str) -> Any:
    """The value of a JSON text, strictly. Raises ArtifactError if the text is ambiguous, malformed or
    holds too many values."""
    check_size(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short_int,
        )
        _check(value, 0)
    except (ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise ArtifactError(f"malformed JSON: {error}") from None
    return value


def _check(value: Any, depth: int) -> None:
    """Bounds the nesting and refuses lone surrogates, which no UTF-8 text can hold."""
    if isinstance(value, (dict, list)) and depth == MAX_DEPTH:
        raise ArtifactError(f"malformed JSON: nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ArtifactError("malformed JSON: an object names a key twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ArtifactError(f"malformed JSON: {name} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ArtifactError(f"malformed JSON: {text:.32} is not finite")
    return number


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ArtifactError(f"malformed JSON: a number has {len(text)} digits")
    return int(text)

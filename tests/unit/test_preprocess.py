"""Preprocessing: a round trip through JSON, and no field out of its range."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import SubbyteError
from subbyte.preprocess import CROP_MODES, INTERPOLATIONS, Preprocessing

FIELDS: dict[str, Any] = {
    "height": 224,
    "width": 192,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "crop_fraction": 0.9,
    "crop_mode": "squash",
}

finite = st.floats(-1e3, 1e3)
positive = st.floats(1e-6, 1e3)


@given(
    st.sampled_from([1, 3, 4]).flatmap(
        lambda channels: st.builds(
            Preprocessing,
            st.integers(1, 8192),
            st.integers(1, 8192),
            st.tuples(*[finite] * channels),
            st.tuples(*[positive] * channels),
            st.sampled_from(INTERPOLATIONS),
            st.floats(0.01, 1),
            st.sampled_from(CROP_MODES),
        )
    )
)
def test_json_round_trip(original: Preprocessing) -> None:
    text = json.dumps(original.to_json(), allow_nan=False)
    assert Preprocessing.from_json(json.loads(text)) == original


def test_fields_are_kept() -> None:
    assert Preprocessing.from_json(FIELDS).to_json() == FIELDS


def test_optional_fields_have_defaults() -> None:
    short = {key: FIELDS[key] for key in ("height", "width", "mean", "std")}
    found = Preprocessing.from_json(short)
    assert (found.interpolation, found.crop_fraction, found.crop_mode) == (
        "bicubic",
        0.875,
        "center",
    )


@pytest.mark.parametrize(("field", "bad"), [
    ("height", 0),
    ("height", 8193),
    ("width", 224.0),
    ("width", True),
    ("width", "224"),
    ("mean", [0.5, 0.5]),
    ("mean", []),
    ("mean", [0.5] * 5),
    ("mean", [0.5]),
    ("std", [0.5] * 4),
    ("mean", 0.5),
    ("mean", [0.5, 0.5, float("nan")]),
    ("mean", ["0.5", 0.5, 0.5]),
    ("std", [0.5, 0.0, 0.5]),
    ("std", [0.5, -0.1, 0.5]),
    ("std", [0.5, float("inf"), 0.5]),
    ("interpolation", "lanczos"),
    ("interpolation", ["bicubic"]),
    ("crop_fraction", 0),
    ("crop_fraction", 1.01),
    ("crop_fraction", 1e-300),
    ("crop_fraction", float("nan")),
    ("crop_fraction", None),
    ("crop_mode", "border"),
])  # fmt: skip
def test_bad_values_are_named(field: str, bad: object) -> None:
    with pytest.raises(SubbyteError, match=field):
        Preprocessing.from_json(FIELDS | {field: bad})


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_as_many_as_means(channels: int) -> None:
    found = Preprocessing(5, 7, (0.0,) * channels, (1.0,) * channels)
    assert found.channels == channels
    assert found.shape == (5, 7, channels)


def test_structure_is_checked() -> None:
    with pytest.raises(SubbyteError, match="unknown fields: depth"):
        Preprocessing.from_json(FIELDS | {"depth": 3})
    with pytest.raises(SubbyteError, match="lacks the fields: std"):
        Preprocessing.from_json({k: v for k, v in FIELDS.items() if k != "std"})
    with pytest.raises(SubbyteError, match="JSON object"):
        Preprocessing.from_json([224, 224])  # type: ignore[arg-type]

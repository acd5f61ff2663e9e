"""How an image becomes a network's input: the few numbers every consumer has to agree on.

The definition, for an image of 8-bit values, grey, RGB or RGBA (subbyte/data/decode.py):

1. Resize with `interpolation` so that the network's input is the central `crop_fraction` of
   the result. "center" keeps the aspect ratio: the shorter side becomes
   floor(side / crop_fraction). "squash" resizes height and width separately to that size.
2. Cut the central `height` x `width` window.
3. x = (pixel / 255 - mean) / std, per channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from subbyte.errors import InputError

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
CROP_MODES = ("center", "squash")
MAX_SIDE = 8192
MIN_CROP_FRACTION = 0.01
CHANNELS = {1: "one number (grey)", 3: "three numbers (R, G, B)", 4: "four numbers (R, G, B, alpha)"}

PerChannel = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Input geometry and normalization of a network that takes images.

    height, width: the network's input in pixels, 1..8192.
    mean, std: per channel, in units of pixel / 255; one number each for a network of grey images, three
        for RGB, four for RGBA. A network trained on pixels from 0 to 255 has mean 0 and std 1 / 255.
    crop_fraction: share of the resized side that the central crop keeps, from 0.01 to 1.
    Raises InputError when a field is out of its range.
    """

    height: int
    width: int
    mean: PerChannel
    std: PerChannel
    interpolation: str = "bicubic"
    crop_fraction: float = 0.875
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            _check_side(side, getattr(self, side))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name)))
        if len(self.mean) != len(self.std):
            raise InputError(
                f"Preprocessing mean and std must have equally many numbers, not {len(self.mean)} and "
                f"{len(self.std)}."
            )
        if min(self.std) <= 0:
            raise InputError(f"Preprocessing std must be positive in every channel, not {self.std}.")
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("crop_mode", self.crop_mode, CROP_MODES)
        object.__setattr__(self, "crop_fraction", _number("crop_fraction", self.crop_fraction))
        if not MIN_CROP_FRACTION <= self.crop_fraction <= 1:
            raise InputError(
                f"Preprocessing crop_fraction must be in {MIN_CROP_FRACTION}..1, not {self.crop_fraction}."
            )

    @property
    def channels(self) -> int:
        """1 (grey), 3 (RGB) or 4 (RGBA)."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the network's input."""
        return self.height, self.width, self.channels

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; `from_json` gives back an equal object."""
        plain = asdict(self)
        return plain | {"mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_json` wrote. Raises InputError on unknown, missing or bad fields."""
        if not isinstance(data, Mapping):
            raise InputError(f"Preprocessing must be a JSON object, not {type(data).__name__}.")
        known = {field.name for field in fields(Preprocessing)}
        unknown = sorted(str(key) for key in data if key not in known)
        if unknown:
            raise InputError(f"Preprocessing has unknown fields: {', '.join(unknown)}.")
        missing = [key for key in ("height", "width", "mean", "std") if key not in data]
        if missing:
            raise InputError(f"Preprocessing lacks the fields: {', '.join(missing)}.")
        return Preprocessing(**data)


def _check_side(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise InputError(
            f"Preprocessing {name} must be a whole number of pixels in 1..{MAX_SIDE}, not {value!r}."
        )


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"Preprocessing {name} must be one of {', '.join(allowed)}, not {value!r}.")


def _per_channel(name: str, value: object) -> PerChannel:
    if not isinstance(value, (list, tuple)) or len(value) not in CHANNELS:
        raise InputError(f"Preprocessing {name} must hold {' or '.join(CHANNELS.values())}, not {value!r}.")
    return tuple(_number(name, item) for item in value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"Preprocessing {name} must hold finite numbers, not {value!r}.")
    return float(value)

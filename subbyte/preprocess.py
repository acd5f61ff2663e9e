"""How a picture becomes a network's input: the few numbers every consumer has to agree on.

The definition, for a picture of 8-bit RGB values:

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

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Input geometry and normalization of a network that takes RGB pictures.

    height, width: the network's input in pixels, 1..8192.
    mean, std: per channel (R, G, B), in units of pixel / 255.
    crop_fraction: share of the resized side that the central crop keeps, in (0, 1].
    Raises InputError when a field is out of its range.
    """

    height: int
    width: int
    mean: Triple
    std: Triple
    interpolation: str = "bicubic"
    crop_fraction: float = 0.875
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        for side in ("height", "width"):
            _check_side(side, getattr(self, side))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise InputError(f"Preprocessing std must be positive in every channel, not {self.std}.")
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("crop_mode", self.crop_mode, CROP_MODES)
        object.__setattr__(self, "crop_fraction", _number("crop_fraction", self.crop_fraction))
        if not 0 < self.crop_fraction <= 1:
            raise InputError(f"Preprocessing crop_fraction must be in (0, 1], not {self.crop_fraction}.")

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


def _triple(name: str, value: object) -> Triple:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise InputError(f"Preprocessing {name} must hold three numbers (R, G, B), not {value!r}.")
    red, green, blue = (_number(name, item) for item in value)
    return red, green, blue


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"Preprocessing {name} must hold finite numbers, not {value!r}.")
    return float(value)

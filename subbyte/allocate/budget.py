"""What a compressed network may cost, and how people write it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from subbyte.errors import InputError

BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MILLISECONDS = {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}
MILLIJOULES = {"": 1.0, "mj": 1.0, "uj": 1e-3, "µj": 1e-3, "j": 1e3}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zµ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """The most that is allowed; None: anything.

    size: bytes of the file. latency: milliseconds for one image on the target. memory: bytes of
    activations. drop: points (per cent) of agreement of the best class with the float32 network
    that may be lost on the calibration images. activation_bits: mean bits of an activation, as `ir.shares`
    counts them; float32 ones have 32. energy: millijoules for one image on the
    target. Raises InputError for one that is no number above 0.
    """

    size: int | None = None
    latency: float | None = None
    memory: int | None = None
    drop: float | None = None
    activation_bits: float | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        bits = self.activation_bits
        if bits is not None and not 0.0 < bits < math.inf:
            raise InputError(f"the mean bits of activations must be a number above 0, like 4.2, not {bits:g}")

    @property
    def given(self) -> bool:
        """Whether there is any limit."""
        limits = (self.size, self.latency, self.memory, self.drop, self.activation_bits, self.energy)
        return any(limit is not None for limit in limits)

    def __str__(self) -> str:
        """What is given, in words."""
        parts = {
            "a file of at most {:d} bytes": self.size,
            "at most {:g} ms an image": self.latency,
            "at most {:g} mJ an image": self.energy,
            "at most {:d} bytes of activations": self.memory,
            "a loss of at most {:g} points of agreement": self.drop,
            "activations of at most {:g} bits on average": self.activation_bits,
        }
        return " and ".join(text.format(limit) for text, limit in parts.items() if limit is not None)


def parse_bytes(option: str, text: str) -> int:
    """ "3.5MB" (decimal), "3.5MiB" or a number of bytes. InputError otherwise."""
    return int(_parse(option, text, BYTES, "3.5MB"))


def parse_milliseconds(option: str, text: str) -> float:
    """ "3ms", "800us" or a number of milliseconds. InputError otherwise."""
    return _parse(option, text, MILLISECONDS, "3ms")


def parse_millijoules(option: str, text: str) -> float:
    """ "0.9mJ", "900uJ" or a number of millijoules. InputError otherwise."""
    return _parse(option, text, MILLIJOULES, "0.9mJ")


def _parse(option: str, text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    found = _NUMBER.fullmatch(text.strip())
    if found is None or found[2].lower() not in units or float(found[1]) == 0.0:
        raise InputError(f"{option} must be a number above 0 with a unit, like {example}, got {text!r}")
    return float(found[1]) * units[found[2].lower()]

"""A network's file, with what the engine that it is for has to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Run = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class EngineFile:
    """engine: "subbyte" or a peer's name. isa: of this package's engine (None: its best one)."""

    engine: str
    precision: str
    path: str
    isa: str | None = None

"""What the engine multiplies, read from its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def executed_macs(step: Mapping[str, Any]) -> int:
    """Multiply-accumulates that a step of `session.plan()` makes: of blocks that are skipped none, so that of
    a step with "int8+4x16:50" half of its `macs` are left."""
    _, _, pattern = str(step["executed_weights"]).partition("+4x")
    percent = int(pattern.partition(":")[2]) if pattern else 100
    return int(step["macs"]) * percent // 100

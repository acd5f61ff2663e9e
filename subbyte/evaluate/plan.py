"""The engine's plan as rows for people and reports: what was asked for, what executes, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from subbyte.runtime import Session


def plan_rows(session: Session, repeats: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """One row per step of `session.plan()`, as JSON values.

    requested: the precision that the artifact asks for, as in "w4a8" (weights, activations), "a8" for
    a step without weights, "fp32" or "fp16". executed: the same with the width at which the weights lie
    in the engine's memory. share: of the time of a run, 0..1, from the medians of `repeats` runs
    on standard normal noise of that seed; None if repeats is 0.
    """
    steps = session.plan()
    shares: list[float | None] = [None] * len(steps)
    if repeats > 0 and steps:
        shape = session.graph.value(session.graph.input).shape
        noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
        seconds = np.array(session.profile(noise, repeats))
        shares = [float(share) for share in seconds / seconds.sum()]
    return [_row(step, share) for step, share in zip(steps, shares, strict=True)]


def _row(step: Mapping[str, Any], share: float | None) -> dict[str, Any]:
    kept = ("name", "op", "kernel", "isa", "macs", "weight_bytes", "buffer_offset", "buffer_bytes")
    return {
        **{key: step[key] for key in kept},
        "shape": list(step["shape"]),
        "requested": _precision(step["requested_weight_bits"], step["activation_bits"]),
        "executed": _precision(step["resident_weight_bits"], step["activation_bits"]),
        "share": share,
    }


def _precision(weight_bits: int, activation_bits: int) -> str:
    if activation_bits >= 16:
        return "fp16" if weight_bits == 16 else "fp32"
    return f"w{weight_bits}a{activation_bits}" if weight_bits else f"a{activation_bits}"

"""The engine's plan as rows for people and reports: what was asked for, what executes, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subbyte.artifact import Artifact
from subbyte.execute.native import Session
from subbyte.execute.native.executed import executed_macs

KEPT = (
    *("name", "op", "kernel", "isa", "macs", "weight_bytes", "buffer_offset", "buffer_bytes", "live_bytes"),
    *("region", "row_tiles", "tile_rows", "line_buffer_rows"),
)


def plan_rows(session: Session, repeats: int = 10) -> list[dict[str, Any]]:
    """One row per step of `session.plan()`, as JSON values; macs are those that are executed.

    requested: the formats that the artifact asks for, of weights and activations ("int4 uint8"; of a step
    without weights "uint8"). executed: the formats in which they lie in memory and are multiplied: codes of
    activations take a byte each, whatever their width. share: of the time of a run, 0..1, from the medians
    of `repeats` runs on standard normal noise; None if repeats is 0.
    """
    steps = session.plan()
    shares: list[float | None] = [None] * len(steps)
    if repeats > 0 and steps:
        shape = session.graph.value(session.graph.input).shape
        noise = np.random.default_rng(0).standard_normal(shape, np.float32)
        seconds = np.array(session.profile(noise, repeats))
        shares = [float(share) for share in seconds / seconds.sum()]
    return [_row(step, share) for step, share in zip(steps, shares, strict=True)]


def _row(step: Mapping[str, Any], share: float | None) -> dict[str, Any]:
    return {
        **{key: step[key] for key in KEPT},
        "macs": executed_macs(step),
        "shape": list(step["shape"]),
        "requested": _formats(step["requested_weights"], step["requested_activations"]),
        "executed": _formats(step["executed_weights"], step["executed_activations"]),
        "share": share,
    }


def _formats(weights: str, activations: str) -> str:
    return f"{weights} {activations}".lstrip()


def memory(session: Session, artifact: Artifact) -> dict[str, int]:
    """What the engine holds of an artifact, in bytes; of activations what one stream does.

    weight_bytes: weights, biases, multipliers and tables as the kernels read them. arena_bytes: where
    all activations lie. arena_bytes_layer_by_layer: what it would be without depth-first regions.
    peak_activation_bytes: the most that is alive at a time; the arena is as large or, where buffers do
    not fit together, larger. scratch_bytes: of the threads.
    """
    whole = Session(artifact, threads=session.threads, isa=session.isa, depth_first_above=None)
    return {
        "weight_bytes": session.weight_bytes,
        "arena_bytes": session.arena_bytes,
        "arena_bytes_layer_by_layer": whole.arena_bytes,
        "peak_activation_bytes": max((step["live_bytes"] for step in session.plan()), default=0),
        "scratch_bytes": session.scratch_bytes,
    }


def regions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps that run depth-first together, from the rows of `plan_rows`.

    Per region: steps (names), row_tiles, and per step tile_rows (the most rows it makes in a row tile),
    line_buffer_rows (rows of its output that exist at a time; 0: all), line_buffer_bytes (what its buffer
    takes) and height (all rows of its output).
    """
    result = []
    for number in dict.fromkeys(row["region"] for row in rows if row["region"] >= 0):
        members = [row for row in rows if row["region"] == number]
        result.append(
            {
                "steps": [row["name"] for row in members],
                "row_tiles": members[0]["row_tiles"],
                "tile_rows": [row["tile_rows"] for row in members],
                "line_buffer_rows": [row["line_buffer_rows"] for row in members],
                "line_buffer_bytes": [row["buffer_bytes"] for row in members],
                "height": [row["shape"][0] for row in members],
            }
        )
    return result

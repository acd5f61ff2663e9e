"""Mixed precision as an integer program: one format per layer and per activation, least degradation.

Degradations are taken to add up: a second-order view in which every layer's rounding errors are small and
independent of the others' ("HAWQ-V3", arXiv 2011.10680, poses the same program with Hessian traces;
here degradations are measured). check.py measures how far that is from the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from subbyte.quant import Format
from subbyte.system.quiet import quiet_descriptor

Goal = Literal["degradation", "size", "latency", "bits", "energy"]


@dataclass(frozen=True)
class LayerOption:
    """A layer with weights of one format: degradation, bytes in the file, ms by the format of its input.

    degradation: below 0 for a float format that removes some of the degradation of 8 bits. bits: that
    activations have more, because a float layer makes them in float32. energy: mJ by the format of its input,
    0 where none is given.
    """

    degradation: float
    size: int
    latency: Mapping[Format, float]
    bits: int = 0
    energy: Mapping[Format, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerItem:
    """options: by format of the weights. input: index of the group it reads, None for the image's."""

    name: str
    options: Mapping[Format, LayerOption]
    input: int | None


@dataclass(frozen=True)
class GroupItem:
    """Activations of one format. degradation, latency and energy (ms and mJ of the nodes without weights that
    read them): by format. elements: how many of them there are per image, as `ir.shares` counts."""

    nodes: tuple[str, ...]
    degradation: Mapping[Format, float]
    latency: Mapping[Format, float]
    elements: int = 0
    energy: Mapping[Format, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """size, latency, bits (of activations), energy: of what no choice changes. elements: of all
    activations."""

    layers: Sequence[LayerItem]
    groups: Sequence[GroupItem]
    size: int
    latency: float
    bits: int = 0
    elements: int = 0
    energy: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Formats by layer and by index of the group, and what they sum up to, `size`, `latency`, `bits` (of
    activations) and `energy` in all."""

    weights: dict[str, Format]
    activations: dict[int, Format]
    degradation: float
    size: int
    latency: float
    bits: int
    energy: float


@dataclass(frozen=True)
class _Pick:
    """A 0/1 variable: a format of a layer at a format of its input, or a format of a group."""

    item: int
    format: Format
    input: Format | None
    degradation: float
    size: int
    latency: float
    bits: int
    energy: float


def solve(
    program: Program,
    *,
    size: float | None = None,
    latency: float | None = None,
    bits: float | None = None,
    energy: float | None = None,
    goal: Goal = "degradation",
) -> Solution | None:
    """The formats of least `goal` within the limits, of the whole; None if there are none.

    size: bytes. latency: ms. bits: of all activations of an image. energy: mJ.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    layers, groups = _layer_picks(program), _group_picks(program)
    picks = [*layers, *groups]
    rows, low, high = _choices(program, layers, groups)
    limits = (
        ("size", size, program.size),
        ("latency", latency, program.latency),
        ("bits", bits, program.bits),
        ("energy", energy, program.energy),
    )
    for kind, limit, fixed in limits:
        if limit is not None:
            column = np.array([getattr(pick, kind) for pick in picks], float)
            unit = column.max() or 1.0  # keeps the solver's tolerances meaningful
            rows.append(column / unit)
            low.append(-np.inf)
            high.append((limit - fixed) / unit)
    costs = np.array([getattr(pick, goal) for pick in picks], float)
    costs /= np.abs(costs).max() or 1.0
    with quiet_descriptor(1):  # HiGHS reports repairs of its solutions there
        result = milp(
            costs,
            constraints=LinearConstraint(np.array(rows), low, high),
            integrality=np.ones(len(picks)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 1e-4, "time_limit": 60.0},
        )
    if result.x is None:
        return None
    chosen = [pick for pick, x in zip(picks, result.x, strict=True) if x > 0.5]
    return _solution(program, chosen)


def _layer_picks(program: Program) -> list[_Pick]:
    picks = []
    for i, layer in enumerate(program.layers):
        for format, option in layer.options.items():
            for read, latency in option.latency.items():
                energy = option.energy.get(read, 0.0)
                picks.append(
                    _Pick(i, format, read, option.degradation, option.size, latency, option.bits, energy)
                )
    return picks


def _group_picks(program: Program) -> list[_Pick]:
    return [
        _Pick(
            i,
            format,
            None,
            degradation,
            0,
            group.latency[format],
            format.bits * group.elements,
            group.energy.get(format, 0.0),
        )
        for i, group in enumerate(program.groups)
        for format, degradation in group.degradation.items()
    ]


def _choices(
    program: Program, layers: list[_Pick], groups: list[_Pick]
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """One format each, and that of a layer's input is that of the group which it reads."""
    rows: list[np.ndarray] = []
    bounds: list[float] = []
    item = np.array([pick.item for pick in layers])
    of_group = np.array([pick.item for pick in groups], int)
    nothing = np.zeros(len(layers) + len(groups))
    for i, layer in enumerate(program.layers):
        row = nothing.copy()
        row[: len(layers)] = item == i
        rows.append(row)
        bounds.append(1.0)
        if layer.input is None:
            continue
        for format in program.groups[layer.input].degradation:
            row = nothing.copy()
            row[: len(layers)] = [pick.item == i and pick.input == format for pick in layers]
            row[len(layers) :] = [-float(p.item == layer.input and p.format == format) for p in groups]
            rows.append(row)
            bounds.append(0.0)
    for i in range(len(program.groups)):
        row = nothing.copy()
        row[len(layers) :] = of_group == i
        rows.append(row)
        bounds.append(1.0)
    return rows, bounds, list(bounds)


def _solution(program: Program, chosen: list[_Pick]) -> Solution:
    return Solution(
        {program.layers[p.item].name: p.format for p in chosen if p.input is not None},
        {p.item: p.format for p in chosen if p.input is None},
        float(sum(p.degradation for p in chosen)),
        program.size + sum(p.size for p in chosen),
        program.latency + float(sum(p.latency for p in chosen)),
        program.bits + sum(p.bits for p in chosen),
        program.energy + float(sum(p.energy for p in chosen)),
    )

"""How many blocks each layer keeps, so that a share of all work stays at the least rise of errors.

What a layer's error rises by when blocks go is known in second order at every share, from one tracing of the
layer (prune/second_order.py), and weighted by squared gradients of the network's outputs it can be compared
between layers. Rises are taken to add up, as in program.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from subbyte.errors import InputError
from subbyte.ir.ops import macs
from subbyte.steps.context import Context
from subbyte.steps.prune import chosen_layouts, rises
from subbyte.system.quiet import quiet_descriptor

#: Per cent of its blocks that a layer may keep; 100 is dense.
PERCENTS = (100, 75, 62, 50, 38, 25)


#: Of a layer that keeps all its blocks; or by per cent of them, such as what was measured.
Work = float | Mapping[int, float]


def distributed(context: Context, share: float, work: Mapping[str, Work] | None = None) -> dict[str, str]:
    """By layer whose format has a pattern of blocks the pattern that it should have, "dense" where all blocks
    stay, so that `share` of all work is left.

    work: by layer, as for `densities`; None: multiplications. Raises InputError or RecipeError as `densities`
    and `rises` do.
    """
    layouts = chosen_layouts(context.original, context.formats)
    counted: Mapping[str, Work] = macs(context.original) if work is None else work
    chosen = densities(rises(context, PERCENTS), counted, share)
    return {
        name: "dense" if percent == 100 else f"{layouts[name].inputs}x{layouts[name].outputs}:{percent}"
        for name, percent in chosen.items()
    }


def densities(
    rise: Mapping[str, Mapping[int, float]], work: Mapping[str, Work], share: float
) -> dict[str, int]:
    """By layer the per cent of its blocks that stays: the least sum of rises of which the work that is left
    is at most `share`, 0 to 1, of all.

    rise: by layer and per cent. work: by layer, of any unit, such as multiplications or milliseconds; one
    number is in proportion to what the layer keeps.
    Raises InputError if no choice is as little as that.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    picks = [(name, percent) for name, by_percent in rise.items() for percent in by_percent]
    total = sum(_left(work[name], 100) for name in rise)
    left = np.array([_left(work[name], percent) for name, percent in picks]) / total
    one = np.array([[float(name == layer) for name, _ in picks] for layer in rise])
    costs = np.array([rise[name][percent] for name, percent in picks])
    limits = [
        LinearConstraint(one, np.ones(len(rise)), np.ones(len(rise))),
        LinearConstraint(left[None], -np.inf, share),
    ]
    with quiet_descriptor(1):  # HiGHS reports repairs of its solutions there
        result = milp(
            costs / (np.abs(costs).max() or 1.0),
            constraints=limits,
            integrality=np.ones(len(picks)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 1e-4, "time_limit": 60.0},
        )
    if result.x is None:
        least = sum(min(_left(work[name], p) for p in by_percent) for name, by_percent in rise.items())
        least *= 100 / total
        raise InputError(f"no densities leave {100 * share:g} % of the work; at least {least:.3g} % stays")
    return dict(pick for pick, x in zip(picks, result.x, strict=True) if x > 0.5)


def _left(work: Work, percent: int) -> float:
    return work[percent] if isinstance(work, Mapping) else work * percent / 100

"""How a gradient passes a rounding, and layers whose grids are learned: forward the same integers as ever.

Three estimators. With e, the rounded number less its level, in steps (−0.5 .. 0.5), and g the gradient behind
the rounding, the gradient before it is

    ste    g                                     arXiv 1308.3432
    ewgs   g · (1 + δ · sign(g) · e)             arXiv 2104.00903
    soft   g · φ'(e)                             the slope of tanh curves between levels, arXiv 1908.05033:
                                                 φ'(e) = k / (2 tanh(k/2)) · sech²(k · (0.5 − |e|))

φ rises by 1 from one level to the next, so that gradients keep their size, and is steepest half way. k → 0
and δ = 0 are "ste". Beyond half a step outside the outermost levels the gradient is 0 with all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from subbyte.execute.torch.sampling import round_and_look_up, slope_and_sum

Name = Literal["ste", "ewgs", "soft"]


@dataclass(frozen=True)
class Estimator:
    """strength: δ of "ewgs", k of "soft"."""

    name: Name = "ste"
    strength: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether gradients pass as they are."""
        return self.name == "ste" or self.strength == 0.0

    def gradient(self, g: Tensor, error: Tensor) -> Tensor:
        """The gradient before a rounding that moved numbers by `error` steps; equal shapes."""
        if self.plain:
            return g
        if self.name == "ewgs":
            return torch.addcmul(g, g.abs(), error, value=self.strength)
        return g * self.slope(error)

    def slope(self, error: Tensor) -> Tensor:
        """φ' of "soft"; 1 for the others."""
        if self.plain or self.name == "ewgs":
            return torch.ones_like(error)
        k = self.strength
        return (k / (2.0 * math.tanh(k / 2.0))) / torch.cosh(k * (0.5 - error.abs())).square()


STE = Estimator()
#: The strength of an estimator where nothing is said.
USUAL: dict[Name, float] = {"ste": 0.0, "ewgs": 0.2, "soft": 2.0}


def estimator(name: Name, strength: float | None = None) -> Estimator:
    """The estimator of that name, with its usual strength if none is given."""
    return Estimator(name, USUAL[name] if strength is None else strength)


class _Round(torch.autograd.Function):
    """clamp(rne(v), low, high); zero: 0-dim, what real zero is, None: it is not learned."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, zero: Tensor | None, low: float, high: float | Tensor, how: Estimator
    ) -> Tensor:
        rounded = v.round()
        codes = rounded.clamp(min=low)
        codes = torch.minimum(codes, high) if isinstance(high, Tensor) else codes.clamp_(max=high)
        ctx.how, ctx.learned = how, zero is not None
        ctx.save_for_backward(rounded == codes, None if how.plain else v - rounded)
        return codes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inside, error = ctx.saved_tensors
        g = grads[0]
        # a real number s (q - z) that is clipped moves by -s when z moves by 1, others stay
        moved = (g * inside).sum() - g.sum() if ctx.learned else None
        return (g if error is None else ctx.how.gradient(g, error)) * inside, moved, None, None, None


def rounded(v: Tensor, zero: Tensor | None, low: float, high: float | Tensor, how: Estimator) -> Tensor:
    """clamp(rne(v), low, high) for v of any shape, with the gradient of `how`.

    zero: the zero point of the codes as a 0-dim tensor that is learned, low and high being the ends of the
    grid, or None. No gradient reaches `high`.
    """
    return _Round.apply(v, zero, low, high, how)  # type: ignore[no-any-return, no-untyped-call]


class _Sample(torch.autograd.Function):
    """table[clamp(rne(v), 0, 255)], with gradients by the tables of `derivatives`."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, source: Tensor, target: Tensor, zero: Tensor | None, table: Tensor, tables: Any
    ) -> Tensor:
        made, ctx.index = round_and_look_up(v, table.detach())
        ctx.tables = tables
        ctx.inside = (v - 127.5).abs_() <= 128.0 if ctx.needs_input_grad[1] else None
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g, tables = grads[0], ctx.tables
        before, sums = slope_and_sum(g, tables["slope"], ctx.index)
        products = [(sums * tables[name]).sum().float() for name in ("source", "target", "zero")]
        results = [*products, sums.float()]
        if "bent" in tables:
            before.add_(slope_and_sum(g.abs(), tables["bent"], ctx.index)[0])
        if ctx.inside is not None:
            before.mul_(ctx.inside)
        used = (r if n else None for r, n in zip(results, ctx.needs_input_grad[1:5], strict=True))
        return before, *used, None


def sampled_sums(
    v: Tensor,
    source: Tensor,
    target: Tensor,
    zero: Tensor | None,
    table: Tensor,
    tables: dict[str, Tensor],
) -> Tensor:
    """What a table makes of sums v, any shape, with gradients by the scales before and behind it, 0-dim.

    table: float32 [256], with the gradient of its entries. tables: of `derivatives`. zero: as in `rounded`,
    of what the table makes.
    """
    return _Sample.apply(v, source, target, zero, table, tables)  # type: ignore[no-any-return, no-untyped-call]


def derivatives(exact: Tensor, qmax: float, slopes: tuple[Tensor, ...], how: Estimator) -> dict[str, Tensor]:
    """What gradients take from the 256 codes in front of a table, float32 [256] each.

    exact: the real numbers that the table rounds and clamps to 0 .. qmax; slopes: their derivatives, clamped
    too, by the code and by the scales before and behind.
    """
    error = exact - exact.round()
    found = {
        "slope": slopes[0] * how.slope(error),
        "source": slopes[1],
        "target": slopes[2],
        "zero": -((exact < 0.0) | (exact > qmax)).to(exact.dtype),
    }
    if how.name == "ewgs" and not how.plain:  # slope · g · (1 + δ · sign(g) · e) in two tables
        found["bent"] = slopes[0] * error * how.strength
    return found

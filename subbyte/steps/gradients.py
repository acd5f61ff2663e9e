"""Gradients short enough to follow, and an end to training where there is nothing to follow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from subbyte.errors import DivergenceError
from subbyte.recipes import Training
from subbyte.steps.kept import Parameters

Limits = Mapping[str, Mapping[str, float]]


class Watch:
    """Looks after every step of a training: finite losses and gradients, shortened as Training says, and
    parameters within their limits.

    limits: of parameters that are logarithms of factors, the largest magnitude, by kind and name.
    """

    def __init__(self, parameters: Parameters, training: Training, limits: Limits) -> None:
        self.parameters, self.training, self.limits = parameters, training, limits
        self.leaves = [(kind, name) for kind, named in parameters.items() for name in named]

    def gradient(self, loss: float) -> float:
        """Shortens the gradient, and returns the norm that it had.

        Raises DivergenceError if that or the loss is infinite or not a number.
        """
        if not math.isfinite(loss):
            kind, name = max(self.leaves, key=lambda leaf: _largest(self.parameters[leaf[0]][leaf[1]]))
            largest = _largest(self.parameters[kind][name])
            raise DivergenceError(
                f"the loss is {loss}; the largest parameter is the {kind} of layer {name!r}, "
                f"{largest:.3g}: {self._advice(kind)}"
            )
        grads = [(kind, name, self.parameters[kind][name].grad) for kind, name in self.leaves]
        found = [(kind, name, grad) for kind, name, grad in grads if grad is not None]
        if not found:
            return 0.0
        norms = torch.stack([grad.norm().double() / self._share(kind, name) for kind, name, grad in found])
        if not norms.isfinite().all():
            kind, name, _ = found[int((~norms.isfinite()).nonzero()[0])]
            raise DivergenceError(
                f"the gradient of the {kind} of layer {name!r} is infinite or not a number: "
                f"{self._advice(kind)}"
            )
        if self.training.clip:
            self._shorten(found, norms)
        return float(norms.square().sum().sqrt())

    def _shorten(self, found: list[tuple[str, str, Tensor]], norms: Tensor) -> None:
        """Each group of gradients whose norm is larger than `clip` to that."""
        by = self.training.clip_by
        named = {"all": "", "kind": "{0}", "tensor": "{0} {1}"}[by]
        groups = [named.format(kind, name) for kind, name, _ in found]
        squares: dict[str, float] = {}
        for group, norm in zip(groups, norms.tolist(), strict=True):
            squares[group] = squares.get(group, 0.0) + norm * norm
        for group, (_, _, grad) in zip(groups, found, strict=True):
            norm = math.sqrt(squares[group])
            if norm > self.training.clip:
                grad.mul_(self.training.clip / norm)

    def _share(self, kind: str, name: str) -> float:
        """What the norm of a parameter's gradient is divided by; see Training.clip_by."""
        weight = self.parameters.get("weight", {}).get(name)
        if kind != "scale" or weight is None:
            return 1.0
        return math.sqrt(weight.numel() / self.parameters[kind][name].numel())

    def values(self) -> None:
        """Raises DivergenceError if a parameter is beyond its limit."""
        for kind, named in self.limits.items():
            if named:
                values = [self.parameters[kind][name].detach().abs().amax() for name in named]
                beyond = torch.stack(values).cpu() > torch.tensor(list(named.values()))
                if beyond.any():
                    name = list(named)[int(beyond.nonzero()[0])]
                    raise DivergenceError(self._collapse(kind, name, named[name]))

    def _collapse(self, kind: str, name: str, limit: float) -> str:
        values = self.parameters[kind][name].detach().flatten()
        channel = int(values.abs().argmax())
        moved = float(values[channel])
        where = f", channel {channel}," if values.numel() > 1 else ""
        way = "collapsed: it shrank" if moved < 0 else "exploded: it grew"
        return (
            f"the {kind} of layer {name!r}{where} {way} to {math.exp(moved):.3g} times what it was; codes "
            f"cannot follow beyond a factor of {math.exp(limit):.3g}: {self._advice(kind)}"
        )

    def _advice(self, kind: str) -> str:
        rate = getattr(self.training, kind, None)
        lower = f"lower the rate {kind!r} (now {rate:g})" if isinstance(rate, float) else "lower the rates"
        clip = f"lower clip (now {self.training.clip:g})" if self.training.clip else "set clip, as 1.0"
        return f"{lower}, or {clip}"


def _largest(values: Tensor) -> float:
    largest = float(values.detach().abs().amax()) if values.numel() else 0.0
    return math.inf if math.isnan(largest) else largest

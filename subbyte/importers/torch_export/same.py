"""Rules for operators of torch alone: those that change nothing, types, and tensors made like others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from subbyte.importers.rules.arguments import Arguments, Rule, Shape, need, operand
from subbyte.importers.rules.operands import Builder, Operand


def identity(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """The operand as it is."""
    x = operand(next(iter(a.values())))
    need(not a.get("train", False), "it is in training mode; pass training=self.training")
    _need_float32(a)
    return x


def type_as(b: Builder, a: Arguments, shape: Shape) -> Any:
    """The operand, or the constant, in the type of another one."""
    x, other = a["self"], a["other"]
    _need_float32({"dtype": torch.float32 if isinstance(other, Operand) else torch.as_tensor(other).dtype})
    return x if isinstance(x, Operand) else np.asarray(x, np.float32)


def _need_float32(a: Arguments) -> None:
    dtype = a.get("dtype")
    need(dtype in (None, torch.float32), f"only float32 is computed with, not {dtype}")


def in_float32(rule: Rule) -> Rule:
    """A rule whose operator may ask for another type."""

    def checked(b: Builder, a: Arguments, shape: Shape) -> Operand:
        _need_float32(a)
        return rule(b, a, shape)

    return checked


def assertion(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of a tensor's metadata, which the traced program fulfils."""
    return operand(a["a"])


def filled(value: float | str) -> Any:
    """A constant of the result's shape; `value`: a number, or the argument that is one."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> np.ndarray:
        return np.full(shape, a[value] if isinstance(value, str) else value, np.float32)

    return rule

"""The table of activation functions: docs/spec/numerics.md, "Activation functions", in code.

An `act` attribute is a name of the table, or a name with parameters: "leaky_relu:0.2". There is one
text for one function: a name alone where every parameter has its default, else all of them, each as
Python's shortest exact form of a float.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from subbyte.errors import GraphError

_erf = np.vectorize(math.erf, otypes=[np.float64])
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Parameter:
    """A number that a function depends on: its default, and the range it may have."""

    name: str
    default: float
    low: float
    high: float


@dataclass(frozen=True)
class ActivationDef:
    """A row. function: float64 array and the parameters -> float64 array.

    slope: the largest |f'|, from the parameters; exact: float32 evaluation does not round at all.
    clamp: on codes it is a clamp; every other function is a table of 256 entries.
    """

    name: str
    function: Callable[..., np.ndarray]
    parameters: tuple[Parameter, ...] = ()
    slope: Callable[..., float] = lambda *_: 1.0
    exact: bool = False
    clamp: bool = False


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _elu(x: np.ndarray, alpha: float, scale: float, rate: float) -> np.ndarray:
    return scale * np.where(x > 0.0, x, alpha * np.expm1(rate * np.minimum(x, 0.0)))


_MULTIPLE = 2.0**16  # bounds of the parameters that multiply

ACTIVATION_TABLE: dict[str, ActivationDef] = {
    row.name: row
    for row in (
        ActivationDef("none", lambda x: x, exact=True, clamp=True),
        ActivationDef("relu", lambda x: np.maximum(x, 0.0), exact=True, clamp=True),
        ActivationDef("relu6", lambda x: np.clip(x, 0.0, 6.0), exact=True, clamp=True),
        ActivationDef("silu", lambda x: x * _sigmoid(x), slope=lambda: 1.1),
        ActivationDef("hard_swish", lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0, slope=lambda: 1.5),
        ActivationDef("sigmoid", _sigmoid),
        ActivationDef("hard_sigmoid", lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0),
        ActivationDef("gelu", lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))), slope=lambda: 1.13),
        ActivationDef("tanh", np.tanh),
        ActivationDef(
            "leaky_relu",
            lambda x, slope: np.where(x >= 0.0, x, slope * x),
            (Parameter("slope", 0.01, -_MULTIPLE, _MULTIPLE),),
            slope=lambda slope: max(1.0, abs(slope)),
        ),
        ActivationDef("gelu_tanh", _gelu_tanh, slope=lambda: 1.13),
        ActivationDef(  # SELU and CELU, too: scale · (x > 0 ? x : alpha · (e^(rate x) − 1))
            "elu",
            _elu,
            (
                Parameter("alpha", 1.0, -_MULTIPLE, _MULTIPLE),
                Parameter("scale", 1.0, -_MULTIPLE, _MULTIPLE),
                Parameter("rate", 1.0, 1 / _MULTIPLE, _MULTIPLE),
            ),
            slope=lambda alpha, scale, rate: abs(scale) * max(1.0, abs(alpha) * rate),
        ),
        ActivationDef("mish", lambda x: x * np.tanh(np.logaddexp(0.0, x)), slope=lambda: 1.09),
        ActivationDef(
            "softplus",
            lambda x, beta: np.logaddexp(0.0, beta * x) / beta,
            (Parameter("beta", 1.0, 1 / _MULTIPLE, _MULTIPLE),),
        ),
        ActivationDef(
            "clip",
            lambda x, low, high: np.minimum(np.maximum(x, low), high),
            (Parameter("low", -1.0, -_LARGEST, _LARGEST), Parameter("high", 1.0, -_LARGEST, _LARGEST)),
            exact=True,
        ),
    )
}

#: The names. Each alone is an `act`, too: the function with its default parameters.
ACTIVATIONS = tuple(ACTIVATION_TABLE)
#: Those that a clamp of codes expresses exactly; every other needs a 256-entry table.
CLAMP_ACTIVATIONS = tuple(row.name for row in ACTIVATION_TABLE.values() if row.clamp)


def activation(name: str, *parameters: float) -> str:
    """The `act` attribute of a function with these parameters (none: the defaults).

    Raises GraphError: no such name, too many or too few parameters, or one out of its range.
    """
    row = ACTIVATION_TABLE.get(name)
    if row is None:
        raise GraphError(f"unknown activation {name!r:.80}; known: {', '.join(ACTIVATION_TABLE)}")
    values = [float(value) + 0.0 for value in parameters]  # -0.0 becomes 0.0
    if values and len(values) != len(row.parameters):
        raise GraphError(f"activation {name} has {len(row.parameters)} parameters, not {len(values)}")
    for parameter, value in zip(row.parameters, values, strict=False):
        if not parameter.low <= value <= parameter.high:
            raise GraphError(
                f"{parameter.name} of {name} must be in {parameter.low:.9g} .. {parameter.high:.9g}, "
                f"not {value!r}"
            )
    if values == [parameter.default for parameter in row.parameters]:
        return name
    return ":".join([name, *map(repr, values)])


def parse_activation(act: str) -> tuple[ActivationDef, tuple[float, ...]]:
    """The row of an `act` attribute and the values of its parameters.

    Raises GraphError if `act` is not exactly what `activation` would return.
    """
    name, *texts = act.split(":")
    try:
        values = tuple(map(float, texts))
    except ValueError:
        raise GraphError(f"activation {act!r:.80} has a parameter that is no number") from None
    if activation(name, *values) != act:
        raise GraphError(f"activation {act!r:.80} must be written {activation(name, *values)!r}")
    row = ACTIVATION_TABLE[name]
    return row, values or tuple(parameter.default for parameter in row.parameters)


def activation_function(act: str) -> Callable[[np.ndarray], np.ndarray]:
    """The float64 function behind an `act` attribute. GraphError if there is none."""
    row, values = parse_activation(act)
    return lambda x: row.function(x, *values)

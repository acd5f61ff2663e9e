"""Activation functions as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.exporters.onnx.writer import Writer


def _direct(kind: str, *names: str, **attrs: Any) -> Callable[..., str]:
    """One ONNX operator; `names`: its attributes that are the activation's parameters."""

    def export(writer: Writer, x: str, output: str, *parameters: float) -> str:
        return writer.op(kind, [x], output, **attrs, **dict(zip(names, parameters, strict=True)))

    return export


def _silu(writer: Writer, x: str, output: str) -> str:
    return writer.op("Mul", [x, writer.op("Sigmoid", [x], writer.fresh(f"{output}/gate"))], output)


def _clip(writer: Writer, x: str, output: str, low: float, high: float) -> str:
    return writer.op(
        "Clip", [x, writer.number(f"{output}/low", low), writer.number(f"{output}/high", high)], output
    )


def _elu(writer: Writer, x: str, output: str, alpha: float, scale: float, rate: float) -> str:
    """Selu of rate * x: gamma * (x > 0 ? x : alpha * (e^x - 1))."""
    if rate != 1.0:
        x = writer.op("Mul", [x, writer.number(f"{output}/rate", rate)], writer.fresh(f"{output}/scaled"))
    return writer.op("Selu", [x], output, alpha=alpha * rate, gamma=scale / rate)


def _softplus(writer: Writer, x: str, output: str, beta: float) -> str:
    if beta == 1.0:
        return writer.op("Softplus", [x], output)
    factor = writer.number(f"{output}/beta", beta)
    scaled = writer.op("Mul", [x, factor], writer.fresh(f"{output}/scaled"))
    return writer.op("Div", [writer.op("Softplus", [scaled], writer.fresh(f"{output}/sum")), factor], output)


#: Activation to what adds it: writer, input, output and the activation's parameters -> output.
ACTIVATIONS: dict[str, Callable[..., str]] = {
    "none": _direct("Identity"),
    "relu": _direct("Relu"),
    "relu6": lambda writer, x, output: _clip(writer, x, output, 0.0, 6.0),
    "silu": _silu,
    "hard_swish": _direct("HardSwish"),
    "sigmoid": _direct("Sigmoid"),
    "hard_sigmoid": _direct("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "gelu": _direct("Gelu", approximate="none"),
    "tanh": _direct("Tanh"),
    "leaky_relu": _direct("LeakyRelu", "alpha"),
    "gelu_tanh": _direct("Gelu", approximate="tanh"),
    "elu": _elu,
    "mish": _direct("Mish"),
    "softplus": _softplus,
    "clip": _clip,
}

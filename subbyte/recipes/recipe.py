"""The schema of a recipe. docs in the fields; examples are the TOML files beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from subbyte.errors import GraphError
from subbyte.quant import Format, activation_format, weight_format
from subbyte.quant.format import INT8, UINT8


def _parsed(parse: Callable[[object], Format]) -> Any:
    def checked(value: object) -> Format:
        try:
            return parse(value)
        except GraphError as error:
            raise ValueError(str(error)) from None

    return PlainValidator(checked)


_SHORT = PlainSerializer(lambda found: found.short)
#: Formats, written as a number of bits, like 4, or as a text, like "int4".
WeightFormat = Annotated[Format, _parsed(weight_format), _SHORT]
ActivationFormat = Annotated[Format, _parsed(activation_format), _SHORT]
Precision = Literal["int", "fp32", "fp16"]
Role = Literal["first", "last", "depthwise", "pointwise", "spatial", "linear", "squeeze_excite", "residual"]
Step = Literal["bias_correction", "reconstruct", "distill"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightRange(_Table):
    """The format of weights, and what their scales (one per output channel, symmetric) cover.

    range: "minmax" covers every weight; "mse" takes the scale with the least squared error.
    levels: the code book of dense weights below 8 bits: "uniform" is two's complement, "symmetric" has
    equal steps around zero without a zero (ParetoQ, arXiv 2502.02631, finds it better at 2 bits),
    "learned" is fitted to each layer.
    """

    bits: WeightFormat = INT8
    levels: Literal["uniform", "symmetric", "learned"] = "uniform"
    range: Literal["minmax", "mse"] = "mse"


class ActivationRange(_Table):
    """The format of activations, and what their grids (one per tensor) cover.

    range: "minmax" covers all that calibration saw; "percentile" cuts the same share of values
    off either end, 100 - `percentile` per cent in all; "mse" takes the grid with the least squared
    error, measured behind the activation function where one follows.
    """

    bits: ActivationFormat = UINT8
    range: Literal["minmax", "percentile", "mse"] = "mse"
    percentile: float = Field(default=99.999, gt=50.0, le=100.0)


class Layers(_Table):
    """Formats of a group of layers: of their weights, and of the activations named there."""

    weights: WeightFormat = INT8
    activations: ActivationFormat = UINT8


class Override(_Table):
    """A rule for the nodes that fit both `match` (a glob over names) and `role`; later rules win.

    weights: format of their weights; activations: of what they produce; precision: run them in
    float32, or in float32 with weights stored as float16.
    """

    match: str | None = None
    role: Role | None = None
    weights: WeightFormat | None = None
    activations: ActivationFormat | None = None
    precision: Precision | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Override:
        if self.match is None and self.role is None:
            raise ValueError("an override needs match or role")
        if self.weights is None and self.activations is None and self.precision is None:
            raise ValueError("an override needs weights, activations or precision")
        if self.precision in ("fp32", "fp16") and (self.weights or self.activations):
            raise ValueError(f"a layer in {self.precision} has no bits; leave out weights and activations")
        return self


class Training(_Table):
    """How a step trains: Adam (arXiv 1412.6980), rates that fall along a cosine to zero.

    epochs: how often it sees every image; batch: images per step. Rates per step, at the
    start: `weight` in root mean squares of the layer's weights; `scale` and `grid`, relative change
    of weight and activation scales; `bias` in sixteenths of the range of the layer's output.
    pull: a step takes latent weights back towards where they started by this times the rate of
    weights, so that they leave the float network's only where that pays (decoupled decay as in
    arXiv 1711.05101, but not towards zero). mirror: mirror images count as further images; for
    "reconstruct" only, "distill" mirrors half of its crops anyway.
    """

    epochs: float = Field(gt=0.0, le=1000.0)
    batch: int = Field(default=32, ge=1, le=1024)
    weight: float = Field(default=0.01, ge=0.0, le=1.0)
    scale: float = Field(default=0.002, ge=0.0, le=1.0)
    bias: float = Field(default=0.002, ge=0.0, le=1.0)
    grid: float = Field(default=0.002, ge=0.0, le=1.0)
    pull: float = Field(default=0.0, ge=0.0, le=100.0)
    mirror: bool = False


class Recipe(_Table):
    """Everything that decides how a float32 graph becomes a compressed one.

    precision: of all layers that no override treats ("fp32" leaves the graph as it is).
    first: the layers that no other layer feeds; its `activations` are the bits of the image.
    last: the layers that feed no other; its `activations` are the bits of what they read.
    squeeze_excite: pooled vectors, gates and their two layers.
    steps: what is done after rounding to nearest, in this order: "bias_correction"; "reconstruct"
    trains block by block, "distill" the whole network, as their tables say.
    seed: of everything random.
    """

    name: str = Field(min_length=1)
    description: str = ""
    precision: Precision = "int"
    weights: WeightRange = WeightRange()
    activations: ActivationRange = ActivationRange()
    first: Layers = Layers()
    last: Layers = Layers()
    squeeze_excite: Layers = Layers()
    override: tuple[Override, ...] = ()
    steps: tuple[Step, ...] = ()
    reconstruct: Training = Training(epochs=4.0)
    distill: Training = Training(epochs=10.0)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _steps_once(self) -> Recipe:
        if len(set(self.steps)) != len(self.steps):
            raise ValueError("a step is listed twice")
        return self

"""The schema of a recipe. docs in the fields; examples are the TOML files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from subbyte.errors import GraphError
from subbyte.quant import Format, activation_format, weight_format
from subbyte.quant.format import INT8, UINT8, pattern_named
from subbyte.quant.pattern import DENSE
from subbyte.recipes.steps import STEPS, Need


def _parsed(parse: Callable[[object], object]) -> Any:
    def checked(value: object) -> object:
        try:
            return parse(value)
        except GraphError as error:
            raise ValueError(str(error)) from None

    return PlainValidator(checked)


_SHORT = PlainSerializer(lambda found: found.short)
#: Formats, written as a number of bits, like 4, or as a text, like "int4".
WeightFormat = Annotated[Format, _parsed(weight_format), _SHORT]
ActivationFormat = Annotated[Format, _parsed(activation_format), _SHORT]
#: A sparsity pattern by name: "dense", "2:4", "4x16:50" (docs/sparsity.md).
PatternName = Annotated[str, _parsed(lambda value: pattern_named(value).name)]
Precision = Literal["int", "fp32", "fp16"]
#: Bits a weight in a compact file, at least and at most.
RATES = (1.0, 8.0)
Role = Literal["first", "last", "depthwise", "pointwise", "spatial", "linear", "squeeze_excite", "residual"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Grown(_Table):
    """A table with options that files of the first version do not know, `later`.

    They stand in a file only where they are used.
    """

    later: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _only_used(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unused = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in plain(self).items() if name not in unused}


class _Patterned(_Grown):
    """A table with a sparsity pattern."""

    later: ClassVar[frozenset[str]] = frozenset(("pattern",))

    pattern: PatternName | None = "dense"

    def _checked(self, weights: Format | None) -> None:
        """ValueError if weights name another pattern than `pattern`."""
        given = self.pattern if "pattern" in self.model_fields_set else None
        if weights is not None and weights.pattern != DENSE and given not in (None, weights.pattern.name):
            raise ValueError(f"weights of {weights} do not have the pattern {given}; say it once")


def _with_pattern(weights: Format, name: str | None) -> Format:
    """Weights that name no pattern with that one."""
    return (
        weights if name is None or weights.pattern != DENSE else replace(weights, pattern=pattern_named(name))
    )


class WeightRange(_Patterned):
    """The format of weights, and what their scales (one per output channel, symmetric) cover.

    pattern: which weights stay, "dense": all; those of depthwise layers always. `bits` may name it too, as in
    "int8+2:4". What it leaves out is zero in every step of training.
    range: "minmax" covers every weight; "mse" takes the scale with the least squared error; "rate" gives
    dense 8-bit weights the scales at which their codes take `rate` bits each, in the mean, in an entropy
    coder, and the outputs are least in error (quantize/rate.py); other weights are as with "mse".
    coding: how dense codes are stored: "fixed", all in `bits` bits, or "entropy", frequent ones in fewer.
    levels: the code book of dense weights below 8 bits: "uniform" is two's complement, "symmetric" has
    equal steps around zero without a zero (ParetoQ, arXiv 2502.02631, finds it better at 2 bits),
    "learned" is fitted to each layer.
    spare: the layers with the fewest weights keep all of them, in 8 bits, as many layers as this share of all
    weights covers. Layers that another table or an override names keep what these say.
    """

    later: ClassVar[frozenset[str]] = frozenset(("pattern", "spare", "rate", "coding"))

    bits: WeightFormat = INT8
    pattern: PatternName = "dense"
    levels: Literal["uniform", "symmetric", "learned"] = "uniform"
    range: Literal["minmax", "mse", "rate"] = "mse"
    rate: float = Field(default=4.0, ge=RATES[0], le=RATES[1])
    coding: Literal["fixed", "entropy"] = "fixed"
    spare: float = Field(default=0.0, ge=0.0, le=1.0)

    @property
    def format(self) -> Format:
        """Bits and pattern together."""
        return _with_pattern(self.bits, self.pattern)

    @model_validator(mode="after")
    def _consistent(self) -> WeightRange:
        self._checked(self.bits)
        if self.range == "rate" and self.coding != "entropy":
            raise ValueError('range = "rate" counts bits of an entropy coder; set coding = "entropy"')
        return self


class ActivationRange(_Grown):
    """The format of activations, and what their grids (one per tensor) cover.

    range: "minmax" covers all that calibration saw; "percentile" cuts the same share of values
    off either end, 100 - `percentile` per cent in all; "mse" takes the grid with the least squared
    error, measured behind the activation function where one follows; "fisher" weights each squared error
    by the squared gradient of the network's outputs there, so that what they depend on counts.
    levels: of activations below 8 bits: "uniform" codes are equidistant, 0 .. 2**bits - 1; "learned" ones
    are as many bytes with the least squared error, whatever `range` says, where nothing but tables make a
    tensor (behind a layer without a residual, or behind an activation); others stay uniform.
    balance: which values get a factor for each channel before anything is rounded, so that their channels
    share one scale better (quantize/balance.py): "gates", the products of squeeze-and-excitation; "linear",
    what layers without activation make, and residual sums of it; "all", both.
    spare: where `bits` are fewer than 8, the tensors with the fewest elements keep 8 bits, as many as this
    share of all activations covers: late residual streams, for instance. What another table or an override
    names keeps what these say.
    """

    later: ClassVar[frozenset[str]] = frozenset(("levels", "balance", "spare"))

    bits: ActivationFormat = UINT8
    levels: Literal["uniform", "learned"] = "uniform"
    range: Literal["minmax", "percentile", "mse", "fisher"] = "mse"
    percentile: float = Field(default=99.999, gt=50.0, le=100.0)
    balance: Literal["none", "gates", "linear", "all"] = "none"
    spare: float = Field(default=0.0, ge=0.0, le=1.0)


class Layers(_Patterned):
    """Formats of a group of layers: of their weights, and of the activations named there; the pattern of
    their weights."""

    weights: WeightFormat = INT8
    pattern: PatternName = "dense"
    activations: ActivationFormat = UINT8

    @property
    def format(self) -> Format:
        """Of the weights, bits and pattern together."""
        return _with_pattern(self.weights, self.pattern)

    @model_validator(mode="after")
    def _one_pattern(self) -> Layers:
        self._checked(self.weights)
        return self


class Override(_Patterned):
    """A rule for the nodes that fit both `match` (a glob over names) and `role`; later rules win.

    weights: format of their weights, which keep their pattern unless it names one; pattern: of their
    weights, "dense" for none; activations: format of what they produce; precision: run them in
    float32, or in float32 with weights stored as float16.
    """

    match: str | None = None
    role: Role | None = None
    weights: WeightFormat | None = None
    activations: ActivationFormat | None = None
    precision: Precision | None = None
    pattern: PatternName | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Override:
        if self.match is None and self.role is None:
            raise ValueError("an override needs match or role")
        if all(value is None for value in (self.weights, self.pattern, self.activations, self.precision)):
            raise ValueError("an override needs weights, pattern, activations or precision")
        if self.precision in ("fp32", "fp16") and (self.weights or self.activations or self.pattern):
            raise ValueError(
                f"a layer in {self.precision} has no bits; leave out weights, pattern and activations"
            )
        self._checked(self.weights)
        return self


def _known_step(name: str) -> str:
    """The name of a row of STEPS. ValueError otherwise, in pydantic's words."""
    if name not in STEPS:
        *others, last = map(repr, STEPS)
        raise ValueError(f"Input should be {', '.join(others)} or {last}")
    return name


class Recipe(_Table):
    """Everything that decides how a float32 graph becomes a compressed one.

    precision: of all layers that no override treats ("fp32" leaves the graph as it is).
    first: the layers that no other layer feeds; its `activations` are the bits of the image.
    last: the layers that feed no other; its `activations` are the bits of what they read.
    squeeze_excite: pooled vectors, gates and their two layers.
    steps: what is done before rounding to nearest (`unrounded` rows of STEPS) and after it, in this order:
    names of rows of STEPS, each as its table of that name says, if its row has a configuration.
    seed: of everything random.
    """

    model_config = ConfigDict(extra="allow")  # the steps' tables, which `_step_tables` has validated

    name: str = Field(min_length=1)
    description: str = ""
    precision: Precision = "int"
    weights: WeightRange = WeightRange()
    activations: ActivationRange = ActivationRange()
    first: Layers = Layers()
    last: Layers = Layers()
    squeeze_excite: Layers = Layers()
    override: tuple[Override, ...] = ()
    steps: tuple[Annotated[str, AfterValidator(_known_step)], ...] = ()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _step_tables(cls, data: Any) -> Any:
        """Everything that is no field as the tables of steps, each of its row's type."""
        if not isinstance(data, Mapping):
            return data
        given = {key: value for key, value in data.items() if key not in cls.model_fields}
        listed = data.get("steps", ())
        listed = listed if isinstance(listed, (list, tuple)) else ()  # what is wrong is said by the field
        types: dict[str, Any] = {
            name: (type(row.configuration), row.configuration)
            for name, row in STEPS.items()
            if row.configuration is not None and (row.kept or name in given or name in listed)
        }
        tables = create_model("Tables", __base__=_Table, **types).model_validate(given)
        return {**data, **dict(tables)}

    @model_validator(mode="after")
    def _steps_once(self) -> Recipe:
        if len(set(self.steps)) != len(self.steps):
            raise ValueError("a step is listed twice")
        early = [STEPS[name].unrounded for name in self.steps]
        if early != sorted(early, reverse=True):
            first = next(name for name in self.steps if STEPS[name].unrounded)
            raise ValueError(f"{first!r} works on weights before they are rounded; list it first")
        shaping = [STEPS[name].reshapes for name in self.steps]
        if shaping != sorted(shaping, reverse=True):
            first = next(name for name in self.steps if STEPS[name].reshapes)
            raise ValueError(f"{first!r} changes the shapes of weights; list it first")
        return self

    def configuration(self, step: str) -> Any:
        """What the recipe says of a step, of its row's type; None for a step without a configuration."""
        return (self.model_extra or {}).get(step, STEPS[step].configuration)

    def needs(self, step: str) -> tuple[Need, ...]:
        """What a step reads of the data, as its row and its configuration say."""
        return (*STEPS[step].needs, *getattr(self.configuration(step), "needs", ()))

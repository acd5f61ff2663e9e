"""A space of networks as data: what each part of a network may be, and the network that choices make.

A network is what models/tables.py describes, stem, stages of equal blocks, head, classifier; a space gives a
list of values where an Architecture has one. No torch here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from subbyte.errors import GraphError, InputError
from subbyte.models.tables import Architecture, Stage
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format, weight_format
from subbyte.recipes.load import describe
from subbyte.system.text_file import read_text
from subbyte.system.toml import parse_toml

MAX_BYTES = 1 << 16
#: Kinds of blocks (models/tables.py) from the most multiplications to the least.
KINDS = ("er", "ir", "cn", "ds")
EXPANDING = ("er", "ir")
#: Sides of an input, channels, and blocks of a stage, at most.
MOST_PIXELS, MOST_CHANNELS, MOST_BLOCKS = 2048, 8192, 128

Choice: TypeAlias = bool | int | float | str
Choices: TypeAlias = Mapping[str, Choice]


def _several(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) != len(values):
        raise ValueError("give one value or several different ones")
    return values


def _fours(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(value % 4 for value in values):
        raise ValueError("numbers of channels are multiples of 4")
    return values


def _odd(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(value % 2 == 0 for value in values):
        raise ValueError("kernels have odd sides")
    return values


def _squeezes(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(value != 0.0 and not 0.125 <= value <= 1.0 for value in values):
        raise ValueError("squeeze-and-excitation is 0 (none) or a share of 0.125 to 1")
    return values


def _formats(values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(weight_format(value)) for value in values)
    except GraphError as error:
        raise ValueError(str(error)) from None


_Channels = Annotated[
    tuple[Annotated[int, Field(ge=8, le=MOST_CHANNELS)], ...],
    AfterValidator(_several),
    AfterValidator(_fours),
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class StageSpace(_Table):
    """What a stage may be; see models.tables.Stage.

    kind: cn, er (fused MBConv), ds (depthwise separable), ir (MBConv). depth: blocks. kernel: of the
    convolution that is not 1 x 1. stride: of the first block. expand: of er and ir. channels: of the output.
    se: squeeze-and-excitation, 0 for none; of all but cn. skip: whether blocks add their input. weights:
    formats of the stage's weights, bits and sparsity, such as "int8", "int4", "int8+2:4".
    """

    kind: Annotated[tuple[Literal["cn", "er", "ds", "ir"], ...], AfterValidator(_several)]
    depth: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_BLOCKS)], ...], AfterValidator(_several)]
    channels: _Channels
    stride: Literal[1, 2] = 1
    kernel: Annotated[
        tuple[Annotated[int, Field(ge=1, le=11)], ...], AfterValidator(_several), AfterValidator(_odd)
    ] = (3,)
    expand: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], AfterValidator(_several)] = (4,)
    se: Annotated[tuple[float, ...], AfterValidator(_several), AfterValidator(_squeezes)] = (0.0,)
    skip: Annotated[tuple[bool, ...], AfterValidator(_several)] = (True,)
    weights: Annotated[tuple[str, ...], AfterValidator(_formats), AfterValidator(_several)] = ("int8",)


class Space(_Table):
    """All networks that a search may choose from.

    resolution: sides of the square input, pixels. stem, head: channels. activation: of all blocks. mean, std:
    of pixel / 255, what images are normalized by.
    """

    name: str = Field(min_length=1, max_length=80)
    description: str = ""
    activation: Literal["silu", "relu", "relu6"] = "silu"
    resolution: Annotated[tuple[Annotated[int, Field(ge=8, le=MOST_PIXELS)], ...], AfterValidator(_several)]
    stem: _Channels
    stage: tuple[StageSpace, ...] = Field(min_length=1, max_length=32)
    head: _Channels
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[
        Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]
    ] = (
        0.229,
        0.224,
        0.225,
    )

    def input(self, side: int) -> Preprocessing:
        """Images of that resolution, squashed to a square; nothing is cut off."""
        return Preprocessing(side, side, self.mean, self.std, "bicubic", 1.0, "squash")

    def lists(self) -> dict[str, tuple[Choice, ...]]:
        """Everything that there is to choose, by name, with its values: "resolution", "stage0.kernel", ..."""
        found: dict[str, tuple[Choice, ...]] = {"resolution": self.resolution, "stem": self.stem}
        for i, stage in enumerate(self.stage):
            for name in type(stage).model_fields:
                if name != "stride":
                    found[f"stage{i}.{name}"] = getattr(stage, name)
        return {**found, "head": self.head}

    def size(self) -> int:
        """How many combinations of choices there are."""
        return math.prod(map(len, self.lists().values()))

    def candidate(self, choices: Choices) -> Candidate:
        """The network of these choices; what has one value only may be left out.

        Raises InputError for a choice that is missing, unknown or no value of its list.
        """
        lists = self.lists()
        unknown = [name for name in choices if name not in lists]
        if unknown:
            raise InputError(f"the space {self.name} has no choice {unknown[0]!r:.80}")

        def chosen(name: str) -> Any:
            values = lists[name]
            value = choices.get(name, values[0] if len(values) == 1 else None)
            if value not in values:
                known = ", ".join(map(str, values))
                raise InputError(f"{name} of the space {self.name} is one of {known}, not {value!r:.80}")
            return value

        stages = []
        for i, stage in enumerate(self.stage):
            own = {name: chosen(f"stage{i}.{name}") for name in type(stage).model_fields if name != "stride"}
            own["expand"] = own["expand"] if own["kind"] in EXPANDING else 1
            own["se"] = 0.0 if own["kind"] == "cn" else own["se"]
            stages.append(StageChoice(**own, stride=stage.stride))
        ends = (chosen("stem"), chosen("head"))
        return Candidate(chosen("resolution"), *ends, tuple(stages), self.activation)

    def random(self, generator: random.Random) -> Candidate:
        """Every choice drawn uniformly and on its own."""
        return self.candidate({name: generator.choice(values) for name, values in self.lists().items()})

    @property
    def largest(self) -> Candidate:
        """The network with the most of everything."""
        return self._end(max)

    @property
    def smallest(self) -> Candidate:
        """The network with the least of everything."""
        return self._end(min)

    def _end(self, end: Callable[..., Choice]) -> Candidate:
        """By `min` or `max` of each list."""
        return self.candidate({name: end(values, key=_amount(name)) for name, values in self.lists().items()})


@dataclass(frozen=True)
class StageChoice:
    """A stage with one value for everything; see StageSpace."""

    kind: Literal["cn", "er", "ds", "ir"]
    depth: int
    kernel: int
    stride: int
    expand: int
    channels: int
    se: float
    skip: bool
    weights: str

    @property
    def format(self) -> Format:
        """Of the stage's weights."""
        return weight_format(self.weights)


@dataclass(frozen=True)
class Candidate:
    """A network of a space, as plain, hashable data."""

    resolution: int
    stem: int
    head: int
    stages: tuple[StageChoice, ...]
    activation: Literal["silu", "relu", "relu6"]

    @property
    def architecture(self) -> Architecture:
        """What `models.efficientnet.EfficientNet` builds."""
        stages = tuple(
            Stage(s.kind, s.depth, s.kernel, s.stride, s.expand, s.channels, s.se, residual=s.skip)
            for s in self.stages
        )
        return Architecture(self.stem, stages, self.head, self.activation)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _amount(name: str) -> Callable[[Any], Any]:
    """What `largest` and `smallest` compare the values of a list by."""
    field = name.rpartition(".")[2]
    if field == "kind":
        return lambda kind: -KINDS.index(kind)
    if field == "weights":
        return lambda text: weight_format(text).width
    if field == "skip":
        return lambda skip: 0  # a network without is not smaller, only harder to train: the first one
    return lambda value: value


def list_spaces() -> list[str]:
    """The names of the spaces that come with the package, sorted."""
    folder = resources.files("subbyte.search").joinpath("spaces")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_space(name_or_path: str | Path) -> Space:
    """The space of that name, or the one in a TOML file (anything with a `/` or ending in .toml).

    Raises InputError: unknown name, unreadable file, or a file that describes no space.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return _parse(read_text("the space", Path(name_or_path), MAX_BYTES), text)
    if text not in list_spaces():
        known = ", ".join(list_spaces())
        raise InputError(f"there is no space {text!r:.80}; known: {known}, or the path of a .toml file")
    folder = resources.files("subbyte.search").joinpath("spaces")
    return _parse(folder.joinpath(f"{text}.toml").read_text("utf-8"), text)


def _parse(text: str, origin: str) -> Space:
    try:
        return Space.model_validate(parse_toml(text))
    except ValidationError as error:
        raise InputError(f"the space {origin} is invalid: {describe(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the space {origin} is not valid TOML: {error}") from None

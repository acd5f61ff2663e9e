"""The steps that a recipe can list, one row each: what is done after rounding to nearest.

The rows are data, so that reading a recipe imports nothing of what carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Need = Literal["images", "labels", "task"]
#: The options of training that files of the first version hold, whether they are used or not.
FIRST_OPTIONS = frozenset(("epochs", "batch", "weight", "scale", "bias", "grid", "pull", "mirror"))

#: Bits that training may go through; files hold other ones.
TrainedWidth = Annotated[int, Field(ge=2, le=8)]


class Training(BaseModel):
    """How a step trains: Adam (arXiv 1412.6980), rates that fall along a cosine to zero.

    epochs: how often it sees every image; batch: images per step. Rates per step, at the
    start: `weight` in root mean squares of the layer's weights; `scale` and `grid`, relative change
    of weight and activation scales; `bias` in sixteenths of the range of the layer's output.
    pull: a step takes latent weights back towards where they started by this times the rate of
    weights, so that they leave the float network's only where that pays (decoupled decay as in
    arXiv 1711.05101, but not towards zero). mirror: mirror images count as further images; for
    "reconstruct" only, "distill" mirrors half of its crops anyway.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(gt=0.0, le=1000.0)
    batch: int = Field(default=32, ge=1, le=1024)
    weight: float = Field(default=0.01, ge=0.0, le=1.0)
    scale: float = Field(default=0.002, ge=0.0, le=1.0)
    bias: float = Field(default=0.002, ge=0.0, le=1.0)
    grid: float = Field(default=0.002, ge=0.0, le=1.0)
    pull: float = Field(default=0.0, ge=0.0, le=100.0)
    mirror: bool = False


class Distillation(Training):
    """How the network is trained as a whole: what it is compared with, and what is learned.

    Losses, each times its weight, those of weight 0 not computed at all. `logits`: the task's distance of
    outputs; `temperature` softens class scores before it (arXiv 1503.02531). `features`: squared error of
    what the blocks make, over the teacher's mean square. `attention`: squared distance of their attention
    maps (arXiv 1612.03928). `gates`: as features, of squeeze-and-excitation gates. `labels`: cross entropy
    with the images' labels, which have to be given.
    teacher: the path of an artifact that takes the float network's place; None: the float network.
    grids: what `grid` trains: the scales of activations below 8 bits, or "all", also those in front of
    tables.
    offset: the rate of the zero points of what layers make, in codes, 0: they stay (LSQ+, arXiv 2004.09576;
    they remain codes). gradient_scale: gradients of step sizes times 1/√(N·Q) as in LSQ (arXiv 1902.08153);
    Adam alone does not notice, a limit on the norm of all gradients does. range_decay: this times the mean
    square of the upper ends of all learned activation ranges, in units of where they began, is part of the
    loss (PACT, arXiv 1805.06085).
    affine: in this share of the steps, the last ones, weights stand still and all else learns.

    estimator, activation_estimator: how gradients pass the rounding of weights and of what layers make, and
    `strength` (None: the usual one); see execute/torch/estimators.py.
    unrounded: the share of weights, drawn anew in every step, that is not rounded (arXiv 2004.07320).
    weight_widths, activation_widths: bits that training goes through before the recipe's own, like [8, 6];
    the grids keep their ranges. They take equal parts of the first `narrowed` of all steps; where `plateau`
    is given, the next one also comes once the loss has not fallen for so many steps.
    damping: this times the mean square distance of weights from what they round to, in steps, is part of the
    loss, rising along a cosine from 0; freeze: weights that change their code to and fro more often than
    this, per step, keep the one they had most (both arXiv 2203.11086). kurtosis: this times the mean square
    distance of the layers' kurtosis from 1.8, a uniform distribution's (arXiv 2002.07686).
    bias_correction: that step again, behind training.

    A recipe that is written to a file holds of these options only those that are not at their default.
    """

    teacher: str | None = Field(default=None, min_length=1)
    logits: float = Field(default=1.0, ge=0.0, le=1e6)
    temperature: float = Field(default=1.0, ge=0.1, le=100.0)
    features: float = Field(default=0.0, ge=0.0, le=1e6)
    attention: float = Field(default=0.0, ge=0.0, le=1e6)
    gates: float = Field(default=0.0, ge=0.0, le=1e6)
    labels: float = Field(default=0.0, ge=0.0, le=1e6)
    grids: Literal["narrow", "all"] = "narrow"
    offset: float = Field(default=0.0, ge=0.0, le=1.0)
    gradient_scale: bool = False
    range_decay: float = Field(default=0.0, ge=0.0, le=1e6)
    affine: float = Field(default=0.0, ge=0.0, le=1.0)
    estimator: Literal["ste", "ewgs", "soft"] = "ste"
    activation_estimator: Literal["ste", "ewgs", "soft"] = "ste"
    strength: float | None = Field(default=None, gt=0.0, le=20.0)
    unrounded: float = Field(default=0.0, ge=0.0, lt=1.0)
    weight_widths: tuple[TrainedWidth, ...] = ()
    activation_widths: tuple[TrainedWidth, ...] = ()
    narrowed: float = Field(default=0.5, gt=0.0, le=1.0)
    plateau: int | None = Field(default=None, ge=1)
    damping: float = Field(default=0.0, ge=0.0, le=1e6)
    freeze: float = Field(default=0.0, ge=0.0, lt=1.0)
    kurtosis: float = Field(default=0.0, ge=0.0, le=1e6)
    bias_correction: bool = False

    @model_validator(mode="after")
    def _sensible(self) -> Distillation:
        if not self.taught and self.labels == 0.0:
            raise ValueError(
                "there is nothing to learn from: logits, features, attention, gates, labels are 0"
            )
        for name in ("weight_widths", "activation_widths"):
            widths = getattr(self, name)
            if list(widths) != sorted(set(widths), reverse=True):
                raise ValueError(f"{name} must fall, like [8, 6]")
        return self

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in whole(self).items()
            if name in FIRST_OPTIONS or getattr(self, name) != fields[name].default
        }

    @property
    def taught(self) -> bool:
        """Whether any loss compares with a teacher."""
        return any((self.logits, self.features, self.attention, self.gates))

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the options ask for beside what the step does anyway."""
        return ("labels",) if self.labels else ()


@dataclass(frozen=True)
class Step:
    """run: `module:function`, imported when it is used; takes a subbyte.steps.Context, gives a Graph.

    configuration: what the recipe's table of the step's name holds where nothing is said, and its type; None:
    there is no such table. needs: what of a compression's data the step reads beside the graphs; a
    configuration may have `needs` of its own.
    after: the steps before it in recipes whose name ends in this one's, like w4a8-distill, and words: what
    it does to the network then; None: no name does. kept: the table stands in every recipe, as it does in
    files of the first version; else where the step is asked for. check: `module:function` that takes the
    float graph, the configuration and the task's name, and raises before any work what `run` would.
    """

    run: str
    configuration: BaseModel | None = None
    needs: tuple[Need, ...] = ("images",)
    after: tuple[str, ...] | None = None
    words: str = ""
    kept: bool = False
    check: str | None = None


STEPS: dict[str, Step] = {
    "bias_correction": Step("subbyte.steps.bias_correction:run"),
    "reconstruct": Step(
        "subbyte.steps.reconstruct:run",
        Training(epochs=4.0),
        after=("bias_correction",),
        words="trained block by block",
        kept=True,
    ),
    "distill": Step(
        "subbyte.steps.distill:run",
        Distillation(epochs=10.0),
        needs=("images", "task"),
        after=("bias_correction", "reconstruct"),
        words="as a whole",
        kept=True,
        check="subbyte.steps.distill:check",
    ),
}


def endings() -> dict[str, tuple[tuple[str, ...], str]]:
    """What a recipe's name may end in: the steps that it then stands for, and what they do, in words."""
    found = {name: (*row.after, name) for name, row in STEPS.items() if row.after is not None}
    words = {name: filter(None, (STEPS[step].words for step in steps)) for name, steps in found.items()}
    return {name: (steps, ", then ".join(words[name])) for name, steps in found.items()}

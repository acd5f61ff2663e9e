"""The steps that a recipe can list, one row each: what is done after rounding to nearest.

The rows are data, so that reading a recipe imports nothing of what carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Need = Literal["images", "labels", "task"]


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


class Reconstruction(Training):
    """How blocks are trained one after the other.

    steps: of the optimizer, for each block, 0: as many as `epochs` makes; published results at 4 bits spend
    2,000 to 20,000.
    rounding: "latent" trains weights that are rounded straight through, "adaround" (arXiv 2004.10568)
    only whether each one is rounded down or up; `weight` is then the rate of the arguments of its sigmoids,
    and with `scale` 0 it is the method of the paper. For "adaround" alone: regularizer, the weight of
    the term that drives roundings to 0 or 1, in units of the loss, for a layer whose every rounding is
    undecided; regularize_after, the share of training, by the sum of rates, before it acts; beta, its
    exponent then and at the end.
    drop: the share of activations, drawn anew for every image and step, that stay unrounded while
    a block is trained, and are the float network's at its input (QDrop, arXiv 2203.05740).
    held_back: the share of images that training does not see; a block's error on them is measured before the
    first step and every `check` steps, 0: ten times in all, and what was best there is the result. patience:
    a block ends after so many checks in turn without a better one, 0: never; for "latent" alone.
    grids: what `grid` trains: the scales of activations below 8 bits, or "all" that the block makes, with
    those in front of tables. narrow_only: blocks with nothing below 8 bits are left as they are.
    storage: "disk" keeps images and what blocks read and make in files, of the work folder
    if there is one, that vanish with the process: then all images given are trained on.
    """

    epochs: float = Field(default=4.0, gt=0.0, le=1000.0)
    steps: int = Field(default=0, ge=0, le=10_000_000)
    rounding: Literal["latent", "adaround"] = "latent"
    regularizer: float = Field(default=1.0, ge=0.0, le=1000.0)
    regularize_after: float = Field(default=0.2, ge=0.0, lt=1.0)
    beta: tuple[float, float] = (20.0, 2.0)
    drop: float = Field(default=0.0, ge=0.0, le=1.0)
    held_back: float = Field(default=0.0, ge=0.0, le=0.5)
    check: int = Field(default=0, ge=0)
    patience: int = Field(default=0, ge=0)
    grids: Literal["narrow", "all"] = "narrow"
    narrow_only: bool = True
    storage: Literal["memory", "disk"] = "memory"

    @model_validator(mode="after")
    def _consistent(self) -> Reconstruction:
        if self.rounding == "adaround" and (self.pull or self.patience):
            raise ValueError('pull and patience are for rounding = "latent"; leave them out, or at 0')
        if not 64.0 >= self.beta[0] >= self.beta[1] >= 1.0:
            raise ValueError("beta must fall, between 64 and 1")
        if (self.check or self.patience) and not self.held_back:
            raise ValueError("check and patience need held_back, a share of images to check on")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without options that say nothing: files of recipes that do not name them stay as they were."""
        first, said = Training.model_fields, handler(self)
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {k: v for k, v in said.items() if k in first or getattr(self, k) != defaults[k]}


@dataclass(frozen=True)
class Step:
    """run: `module:function`, imported when it is used; takes a subbyte.steps.Context, gives a Graph.

    configuration: what the recipe's table of the step's name holds where nothing is said, and its type; None:
    there is no such table. needs: what of a compression's data the step reads beside the graphs.
    after: the steps before it in recipes whose name ends in this one's, like w4a8-distill, and words: what
    it does to the network then; None: no name does. kept: the table stands in every recipe, as it does in
    files of the first version; else where the step is asked for.
    """

    run: str
    configuration: BaseModel | None = None
    needs: tuple[Need, ...] = ("images",)
    after: tuple[str, ...] | None = None
    words: str = ""
    kept: bool = False


STEPS: dict[str, Step] = {
    "bias_correction": Step("subbyte.steps.bias_correction:run"),
    "reconstruct": Step(
        "subbyte.steps.reconstruct:run",
        Reconstruction(),
        after=("bias_correction",),
        words="trained block by block",
        kept=True,
    ),
    "distill": Step(
        "subbyte.steps.distill:run",
        Training(epochs=10.0),
        needs=("images", "task"),
        after=("bias_correction", "reconstruct"),
        words="as a whole",
        kept=True,
    ),
}


def endings() -> dict[str, tuple[tuple[str, ...], str]]:
    """What a recipe's name may end in: the steps that it then stands for, and what they do, in words."""
    found = {name: (*row.after, name) for name, row in STEPS.items() if row.after is not None}
    words = {name: filter(None, (STEPS[step].words for step in steps)) for name, steps in found.items()}
    return {name: (steps, ", then ".join(words[name])) for name, steps in found.items()}

"""The steps that a recipe can list, one row each: what is done after rounding to nearest.

The rows are data, so that reading a recipe imports nothing of what carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Need = Literal["images", "labels", "task"]


class Training(BaseModel):
    """How a step trains: Adam (arXiv 1412.6980), rates that fall along a cosine to zero.

    epochs: how often it sees every image; batch: images per step. Rates per step, at the
    start: `weight` in root mean squares of the layer's weights; `scale` and `grid`, relative change
    of weight and activation scales; `bias` in sixteenths of the range of the layer's output.
    pull: a step takes latent weights back towards where they started by this times the rate of
    weights, so that they leave the float network's only where that pays (decoupled decay as in
    arXiv 1711.05101, but not towards zero). mirror: mirror images count as further images; for
    "reconstruct" only, "distill" mirrors half of its crops anyway. gradients: the numbers that gradients of
    convolutions are computed from; "bfloat16" takes half the time on CPUs that multiply them, on others it
    is "float32".
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
    gradients: Literal["float32", "bfloat16"] = "float32"


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
        Training(epochs=4.0),
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

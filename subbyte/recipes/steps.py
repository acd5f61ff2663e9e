"""The steps that a recipe can list, one row each: what is done before and after rounding to nearest.

The rows are data, so that reading a recipe imports nothing of what carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Need = Literal["images", "labels", "task"]
#: Bits that training may go through; files hold other ones.
TrainedWidth = Annotated[int, Field(ge=2, le=8)]


class Options(BaseModel):
    """Options of a step. What files of the first version held (`always`) stands in every file; of the others
    only what differs from the default, so that an option that is not used changes no file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    always: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in handler(self).items()
            if name in self.always or getattr(self, name) != fields[name].default
        }


class Training(Options):
    """How a step trains: Adam (arXiv 1412.6980), rates that fall along a cosine to zero.

    epochs: how often it sees every image; batch: images per step. steps: of the optimizer, 0: as many as
    `epochs` makes; one of the two is needed. Rates per step, at the start: `weight` in root mean squares of
    the layer's weights; `scale` and `grid`, relative change of weight and activation scales; `bias` in
    sixteenths of the range of the layer's output. warmup: the share of the steps in which the rates first
    rise from zero, in equal parts (arXiv 1706.02677).
    pull: a step takes latent weights back towards where they started by this times the rate of
    weights, so that they leave the float network's only where that pays (decoupled decay as in
    arXiv 1711.05101, but not towards zero). mirror: mirror images count as further images; for
    "reconstruct" only, "distill" mirrors half of its crops anyway. gradients: the numbers that gradients of
    convolutions are computed from; "bfloat16" takes half the time on CPUs that multiply them, on others it
    is "float32".

    clip: a gradient whose norm is larger is shortened to it (arXiv 1211.5063), 0: none is; clip_by: the norm
    of the gradient by "all" parameters, or for each "kind" of them or each "tensor" on its own. A scale
    counts with its gradient over the root of the number of weights that it scales, as it sums over them
    (LSQ, arXiv 1902.08153).
    ema: the result is the running mean of the parameters in which each step keeps this share of what was
    (arXiv 1703.01780), 0: the last ones. tail: the result is the plain mean over this share of the steps, at
    the end (arXiv 1803.05407). Latent weights are averaged, and the mean is rounded.
    held_back: the share of images that training does not see; they are measured before the first step and
    every `check` steps, 0: ten times in all, and what was best there is the result. patience: training ends
    after so many checks in turn without a better one, 0: never before its end.
    storage: "disk" keeps images, and what blocks read and make, in files, of the work folder if there is one,
    that vanish with the process: then all images given are trained on.
    """

    always: ClassVar[frozenset[str]] = frozenset(
        ("batch", "weight", "scale", "bias", "grid", "pull", "mirror")
    )

    epochs: float = Field(default=0.0, gt=0.0, le=1000.0)
    batch: int = Field(default=32, ge=1, le=1024)
    weight: float = Field(default=0.01, ge=0.0, le=1.0)
    scale: float = Field(default=0.002, ge=0.0, le=1.0)
    bias: float = Field(default=0.002, ge=0.0, le=1.0)
    grid: float = Field(default=0.002, ge=0.0, le=1.0)
    pull: float = Field(default=0.0, ge=0.0, le=100.0)
    mirror: bool = False
    gradients: Literal["float32", "bfloat16"] = "float32"
    storage: Literal["memory", "disk"] = "memory"
    steps: int = Field(default=0, ge=0, le=10_000_000)
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    clip: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    clip_by: Literal["all", "kind", "tensor"] = "all"
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    tail: float = Field(default=0.0, ge=0.0, le=1.0)
    held_back: float = Field(default=0.0, ge=0.0, le=0.5)
    check: int = Field(default=0, ge=0)
    patience: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Training:
        if not self.epochs and not self.steps:
            raise ValueError("epochs or steps is needed")
        if self.ema and self.tail:
            raise ValueError("ema and tail are two ways to average; give one")
        if (self.check or self.patience) and not self.held_back:
            raise ValueError("check and patience need held_back, a share of images to check on")
        return self


class OnGrids(Training):
    """How latent weights, which are rounded in every step, begin and move.

    weight_unit: what the rate `weight` counts in: root mean squares of each layer's weights, or the mean
    step between its levels, so that layers of more bits move less; layers that a pattern took weights from,
    which is more than a step, count in root mean squares in any case (decision 0043).
    inside: a latent weight begins where the float weight is, but inside what rounds to the code that steps
    before chose, by this share of it; 0.5: in its middle, so that codes that were learned change where the
    gradients of many images agree, and not by noise.
    """

    weight_unit: Literal["rms", "step"] = "rms"
    inside: float = Field(default=0.05, ge=0.0, le=0.5)


class Reconstruction(OnGrids):
    """How blocks are trained one after the other.

    steps: for each block; published results at 4 bits spend 2,000 to 20,000.
    rounding: "latent" trains weights that are rounded straight through, "adaround" (arXiv 2004.10568)
    only whether each one is rounded down or up; `weight` is then the rate of the arguments of its sigmoids,
    and with `scale` 0 it is the method of the paper. For "adaround" alone: regularizer, the weight of
    the term that drives roundings to 0 or 1, in units of the loss, for a layer whose every rounding is
    undecided; regularize_after, the share of training, by the sum of rates, before it acts; beta, its
    exponent then and at the end.
    drop: the share of activations, drawn anew for every image and step, that stay unrounded while
    a block is trained, and are the float network's at its input (QDrop, arXiv 2203.05740).
    images: of those given, at most so many, evenly chosen, are trained on; a step behind may see more, whose
    maps would fill disks. held_back, check, patience: for each block; patience for "latent" alone.
    grids: what `grid` trains: the scales of activations below 8 bits, or "all" that the block makes, with
    those in front of tables. narrow_only: blocks with nothing below 8 bits are left as they are.
    coded: bits that weights take in an entropy coder count, this times what a bit is worth where scales are
    chosen by "rate"; 0: they do not. Not for "adaround".
    """

    always: ClassVar[frozenset[str]] = Training.always | {"epochs"}

    epochs: float = Field(default=4.0, gt=0.0, le=1000.0)
    images: int | None = Field(default=None, ge=1)
    rounding: Literal["latent", "adaround"] = "latent"
    regularizer: float = Field(default=1.0, ge=0.0, le=1000.0)
    regularize_after: float = Field(default=0.2, ge=0.0, lt=1.0)
    beta: tuple[float, float] = (20.0, 2.0)
    drop: float = Field(default=0.0, ge=0.0, le=1.0)
    grids: Literal["narrow", "all"] = "narrow"
    narrow_only: bool = True
    coded: float = Field(default=0.0, ge=0.0, le=100.0)

    @model_validator(mode="after")
    def _consistent(self) -> Reconstruction:
        if self.rounding == "adaround" and (self.pull or self.patience):
            raise ValueError('pull and patience are for rounding = "latent"; leave them out, or at 0')
        if self.rounding == "adaround" and self.coded:
            raise ValueError('coded is for rounding = "latent"; leave it out, or at 0')
        if not 64.0 >= self.beta[0] >= self.beta[1] >= 1.0:
            raise ValueError("beta must fall, between 64 and 1")
        return self


class Taught(Training):
    """What a network in training is compared with.

    Losses, each times its weight, those of weight 0 not computed at all. `logits`: the task's distance of
    outputs; `temperature` softens class scores before it (arXiv 1503.02531). `features`: squared error of
    what the blocks make, over the teacher's mean square. `attention`: squared distance of their attention
    maps (arXiv 1612.03928). `gates`: as features, of squeeze-and-excitation gates. `labels`: cross entropy
    with the images' labels, which have to be given.
    outputs: what each of several outputs counts in `logits`, in their order; empty: all alike.
    crop: what steps see is a random crop of an image, with at least this share of its sides; 1: all of it.
    mix: of the crops of a step, this share is mixed with another one, pixel by pixel, which the teacher
    answers as it is: images that nobody has seen before (arXiv 2106.05237). Not with `labels`.
    teacher: the path of an artifact that takes the float network's place; None: the float network. Where its
    images and so its maps are larger or smaller, features are learned from its maps resized.
    """

    teacher: str | None = Field(default=None, min_length=1)
    logits: float = Field(default=1.0, ge=0.0, le=1e6)
    outputs: tuple[Annotated[float, Field(ge=0.0, le=1e6)], ...] = ()
    temperature: float = Field(default=1.0, ge=0.1, le=100.0)
    features: float = Field(default=0.0, ge=0.0, le=1e6)
    attention: float = Field(default=0.0, ge=0.0, le=1e6)
    gates: float = Field(default=0.0, ge=0.0, le=1e6)
    labels: float = Field(default=0.0, ge=0.0, le=1e6)
    crop: float = Field(default=0.7, gt=0.0, le=1.0)
    mix: float = Field(default=0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _compared(self) -> Taught:
        if self.mix and self.labels:
            raise ValueError("a mixed image has no label; leave mix or labels at 0")
        if not self.taught and self.labels == 0.0:
            raise ValueError(
                "there is nothing to learn from: logits, features, attention, gates, labels are 0"
            )
        return self

    @property
    def taught(self) -> bool:
        """Whether any loss compares with a teacher."""
        return any((self.logits, self.features, self.attention, self.gates))

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the options ask for beside what the step does anyway."""
        return ("labels",) if self.labels else ()


class Retraining(Taught):
    """How the float network is trained before it is rounded, to make up for what steps before took from it,
    or to answer as another one does: see Taught. `scale` and `grid` have nothing to train here; a bias counts
    in sixteenths of the range of what its layer makes.

    views: so many crops of each image are drawn, once, and what the teacher answers to them is kept: most of
    the time of training is a large teacher's. 0: a new crop in every step. Only for `logits` and `labels`.
    """

    views: int = Field(default=0, ge=0, le=1000)

    @model_validator(mode="after")
    def _kept(self) -> Retraining:
        if self.views and (self.features or self.attention or self.gates):
            raise ValueError("views keep what the teacher answers, not its maps; leave them out, or at 0")
        if self.views and self.mix:
            raise ValueError("views keep what the teacher answers to crops; leave views or mix at 0")
        return self


class Distillation(Taught, OnGrids):
    """How the quantized network is trained as a whole, beside what it is compared with (Taught).

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
    """

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
        for name in ("weight_widths", "activation_widths"):
            widths = getattr(self, name)
            if list(widths) != sorted(set(widths), reverse=True):
                raise ValueError(f"{name} must fall, like [8, 6]")
        return self


class BlockRemoval(Options):
    """How much work is left when residual blocks are taken out.

    share: of the network's work, at most. target: a device, a name or a TOML file, whose `cost` in 8 bits is
    the work; None: multiply-accumulates are. by: first goes the block for which the "distance" of outputs
    rises least for the work that it takes, or the one that takes most "work". images: of those given,
    at most, that the distance is measured on. outputs: what each of several outputs counts in it; empty: all
    alike.
    """

    share: float = Field(default=0.5, gt=0.0, le=1.0)
    target: str | None = Field(default=None, min_length=1)
    cost: Literal["time", "energy"] = "time"
    by: Literal["distance", "work"] = "distance"
    images: int = Field(default=64, ge=1)
    outputs: tuple[Annotated[float, Field(ge=0.0, le=1e6)], ...] = ()


class Pruning(Options):
    """Which weights become zero where a layer's format has a pattern, and what becomes of the others.

    method: what goes by; "magnitude", the squares of weights; "wanda", times the mean square of what they are
    multiplied with (arXiv 2306.11695); "obc", what the layer's error rises by when all others make up for it
    (Optimal Brain Compression, arXiv 2208.11580). compensate: those that stay, and the biases, become those
    of the least error of the layer's output.
    rounds: in which "obc" takes weights away, 1: all at once. damping: a squared distance of weights from
    what they were, this times the mean diagonal of the Hessian, is part of the error. images: of those given,
    at most. rows: output positions of a layer that its error is taken over, per weight of an output, at
    most.
    target: "dense", a layer is to make what the float network does, though it reads what pruned ones before
    it make; "own": what it made itself of what it reads. slopes: errors count by the square of the activation
    function's derivative. outputs: of a layer's outputs all errors count "equal", or, where blocks of
    different ones compete, as "fisher": by the mean squared gradient of the network's outputs. rescale: a
    factor for each output gives what is compensated the variance that it should have.
    stages: per cent of weights or blocks that stay before the recipe's patterns are reached, falling, like
    [75, 62]. After each all steps of the recipe train the network, with weights of 8 bits, and what they give
    is what the next stage prunes. stage_training: training in these stages takes this share of its epochs or
    steps.
    share: of the work of all layers with a pattern of blocks, is left; how much of each layer, and which ones
    stay dense, is chosen by what the outputs lose, and the per cent of their patterns do not count. work:
    multiplications, or the time that the layers take on this machine.
    """

    method: Literal["magnitude", "wanda", "obc"] = "obc"
    compensate: bool = True
    rounds: int = Field(default=20, ge=1, le=1000)
    damping: float = Field(default=0.01, gt=0.0, le=100.0)
    images: int = Field(default=512, ge=1)
    rows: float = Field(default=64.0, ge=1.0, le=1e6)
    target: Literal["dense", "own"] = "dense"
    slopes: bool = True
    outputs: Literal["equal", "fisher"] = "fisher"
    rescale: bool = False
    stages: tuple[Annotated[int, Field(ge=1, le=99)], ...] = ()
    stage_training: float = Field(default=1.0, gt=0.0, le=1.0)
    share: float | None = Field(default=None, gt=0.0, lt=1.0)
    work: Literal["macs", "time"] = "macs"

    @model_validator(mode="after")
    def _falling(self) -> Pruning:
        if list(self.stages) != sorted(set(self.stages), reverse=True):
            raise ValueError("stages must fall, like [75, 62]")
        return self


class ChannelPruning(Options):
    """Which channels inside blocks go, with all that makes and reads them.

    share: of them that stays, rounded up to a multiple of `multiple` where there are more. rounds, damping,
    images, rows, slopes: see Pruning.
    """

    share: float = Field(default=0.75, gt=0.0, le=1.0)
    multiple: int = Field(default=16, ge=1, le=1024)
    rounds: int = Field(default=20, ge=1, le=1000)
    damping: float = Field(default=0.01, gt=0.0, le=100.0)
    images: int = Field(default=512, ge=1)
    rows: float = Field(default=64.0, ge=1.0, le=1e6)
    slopes: bool = True


class Gptq(Options):
    """How weights below 8 bits are rounded so that what layers make changes least (GPTQ, arXiv 2210.17323).

    damping: a squared distance of weights from what they were, this times the mean diagonal of the Hessian,
    is part of the error. fits: how often scales are fitted to codes; 0: they stay. images: of those given, at
    most. rows: output positions that a layer's error is taken over, per weight of an output, at most.
    target: as in Pruning.
    """

    damping: float = Field(default=0.01, gt=0.0, le=100.0)
    fits: int = Field(default=2, ge=0, le=100)
    images: int = Field(default=512, ge=1)
    rows: float = Field(default=40.0, ge=1.0, le=1e6)
    target: Literal["dense", "own"] = "dense"


@dataclass(frozen=True)
class Step:
    """run: `module:function`, imported when it is used; takes a subbyte.steps.Context, gives a Graph.

    configuration: what the recipe's table of the step's name holds where nothing is said, and its type; None:
    there is no such table. unrounded: it works on the float graph before that is calibrated and rounded, and
    gives one of the same nodes; recipes list such steps first. reshapes: it gives them other shapes; recipes
    list such steps before those. needs: what of a compression's data the step
    reads beside the graphs; a configuration may have `needs` of its own.
    after: the steps between the recipe's own and this one where a recipe's name ends in this one's, like
    w4a8-distill, and words: what it does to the network then; None: no name does. kept: the table stands in
    every recipe, as it does in files of the first version; else where the step is asked for. check:
    `module:function` that takes the float graph, the configuration and the task's name, and raises before
    any work what `run` would.
    """

    run: str
    configuration: BaseModel | None = None
    needs: tuple[Need, ...] = ("images",)
    after: tuple[str, ...] | None = None
    words: str = ""
    kept: bool = False
    check: str | None = None
    unrounded: bool = False
    reshapes: bool = False


STEPS: dict[str, Step] = {
    "prune_channels": Step(
        "subbyte.steps.prune_channels:run", ChannelPruning(), unrounded=True, reshapes=True
    ),
    "prune": Step("subbyte.steps.prune:run", Pruning(), unrounded=True),
    "remove_blocks": Step(
        "subbyte.steps.remove_blocks:run",
        BlockRemoval(),
        needs=("images", "task"),
        check="subbyte.steps.remove_blocks:check",
        unrounded=True,
    ),
    "retrain": Step(
        "subbyte.steps.retrain:run",
        Retraining(epochs=10.0),
        needs=("images", "task"),
        check="subbyte.steps.retrain:check",
        unrounded=True,
    ),
    "bias_correction": Step("subbyte.steps.bias_correction:run"),
    "gptq": Step("subbyte.steps.gptq:run", Gptq()),
    "reconstruct": Step(
        "subbyte.steps.reconstruct:run",
        Reconstruction(),
        after=(),
        words="trained block by block",
        kept=True,
    ),
    "distill": Step(
        "subbyte.steps.distill:run",
        Distillation(epochs=10.0),
        needs=("images", "task"),
        after=("reconstruct",),
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

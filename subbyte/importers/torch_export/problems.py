"""What stops a network: which operator, where, why, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """An operator of the traced program, or an output of it.

    module: path of the module that ran it, "" for the model's own forward; kind: its class, "" of an output.
    line: `file:line` in the user's code, "" where only torch's own code called it.
    """

    operator: str
    module: str
    kind: str
    line: str = ""

    def __str__(self) -> str:
        if not self.kind:
            return self.operator
        where = f"module {self.module!r}" if self.module else "the model's own forward"
        return f"operator {self.operator} in {where} ({self.kind})"


@dataclass(frozen=True)
class Problem:
    """Why the operator at `site` cannot be captured, in words that name what would be possible."""

    site: Site
    reason: str

    def __str__(self) -> str:
        return f"{self.site} is not supported: {self.reason}"


_NORMALIZATION = "the only normalization is batch normalization"
_RESAMPLING = "maps cannot be enlarged; compress the network up to here"
_PARTS = "maps cannot be cut into parts; compute each part by a convolution of its own"
_ORDER = "dimensions cannot change their order"
_ATTENTION = "there is no attention; the engine runs convolutional networks"

#: What to say of operators that have no rule, by a part of their name; the first that fits.
_ADVICE = {
    "group_norm": _NORMALIZATION,
    "layer_norm": _NORMALIZATION,
    "instance_norm": _NORMALIZATION,
    "rms_norm": _NORMALIZATION,
    "local_response_norm": _NORMALIZATION,
    "linalg_vector_norm": _NORMALIZATION,
    "native_batch_norm": "batch normalization needs running statistics (track_running_stats)",
    "attention": _ATTENTION,
    "log_softmax": "leave it out and apply it to the outputs",
    "softmax": "leave it out and apply it to the outputs",
    "conv_transpose": _RESAMPLING,
    "upsample": _RESAMPLING,
    "pixel_shuffle": _RESAMPLING,
    "grid_sampler": _RESAMPLING,
    "interpolate": _RESAMPLING,
    "scatter": "a part of a tensor cannot be overwritten; do not work in place on parts",
    "split": _PARTS,
    "chunk": _PARTS,
    "slice": _PARTS,
    "select": _PARTS,
    "narrow": _PARTS,
    "unbind": _PARTS,
    "permute": _ORDER,
    "transpose": _ORDER,
    "channel_shuffle": _ORDER,
    "roll": "elements cannot change their places",
    "flip": "elements cannot change their places",
    "conv1d": "the only convolution is conv2d",
    "conv3d": "the only convolution is conv2d",
    "nonzero": "shapes may not depend on values",
    "item": "nothing may depend on values of the image but its outputs",
    "lstm": "there are no recurrent layers",
    "gru": "there are no recurrent layers",
    "rnn": "there are no recurrent layers",
}


def advice(operator: str) -> str:
    """One clause on an operator that has no rule, by its name without namespace and overload."""
    for part, text in _ADVICE.items():
        if part in operator:
            return text
    return "the engine has no such operation; build it from others, or leave it out"

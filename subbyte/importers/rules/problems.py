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


#: What to say of operators that have no rule, and the parts of their names; the first that fits counts.
_ADVICE = {
    "normalize by batch, layer, group or instance": ("local_response_norm renorm weight_norm"),
    "batch normalization needs running statistics (track_running_stats)": "native_batch_norm",
    "leave it out and apply it to the outputs": "log_softmax argmax topk sort",
    "maps are enlarged by their nearest elements, or bilinearly, in two dimensions": (
        "conv_transpose3d upsample grid_sampler interpolate"
    ),
    "a part of a tensor cannot be overwritten; do not work in place on parts": "scatter",
    "elements are taken by ranges, or along an axis by constant positions": "index gather take",
    "the only convolutions are those of one and two dimensions": "conv3d",
    "shapes may not depend on values": "nonzero",
    "nothing may depend on values of the image but its outputs": "item",
    "there are no recurrent layers": "lstm gru rnn",
}


def advice(operator: str) -> str:
    """One clause on an operator that has no rule, by its name without namespace and overload."""
    for text, parts in _ADVICE.items():
        if any(part in operator for part in parts.split()):
            return text
    return "the engine has no such operation; build it from others, or leave it out"

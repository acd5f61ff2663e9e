"""Which layer the first number came from that is not finite."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def culprit(module: nn.Module, forward: Callable[[], Tensor]) -> str:
    """In words. forward: repeats the forward pass that went wrong, gradients of which the parameters still
    have."""
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights of the layer {_layer(name)} are not finite"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(name)

        return hook

    leaves = [(name, m) for name, m in module.named_modules() if not any(True for _ in m.children())]
    hooks = [m.register_forward_hook(look(name)) for name, m in leaves]
    with torch.no_grad():
        forward()
    for each in hooks:
        each.remove()
    if found:
        return f"the first layer whose output is not finite is {found[0]}"
    for name, parameter in reversed(list(module.named_parameters())):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"the first layer, from the output, whose gradient is not finite is {_layer(name)}"
    return "all outputs of layers are finite, but the loss is not"


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter

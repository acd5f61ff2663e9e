"""The optimizer loop that reconstruction and distillation share."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.recipes import Training
from subbyte.steps.hooks import Hooks
from subbyte.system.whole_file import write_whole

Loss = Callable[[Tensor, torch.Generator], Tensor]
Parameters = Mapping[str, Mapping[str, Tensor]]

#: Steps between two saved states.
SAVED_EVERY = 25


def minimize(
    parameters: Parameters,
    loss: Loss,
    count: int,
    training: Training,
    generator: torch.Generator,
    report: Callable[[int], None] = lambda step: None,
    saved: Path | None = None,
    *,
    hooks: Sequence[Hooks] = (),
) -> None:
    """Trains `parameters`, leaves by kind (see Learned) and name, on `count` images.

    loss: of the images with these indices. Images come in random order, each as often as any
    other to within one. saved: a file that keeps the state; where it exists, training goes on from
    it, to the same result. hooks: see Hooks; they are called in order. Parameters that require no gradient
    stand still.
    """
    kinds = [kind for kind, tensors in parameters.items() if tensors]
    groups = [{"params": list(parameters[kind].values()), "lr": 0.0} for kind in kinds]
    optimizer = torch.optim.Adam(groups)
    starts = {name: weight.detach().clone() for name, weight in parameters["weight"].items()}
    order, begin = _restore(saved, parameters, optimizer, generator, hooks)
    steps = steps_of(training, count)
    for step in range(begin, steps):
        if len(order) < min(training.batch, count):
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        chosen, order = order[: training.batch], order[training.batch :]
        for group, kind in zip(optimizer.param_groups, kinds, strict=True):
            group["lr"] = getattr(training, kind) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        for hook in hooks:
            hook.before(step, steps)
        optimizer.zero_grad(set_to_none=True)
        loss(chosen, generator).backward()
        optimizer.step()
        if training.pull:
            rate = optimizer.param_groups[kinds.index("weight")]["lr"]
            _pull(parameters["weight"], starts, rate * training.pull)
        for hook in hooks:
            hook.after(step, steps)
        report(step + 1)
        if saved is not None and (step + 1) % SAVED_EVERY == 0:
            _save(saved, step + 1, order, parameters, optimizer, generator, hooks)


def steps_of(training: Training, count: int) -> int:
    """How many steps training on `count` images takes."""
    return max(1, round(training.epochs * count / training.batch))


def _pull(weights: Mapping[str, Tensor], starts: Mapping[str, Tensor], share: float) -> None:
    """Takes weights back towards where they started."""
    with torch.no_grad():
        for name, weight in weights.items():
            if weight.requires_grad:
                weight.lerp_(starts[name], share)


def _save(
    path: Path,
    step: int,
    order: Tensor,
    parameters: Parameters,
    optimizer: torch.optim.Adam,
    generator: torch.Generator,
    hooks: Sequence[Hooks],
) -> None:
    state = {
        "step": step,
        "order": order,
        "parameters": {kind: dict(named) for kind, named in parameters.items()},
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "hooks": [hook.state() for hook in hooks],
    }
    write_state(path, state)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values as one file, whole or not at all. InputError if that fails."""
    buffer = io.BytesIO()  # torch tells of a full disk in words of its own
    torch.save(state, buffer)
    write_whole(path, [buffer.getbuffer()])


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote; runs no code in it. InputError if the file is not such a one."""
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise _no_state(path) from None
    assert isinstance(state, dict)
    return state


def _no_state(path: Path) -> InputError:
    return InputError(f"{path} is no state of training; delete it, and its work is done again")


def set_parameters(parameters: Parameters, saved: Mapping[str, Any], path: Path) -> None:
    """Gives every parameter the numbers of its namesake in the state of a file.

    Raises InputError that names the file if it lacks one, or has one of another shape.
    """
    try:
        with torch.no_grad():
            for kind, named in parameters.items():
                for name, tensor in named.items():
                    tensor.copy_(saved[kind][name])
    except (KeyError, RuntimeError):
        raise _no_state(path) from None


def _restore(
    path: Path | None,
    parameters: Parameters,
    optimizer: torch.optim.Adam,
    generator: torch.Generator,
    hooks: Sequence[Hooks],
) -> tuple[Tensor, int]:
    """The order of images and the step to go on from; sets everything else."""
    if path is None or not path.exists():
        return torch.empty(0, dtype=torch.long), 0
    state = read_state(path)
    set_parameters(parameters, state.get("parameters", {}), path)
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    for hook, kept in zip(hooks, state.get("hooks", ({},) * len(hooks)), strict=True):
        hook.restore(kept)
    return state["order"], state["step"]

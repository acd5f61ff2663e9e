"""The optimizer loop that all training shares: rates, averages, checks, saved states, several processes."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from subbyte.errors import DivergenceError, InputError
from subbyte.execute.torch.training_ops import bfloat16_pays
from subbyte.recipes import Training
from subbyte.steps import parallel
from subbyte.steps.gradients import Limits, Watch
from subbyte.steps.hooks import Hooks
from subbyte.steps.kept import Average, Best, Parameters, put
from subbyte.steps.status import Status, Tell
from subbyte.system.whole_file import remove_partial, write_whole

#: The mean over the images with these indices; what it draws at random comes from the generator.
Loss = Callable[[Tensor, torch.Generator], Tensor]
#: Numbers of images held back: "loss", of which less is better, and others by name.
Check = Callable[[], Mapping[str, float]]
#: From groups of parameters, each with its "kind" and a rate "lr" that changes with every step.
MakeOptimizer = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]

#: Between two saved states there are so many steps or seconds, whichever is less, but never less than so
#: many times what the last one took to save.
SAVED_EVERY, SAVED_SECONDS, SAVED_COST = 25, 60.0, 50
#: How often images held back are measured where Training.check does not say so.
CHECKS = 10


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
    check: Check | None = None,
    tell: Tell | None = None,
    limits: Limits | None = None,
    optimizer: MakeOptimizer = torch.optim.Adam,
) -> None:
    """Trains `parameters`, leaves by kind (see Learned) and name, on `count` images.

    loss: of the images with these indices. Images come in random order, each as often as any
    other to within one. saved: a file that keeps the state; where it exists, training goes on from
    it, to the same result bit for bit, whenever and however it was stopped. report: told how many steps are
    done; tell: that and more.
    hooks: see Hooks; they are called in order. check: what the best parameters are chosen by, measured as
    Training says on the average of the parameters, if they are averaged. limits: see Watch.

    Where torch.distributed is initialized, every process calls this with equal arguments and ends with equal
    parameters; each computes the loss of its part of the images, and the first alone writes and reports. A
    loss without random numbers then gives what one process gives, but for the order of float additions.

    Raises DivergenceError for a loss or gradient that is not finite and a parameter beyond its limit, before
    it is saved; InputError for a file that is no such state.
    """
    steps = steps_of(training, count)
    loop = _Loop(parameters, training, generator, steps, hooks, optimizer)
    keeper = _Keeper(saved, loop)
    starts = {name: weight.detach().clone() for name, weight in parameters.get("weight", {}).items()}
    begin = keeper.restore()
    watch = Watch(parameters, training, limits or {})
    every = training.check or max(1, steps // CHECKS)
    writes, clock = parallel.first(), monotonic()
    if check is not None and begin == 0:
        loop.measure(check)  # where training starts may be the best
    for step in range(begin, steps):
        if loop.best.ended:
            break
        chosen = loop.choose(count)
        schedule = loop.schedule(step)
        for hook in hooks:
            hook.before(step, steps)
        try:
            value = loop.backward(loss, chosen, step)
            norm = watch.gradient(value)
            loop.optimizer.step()
            if training.pull:
                _pull(parameters["weight"], starts, schedule * training.weight * training.pull)
            for hook in hooks:
                hook.after(step, steps)
            watch.values()
        except DivergenceError as error:
            where = f"training diverged in step {step + 1} of {steps}"
            raise DivergenceError(f"{where}: {error}{keeper.kept}") from None
        loop.average.add(step + 1)
        if check is not None and ((step + 1) % every == 0 or step + 1 == steps):
            loop.measure(check)
        if writes and tell is not None:
            facts = {"rate": schedule, "gradient": norm, **loop.facts()}
            left = (monotonic() - clock) / (step + 1 - begin) * (steps - step - 1)
            tell(Status(step + 1, steps, value, left, facts))
        if writes:
            report(step + 1)
            keeper.save(step + 1)
    if not loop.best.keep():
        loop.average.keep()


def steps_of(training: Training, count: int) -> int:
    """How many steps training on `count` images takes."""
    return training.steps or max(1, round(training.epochs * count / training.batch))


class _Loop:
    """All that changes from step to step."""

    def __init__(
        self,
        parameters: Parameters,
        training: Training,
        generator: torch.Generator,
        steps: int,
        hooks: Sequence[Hooks],
        optimizer: MakeOptimizer,
    ) -> None:
        self.parameters, self.training, self.generator, self.steps = parameters, training, generator, steps
        self.hooks = hooks
        self.kinds = [kind for kind, tensors in parameters.items() if tensors]
        self.leaves = [leaf for kind in self.kinds for leaf in parameters[kind].values()]
        self.optimizer = optimizer(
            [{"params": list(parameters[kind].values()), "lr": 0.0, "kind": kind} for kind in self.kinds]
        )
        self.order = torch.empty(0, dtype=torch.long)
        self.average = Average(parameters, training, steps)
        self.best = Best(parameters, training.patience)
        self.checked: dict[str, float] = {}

    def choose(self, count: int) -> Tensor:
        """The indices of the next images of `count`, int64 [batch]."""
        batch = self.training.batch
        if len(self.order) < min(batch, count):
            self.order = torch.cat([self.order, torch.randperm(count, generator=self.generator)])
        chosen, self.order = self.order[:batch], self.order[batch:]
        return chosen

    def schedule(self, step: int) -> float:
        """Sets the rates of step `step`, and returns what they are multiplied by."""
        share = 0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        if (rising := math.ceil(self.training.warmup * self.steps)) > step:
            share *= (step + 1) / (rising + 1)
        for group, kind in zip(self.optimizer.param_groups, self.kinds, strict=True):
            group["lr"] = getattr(self.training, kind) * share
        return share

    def backward(self, loss: Loss, chosen: Tensor, step: int) -> float:
        """The loss of these images, whose gradients the parameters then have."""
        self.optimizer.zero_grad(set_to_none=True)
        own, mine = parallel.own_generator(self.generator, step), parallel.own_part(chosen)
        value = loss(mine, own) if len(mine) else torch.zeros(())
        if len(mine):
            value.backward()
        return float(parallel.average(value.detach(), self.leaves, len(mine) / len(chosen)))

    def measure(self, check: Check) -> None:
        """Checks the parameters, averaged if they are, and remembers the best."""
        with self.average.inside():
            with torch.no_grad():
                found = parallel.of_first(dict(check()))
            self.best.add(found["loss"])
        self.checked = {"check_loss": found.pop("loss"), **found}

    def facts(self) -> dict[str, float]:
        """What the hooks and the last check say."""
        said = [hook.facts() for hook in self.hooks]
        return {name: value for facts in (*said, self.checked) for name, value in facts.items()}

    def state(self) -> dict[str, Any]:
        """Everything that the rest of training depends on."""
        return {
            "order": self.order,
            "parameters": {kind: dict(named) for kind, named in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average.state(),
            "best": self.best.state(),
            "checked": self.checked,
            "hooks": [hook.state() for hook in self.hooks],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave. KeyError, RuntimeError, ValueError, TypeError: it is of another
        training."""
        put(self.parameters, state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.order, self.checked = state["order"], state["checked"]
        self.average.restore(state["average"])
        self.best.restore(state["best"])
        for hook, kept in zip(self.hooks, state["hooks"], strict=True):
            hook.restore(kept)


class _Keeper:
    """Keeps the state of a loop in a file, if there is one to keep it in."""

    def __init__(self, path: Path | None, loop: _Loop) -> None:
        self.path, self.loop = path, loop
        self.step, self.time, self.cost = 0, monotonic(), 0.0

    @property
    def kept(self) -> str:
        """Says what is left where training broke off, as the end of a sentence."""
        return f"; the state after step {self.step} is kept in {self.path}" if self.path and self.step else ""

    def restore(self) -> int:
        """Sets the loop to the state of the file, and returns how many steps it has made; 0 without one."""
        state: dict[str, Any] | None = None
        if self.path is not None and parallel.first():
            remove_partial(self.path)
            state = read_state(self.path) if self.path.exists() else None
        state = parallel.of_first(state)
        if state is None:
            return 0
        assert self.path is not None
        try:
            self.loop.restore(state)
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError, TypeError):
            raise _no_state(self.path) from None
        return self.step

    def save(self, step: int) -> None:
        """Writes the state after so many steps, if it is time to."""
        if self.path is None:
            return
        passed = monotonic() - self.time
        due = step - self.step >= SAVED_EVERY or passed >= SAVED_SECONDS
        if not due or passed < SAVED_COST * self.cost:
            return
        if not all(bool(leaf.isfinite().all()) for leaf in self.loop.leaves):
            return  # the next step will say so, and what is in the file is good
        start = monotonic()
        write_state(self.path, {"step": step, **self.loop.state()})
        self.step, self.time = step, monotonic()
        self.cost = self.time - start


def in_bfloat16(training: Training) -> bool:
    """Whether gradients are computed from bfloat16 numbers: asked for, and worth it on this CPU."""
    return training.gradients == "bfloat16" and bfloat16_pays()


def _pull(weights: Mapping[str, Tensor], starts: Mapping[str, Tensor], share: float) -> None:
    """Takes weights back towards where they started."""
    with torch.no_grad():
        for name, weight in weights.items():
            if weight.requires_grad:
                weight.lerp_(starts[name], share)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values as one file, whole or not at all, if this is the process that writes.

    InputError if that fails.
    """
    if not parallel.first():
        return
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
        put(parameters, saved)
    except (KeyError, RuntimeError):
        raise _no_state(path) from None

"""The loop of training, from a network and images to a folder with the checkpoint.

Every step is a function of its number, the seed and the state before it: after an interruption, even by
SIGKILL, the same call goes on from the last saved state and ends, on one CPU with as many threads, at the
same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from subbyte.data.shards import LabelledImages
from subbyte.errors import InputError, SubbyteError
from subbyte.metrics.accuracy import Accuracy, joined, score, top_classes
from subbyte.models import checkpoint
from subbyte.preprocess import Preprocessing
from subbyte.tasks.classification import Classification
from subbyte.tasks.task import Task
from subbyte.training.average import Average
from subbyte.training.cast import bfloat16
from subbyte.training.mixup import label_loss, mixed, shares
from subbyte.training.network import set_dropout, set_stochastic_depth
from subbyte.training.nonfinite import culprit
from subbyte.training.processes import Processes, mean_over
from subbyte.training.settings import Settings, Stage
from subbyte.training.state import NETWORK, Board, Record, State, fingerprint, write_metrics
from subbyte.training.teacher import Teacher
from subbyte.training.views import STEP, Views, batches, generator, normalized, plain_batches

#: Steps between two saved states; one is also saved with every record.
SAVED_EVERY = 100
#: RMSprop as in EfficientNet's code, where epsilon 0.001 is added under the root.
RMSPROP = {"alpha": 0.9, "momentum": 0.9, "eps": 0.001**0.5}


@dataclass(frozen=True)
class Progress:
    """How far training is: steps done of all, the stage, height and width of its images, the mean loss since
    the last record, the last record if there is one, and about how many seconds are left."""

    step: int
    steps: int
    stage: Stage
    size: tuple[int, int]
    loss: float
    record: Record | None
    left: float


#: From a network (images float32 [N, C, H, W] and whatever else it takes, to outputs), images and the loss of
#: outputs to the loss of a step.
Objective: TypeAlias = "Callable[[Callable[..., Tensor], Tensor, Callable[[Tensor], Tensor]], Tensor]"


def _silent(what: object) -> None:
    pass


def plain(network: Callable[..., Tensor], x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The Objective that is the loss of what the network answers."""
    return loss(network(x))


@dataclass(eq=False)
class Training:
    """What all steps share.

    images: to train on; held: to measure on, None for none. folder: exists; what is written there, state.py
    says. origin: what the network was made from, which must be the same when it goes on. tell: called after
    every step; draw: with all records after every new one, of which there is one an epoch. objective: of a
    step, for networks that are several. task: what outputs mean to the teacher; a teacher of the whole weight
    needs no labels.
    """

    module: nn.Module
    images: LabelledImages
    held: LabelledImages | None
    preprocessing: Preprocessing
    settings: Settings
    folder: Path
    here: Processes
    origin: Mapping[str, str]
    teacher: Teacher | None = None
    workers: int = 0
    saved_every: int = SAVED_EVERY
    tell: Callable[[Progress], None] = _silent
    draw: Callable[[list[Record]], None] = _silent
    objective: Objective = plain
    task: Task[Any] = field(default_factory=Classification)

    def run(self) -> list[Record]:
        """Trains to the end, from the folder's state if there is one; returns all records.

        Raises InputError for images or a state that cannot be used, SubbyteError if numbers become infinite
        or undefined, naming the layer.
        """
        if self.settings.batch % (2 * self.here.size):
            raise InputError(
                f"a batch of {self.settings.batch} cannot be shared by {self.here.size} processes in pairs; "
                f"choose a multiple of {2 * self.here.size}"
            )
        devices = [self.here.device] if self.here.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return self._run()

    def _run(self) -> list[Record]:
        s, here, p = self.settings, self.here, self.preprocessing
        count = len(self.images.samples)
        steps = s.steps(count)
        begun = {**self.origin, "data": fingerprint(self.images), **s.to_json()}
        network = here.prepared(self.module)
        set_stochastic_depth(network, s.stochastic_depth)
        now = State(network, Average(network), _optimizer(network, s))
        now.restore(self.folder, begun)
        parallel = here.parallel(network)
        board = Board(self.folder, now.step) if here.first else None
        views = Views(self.images, p, s, steps)
        pinned = here.device.type == "cuda"
        clock = _Clock(now.seconds)
        for pixels, labels in batches(views, now.step, here.rank, here.size, self.workers, pinned):
            stage = s.stage(now.step, steps)
            now.loss += self._step(now, parallel, stage, steps, pixels, labels)
            now.average.follow(network, s.average, now.step)
            now.step += 1
            now.seconds = clock.step(pixels)
            left = clock.left(self._work(now.step, steps))
            size, loss = stage.size(p.height, p.width), now.mean_loss()
            self.tell(Progress(now.step, steps, stage, size, loss, now.latest(), left))
            last = now.step == steps
            recorded = last or now.step * s.batch // count > (now.step - 1) * s.batch // count
            if recorded:
                measured = self._measured(now.average.module, last)
                now.seconds = clock.seconds()
                now.add({**self._record(now, stage, steps), **measured})
            if here.first and (recorded or now.step % self.saved_every == 0):
                if last:
                    checkpoint.write(self.folder / NETWORK, now.average.module.state_dict(), p)
                write_metrics(self.folder, now.records)
                now.save(self.folder, begun)
            if board is not None and recorded:
                board.add(now.records[-1])
                self.draw(now.records)
        return now.records

    def _record(self, now: State, stage: Stage, steps: int) -> Record:
        """Where training is after a step, and how; JSON values."""
        s, p = self.settings, self.preprocessing
        return {
            "step": now.step,
            "epoch": round(now.step * s.batch / len(self.images.samples), 4),
            "seconds": round(now.seconds, 1),
            "stage": stage.number + 1,
            "size": list(stage.size(p.height, p.width)),
            "dropout": stage.dropout,
            "randaugment": stage.randaugment,
            "mixup": stage.mixup,
            "learning_rate": s.rate_at(now.step - 1, steps),
            "loss": now.mean_loss(),
        }

    def _step(
        self, now: State, parallel: nn.Module, stage: Stage, steps: int, pixels: Tensor, labels: Tensor
    ) -> float:
        """One step of the optimizer; the loss, of all processes."""
        s, here = self.settings, self.here
        dtype = next(now.network.parameters()).dtype
        x = normalized(pixels.to(here.device, non_blocking=True), self.preprocessing, dtype)
        y = labels.to(here.device, non_blocking=True)
        share = shares(s.seed, now.step, s.batch, stage.mixup)
        share = share[here.rank * len(y) :][: len(y)].to(here.device)
        if stage.mixup:
            x = mixed(x, share)
        set_dropout(now.network, stage.dropout)
        now.network.train()
        for group in now.optimizer.param_groups:
            group["lr"] = s.rate_at(now.step, steps)
        drawn = int(generator(s.seed, STEP, now.step * here.size + here.rank).integers(2**62))

        def run(*given: Any) -> Tensor:
            with self._cast():
                outputs: Tensor = parallel(*given)
            return outputs.to(torch.promote_types(outputs.dtype, torch.float32))

        def forward() -> Tensor:
            torch.manual_seed(drawn)  # of dropout and stochastic depth
            return self.objective(run, x, lambda outputs: self._loss(outputs, x, y, share))

        now.optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        parameters = list(now.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = float(mean_over(loss, here.size))
        if not (np.isfinite(value) and bool(torch.isfinite(norm))):
            raise SubbyteError(
                f"training stopped at step {now.step + 1}: {culprit(now.network, forward)}; "
                "lower the learning rate, clip gradients (to 1, say), or train in float32"
            )
        if s.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, s.clip, norm)
        now.optimizer.step()
        return value

    def _loss(self, logits: Tensor, x: Tensor, labels: Tensor, share: Tensor) -> Tensor:
        if self.teacher is None:
            return label_loss(logits, labels, share, self.settings.label_smoothing)
        wanted = self.teacher.logits(x, self.preprocessing)
        taught = self.task.distillation_loss([logits], [wanted])
        weight = self.settings.teacher_weight
        if weight == 1.0:
            return taught
        return (1.0 - weight) * label_loss(
            logits, labels, share, self.settings.label_smoothing
        ) + weight * taught

    def _cast(self) -> AbstractContextManager[None]:
        """Inside, convolutions and matrix products are bfloat16's, if the settings say so."""
        return nullcontext() if self.settings.precision == "float32" else bfloat16(self.here.device)

    def _measured(self, module: nn.Module, last: bool) -> Record:
        """Counts of the images held back; on the way in the precision of training, at the end in full."""
        if self.held is None or not self.here.first:
            return {}
        with nullcontext() if last else self._cast():
            found = accuracy(module, self.held, self.preprocessing, self.here.device, self.workers)
        return {"held_back": found.n, "top1": found.top1, "top1_rate": found.top1_rate}

    def _work(self, step: int, steps: int) -> int:
        """Pixels of an image of each step from this one on, added up."""
        s, p, work = self.settings, self.preprocessing, 0
        for number in range(s.stages):
            begin, end = (-(-n * steps // s.stages) for n in (number, number + 1))
            if end > max(begin, step):
                height, width = s.stage(begin, steps).size(p.height, p.width)
                work += (end - max(begin, step)) * height * width
        return work


class _Clock:
    """Seconds of training, those before this process included, and how many are left."""

    def __init__(self, before: float) -> None:
        self.before, self.start, self.work = before, time.monotonic(), 0

    def seconds(self) -> float:
        """So far."""
        return self.before + time.monotonic() - self.start

    def step(self, pixels: Tensor) -> float:
        """Counts a step on images [N, C, H, W]; the seconds so far."""
        self.work += pixels.shape[-2] * pixels.shape[-1]
        return self.seconds()

    def left(self, work: int) -> float:
        """For so many pixels of an image, at the pace of this process."""
        return (self.seconds() - self.before) * work / self.work


def accuracy(
    module: nn.Module,
    images: LabelledImages,
    preprocessing: Preprocessing,
    device: torch.device,
    workers: int = 0,
) -> Accuracy:
    """Of a network in eval mode on labelled images, preprocessed as in tests.

    Raises InputError for an image that cannot be read, or scores that are not finite.
    """
    dtype = next(module.parameters()).dtype
    parts = []
    with torch.no_grad():
        for pixels in plain_batches(images, preprocessing, workers):
            logits = module(normalized(pixels.to(device), preprocessing, dtype))
            parts.append(top_classes(logits.float().cpu().numpy()))
    return score(joined(parts), images.samples)


def _optimizer(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    kernels = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]  # of batch norms, and biases
    groups = [{"params": kernels, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.rate)
    return torch.optim.RMSprop(groups, lr=settings.rate, **RMSPROP)

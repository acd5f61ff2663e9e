"""What training keeps in its folder: the state to go on from, the metrics, the network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from subbyte.data.shards import LabelledImages
from subbyte.errors import InputError
from subbyte.system.text_file import write_text
from subbyte.system.whole_file import write_whole
from subbyte.training.average import Average

STATE, METRICS, NETWORK = "state.pt", "metrics.jsonl", "model.safetensors"
CLASSES, CURVE, TENSORBOARD = "classes.txt", "curve.svg", "tensorboard"

Record = dict[str, Any]


def fingerprint(images: LabelledImages) -> str:
    """Of the names and labels of images in their order."""
    digest = hashlib.sha256()
    for sample in images.samples:
        digest.update(f"{sample.path.name}\0{sample.label}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(eq=False)
class State:
    """Everything that a step changes. step: done so far. loss: of the steps since the last record, added up.
    seconds: of training so far."""

    network: nn.Module
    average: Average
    optimizer: torch.optim.Optimizer
    step: int = 0
    records: list[Record] = field(default_factory=list)
    loss: float = 0.0
    seconds: float = 0.0

    def latest(self) -> Record | None:
        """The last record, if there is one."""
        return self.records[-1] if self.records else None

    def mean_loss(self) -> float:
        """Since the last record."""
        return self.loss / (self.step - (self.records[-1]["step"] if self.records else 0))

    def add(self, record: Record) -> None:
        """A record of this step."""
        self.records.append(record)
        self.loss = 0.0

    def save(self, folder: Path, begun: Mapping[str, Any]) -> None:
        """Writes the state, whole or not at all. begun: what it is the state of, plain values.

        Raises InputError if it cannot be written.
        """
        buffer = io.BytesIO()  # torch tells of a full disk in words of its own
        torch.save({"begun": dict(begun), **self._plain(), **self._tensors()}, buffer)
        write_whole(folder / STATE, [buffer.getbuffer()])

    def restore(self, folder: Path, begun: Mapping[str, Any]) -> None:
        """Takes what `save` wrote last, if it did; runs no code in it.

        Raises InputError for a file that is no such state, or of another training, saying what differs.
        """
        path = folder / STATE
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            before = dict(state["begun"])
        except (RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
            raise InputError(f"{path} is no state of training; delete it to begin again") from None
        other = next((key for key in begun if before.get(key) != begun[key]), None)
        if other is not None:
            raise InputError(
                f"{folder} holds a training with another {other.replace('_', ' ')} "
                f"({_short(before.get(other))}, now {_short(begun[other])}); choose another folder, or "
                f"delete {path.name} there to begin again"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            for key in self._plain():
                setattr(self, key, state[key])
        except (KeyError, RuntimeError, ValueError):
            raise InputError(
                f"{path} is the state of another network; choose another folder, or delete it to begin again"
            ) from None

    def _plain(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("step", "records", "loss", "seconds")}

    def _tensors(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}..."


def write_metrics(folder: Path, records: list[Record]) -> None:
    """One JSON object a line. InputError if the file cannot be written."""
    write_text(folder / METRICS, "".join(f"{json.dumps(record)}\n" for record in records))


class Board:
    """Metrics for TensorBoard, in a folder of their own, if its package is installed."""

    def __init__(self, folder: Path, begin: int) -> None:
        self.writer: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder / TENSORBOARD, purge_step=begin + 1)

    def add(self, record: Record) -> None:
        """The numbers of a record, at its step."""
        if self.writer is not None:
            for key, value in record.items():
                if isinstance(value, (int, float)) and key != "step":
                    self.writer.add_scalar(key, value, record["step"])
            self.writer.flush()

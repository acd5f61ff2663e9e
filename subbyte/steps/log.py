"""What training told, kept in a folder: a line of JSON for each step, and files for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from subbyte.errors import InputError
from subbyte.steps.status import Status
from subbyte.system.folders import make_folder
from subbyte.system.whole_file import write_whole

Progress = Callable[[str, int], None]
NAME = "metrics.jsonl"


@contextmanager
def logged(progress: Progress, folder: Path | None, tensorboard: bool = False) -> Iterator[Progress]:
    """The progress callback, which also keeps in `folder` what training tells; without a folder as it was.

    metrics.jsonl holds a line for each step: {"run": ..., "step": ..., "steps": ..., "loss": ..., ...}, see
    Status; numbers that are not finite are null. A run that goes on, or is made again, replaces its lines
    from its first step on, so that each step of a run stands there once. tensorboard: also its event files,
    in a folder for each run.

    Raises InputError if the folder cannot be written; ModuleNotFoundError where tensorboard is not installed.
    """
    if folder is None:
        yield progress
        return
    log = Log(progress, folder, tensorboard)
    try:
        yield log
    finally:
        log.close()


class Log:
    """A progress callback with a method `status`; see `logged`."""

    def __init__(self, progress: Progress, folder: Path, tensorboard: bool) -> None:
        if tensorboard:
            import tensorboard as needed  # noqa: F401  what torch's writer uses, missed before any work
        self.progress, self.tensorboard = progress, tensorboard
        self.folder = make_folder(folder, f"logs in {folder}", "choose another folder with --log")
        self.writers: dict[str, Any] = {}
        self.seen: set[str] = set()
        self.file: TextIO | None = None

    def __call__(self, stage: str, done: int) -> None:
        self.progress(stage, done)

    def status(self, status: Status) -> None:
        """Keeps it, and passes it on."""
        if status.run not in self.seen:
            self._begin(status)
        row = {"run": status.run, "step": status.step, "steps": status.steps, "loss": status.loss}
        values = {"loss": status.loss, **status.facts}
        assert self.file is not None
        line = {name: _finite(value) for name, value in {**row, **status.facts}.items()}
        self.file.write(json.dumps(line) + "\n")
        if self.tensorboard:
            for name, value in values.items():
                self.writers[status.run].add_scalar(name, value, status.step)
        if (told := getattr(self.progress, "status", None)) is not None:
            told(status)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self.file is not None:
            self.file.close()
        for writer in self.writers.values():
            writer.close()

    def _begin(self, status: Status) -> None:
        """Makes room for a run from this step on."""
        self.seen.add(status.run)
        path = self.folder / NAME
        if self.file is not None:
            self.file.close()
        try:
            if path.exists():
                with path.open("rb") as file:
                    kept = [line for line in file if _before(line, status)]
                write_whole(path, kept)
            self.file = path.open("a", encoding="utf-8", buffering=1)  # a line at a time
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; choose another folder with --log"
            ) from None
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writers[status.run] = SummaryWriter(str(self.folder / status.run), purge_step=status.step)


def _before(line: bytes, status: Status) -> bool:
    """Whether a line is whole, and of another run or an earlier step."""
    with suppress(ValueError, KeyError, TypeError):
        row = json.loads(line)
        return line.endswith(b"\n") and bool(row["run"] != status.run or row["step"] < status.step)
    return False


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

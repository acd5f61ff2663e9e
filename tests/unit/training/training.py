"""Trains a tiny network in a process of its own: `python -m tests.unit.training.training SOURCE DATA FOLDER`.

Options: kill=STEP (by SIGKILL, after it), workers=N, local (batch norms of each process alone), double (in
float64). Under the environment of torchrun, as one of several processes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from subbyte.data.shards import labelled_images
from subbyte.preprocess import Preprocessing
from subbyte.training import network
from subbyte.training import processes as processes_module
from subbyte.training.loop import Progress, Training
from subbyte.training.processes import processes
from subbyte.training.settings import Settings

WAY = Preprocessing(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SETTINGS = Settings(epochs=3, batch=8, stages=2, mixup=(0.2, 0.2), warmup=0.5)


def training(source: str, data: Path, folder: Path, *options: str) -> None:
    given = dict(option.partition("=")[::2] for option in options)
    torch.set_num_threads(1)
    images = labelled_images(data)

    def tell(progress: Progress) -> None:
        if str(progress.step) == given.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)

    if "local" in given:
        processes_module.shared_norms = lambda module: module
    with processes("cpu") as here:
        module = network.make(source, None, 3, 0)
        network.set_dropout(module, 0.0)
        settings = SETTINGS
        if "double" in given:
            module = module.double()
            settings = Settings(epochs=3, batch=8, stages=2, mixup=(0.2, 0.2), warmup=0.5, dropout=(0, 0))
        workers = int(given.get("workers", "0"))
        one = Training(
            module, images, None, WAY, settings, folder, here, {}, None, workers, saved_every=3, tell=tell
        )
        one.run()


if __name__ == "__main__":
    training(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])

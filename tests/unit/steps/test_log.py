"""What training tells: words for a bar, lines of JSON, TensorBoard's files."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.recipes import Recipe
from subbyte.steps.log import logged
from subbyte.steps.status import Status, teller
from tests.unit.compress.networks import efficientnet_like, random_images


def status(step: int, run: str = "distill", **facts: float) -> Status:
    return Status(step, 9, 0.5 / step, 60.0, facts, run)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def quiet(stage: str, done: int) -> None:
    """A progress callback of two arguments, as any user's is."""


def test_the_words_of_a_status() -> None:
    facts = {"agreement": 0.931, "bits": 3.875, "rate": 0.5, "check_loss": 0.02}
    assert str(Status(3, 9, 0.0125, 3700.0, facts)) == (
        "loss 0.0125, 3.88 bits, held back 0.02, agreement 93.10 %, 62 min left"
    )
    assert str(Status(9, 9, 1e-6, 0.0)) == "loss 1e-06, 0 s left"
    assert str(Status(1, 9, 1.0, 9000.0)) == "loss 1, 2 h 30 min left"


def test_a_callback_without_a_method_is_told_no_status() -> None:
    assert teller(quiet, "distill") is None


def test_a_run_that_goes_on_stands_there_once(tmp_path: Path) -> None:
    with logged(quiet, tmp_path) as progress:
        tell = progress.status  # type: ignore[attr-defined]
        for step in (1, 2, 3):
            tell(status(step, "reconstruct/block-000"))
        for step in (1, 2, 3, 4):
            tell(status(step, bits=4.0, check_loss=float("nan")))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"run": "distill", "st')  # killed within a line
    with logged(quiet, tmp_path) as progress:
        progress.status(status(3))  # type: ignore[attr-defined]
        progress("distill", 3)
    found = rows(tmp_path)
    assert [(row["run"], row["step"]) for row in found] == [
        *[("reconstruct/block-000", step) for step in (1, 2, 3)],
        *[("distill", step) for step in (1, 2, 3)],
    ]
    assert found[3] == {
        "run": "distill", "step": 1, "steps": 9, "loss": 0.5, "bits": 4.0, "check_loss": None
    }  # fmt: skip
    assert "bits" not in found[5]


def test_without_a_folder_progress_is_as_it_was() -> None:
    with logged(quiet, None) as progress:
        assert progress is quiet


def test_a_compression_tells_every_step_of_its_training(tmp_path: Path) -> None:
    class Progress:
        def __init__(self) -> None:
            self.told: list[Status] = []

        def __call__(self, stage: str, done: int) -> None:
            pass

        def status(self, status: Status) -> None:
            self.told.append(status)

    graph, progress = efficientnet_like(), Progress()
    recipe = Recipe.model_validate(
        {
            "name": "test",
            "weights": {"bits": 2},
            "steps": ("reconstruct", "distill"),
            "reconstruct": {"steps": 3, "batch": 8, "held_back": 0.25, "mirror": True},
            "distill": {"steps": 5, "batch": 8, "held_back": 0.25, "check": 2, "ema": 0.5},
        }
    )
    with logged(progress, tmp_path) as told:
        compress(graph, recipe, [random_images(graph, 16)], progress=told)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == [one.step for one in progress.told]
    assert [row["step"] for row in found if row["run"] == "distill"] == [1, 2, 3, 4, 5]
    blocks = {row["run"] for row in found} - {"distill"}
    assert blocks == {"reconstruct/block-001", "reconstruct/block-002"}  # the first has 8 bits
    last = found[-1]
    assert 2.0 < last["bits"] < 8.0  # the first layer and others have 8
    assert last["steps"] == 5
    assert 0.0 <= last["agreement"] <= 1.0
    assert last["check_loss"] > 0.0
    assert np.isfinite(last["gradient"])
    assert all("check_loss" in row for row in found if row["run"] != "distill")


def test_a_folder_that_cannot_be_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot keep logs in .*file"), logged(quiet, tmp_path / "file"):
        pass
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*metrics\.jsonl"), logged(quiet, tmp_path) as log:
        log.status(status(1))  # type: ignore[attr-defined]


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        for steps in ((1, 2, 3), (3, 4)):  # stopped after 3, and gone on from 2
            with logged(quiet, tmp_path, tensorboard=True) as progress:
                for step in steps:
                    progress.status(status(step, bits=float(sum(steps))))  # type: ignore[attr-defined]
        events = EventAccumulator(str(tmp_path / "distill")).Reload()
        assert set(events.Tags()["scalars"]) == {"loss", "bits"}
        assert [(e.step, e.value) for e in events.Scalars("bits")] == [(1, 6.0), (2, 6.0), (3, 7.0), (4, 7.0)]


def test_tensorboard_is_missed_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    folder = tmp_path / "log"
    with pytest.raises(ModuleNotFoundError) as error, logged(quiet, folder, tensorboard=True):
        pass
    assert error.value.name == "tensorboard"
    assert not folder.exists()

"""The best state is kept, by what held-back images say, also across interruptions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from subbyte.errors import InputError
from subbyte.steps.validation import Enough, Watch


class Training:
    """A parameter that holds the step, and an error for each; counts measurements."""

    def __init__(
        self, errors: list[float], patience: int = 0, path: Path | None = None, every: int = 1
    ) -> None:
        self.parameters = {"weight": {"x": torch.zeros(1)}}
        self.errors, self.measured = errors, 0
        self.watch = Watch(self.parameters, self._measure, every, len(errors) - 1, patience, path)

    def _measure(self) -> float:
        self.measured += 1
        return self.errors[int(self.parameters["weight"]["x"])]

    def run(self, begin: int = 0, end: int | None = None) -> int:
        """The step that training ended at."""
        for step in range(begin + 1, len(self.errors) if end is None else end + 1):
            self.parameters["weight"]["x"].fill_(step)
            try:
                self.watch(step)
            except Enough:
                return step
        return step

    def restored(self) -> int:
        self.watch.restore()
        return int(self.parameters["weight"]["x"])


@pytest.mark.parametrize(
    ("errors", "patience", "ended", "best"),
    [
        ([5.0, 4.0, 3.0, 4.0, 2.0, 3.0], 0, 5, 4),
        ([5.0, 4.0, 3.0, 4.0, 5.0, 1.0], 2, 4, 2),
        ([5.0, 4.0, 3.0, 4.0, 2.0, 3.0], 2, 5, 4),
        ([1.0, 4.0, 3.0], 0, 2, 0),  # the start
        ([1.0, 1.0, 1.0], 1, 1, 0),  # equal is no better
        ([2.0, math.nan, 1.0, math.nan], 0, 3, 2),
        ([math.nan, 3.0, 2.0], 0, 2, 2),
    ],
)
def test_the_best_state_is_kept(errors: list[float], patience: int, ended: int, best: int) -> None:
    training = Training(errors, patience)
    assert training.run() == ended
    assert training.restored() == best


def test_every_so_many_steps_and_the_last() -> None:
    training = Training([9.0, 0.0, 8.0, 0.0, 7.0, 6.0], every=2)
    training.run()
    assert training.watch.errors == {0: 9.0, 2: 8.0, 4: 7.0, 5: 6.0}
    assert training.restored() == 5


@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("killed", [1, 2, 3, 4])
def test_a_run_that_is_resumed_earlier_ends_alike(patience: int, killed: int, tmp_path: Path) -> None:
    errors = [5.0, 2.0, 3.0, 4.0, 6.0, 1.0]
    whole = Training(errors, patience)
    ended, best = whole.run(), whole.restored()
    Training(errors, patience, tmp_path / "best.pt").run(end=killed)
    again = Training(errors, patience, tmp_path / "best.pt")
    assert again.run(begin=max(0, killed - 2)) == ended
    assert again.restored() == best
    assert again.measured == max(0, ended - killed)


def test_the_state_of_others_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({"errors": {0: 1.0}, "best": {"weight": {}}}, path)
    with pytest.raises(InputError, match="no state of training; delete it"):
        Training([1.0, 2.0], path=path).restored()

"""Progress without a terminal: a plain line on stderr now and then, nothing on stdout."""

from __future__ import annotations

import pytest

from subbyte.cli import console


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console, "monotonic", clock)
    return clock


def test_stages_in_a_pipe(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        *((0, "calibrate", 16), (29, "calibrate", 32), (29.5, "reconstruct, 3 blocks", 0)),  # too early
        *(
            (30, "reconstruct, 3 blocks", 0),
            (50, "reconstruct, 3 blocks", 1),
            (61, "reconstruct, 3 blocks", 2),
        ),
        *((62, "distill, 9 steps", 1), (63, "distill, 9 steps", 2), (95, "distill, 9 steps", 8)),
    ]
    with console.stages("compressing net") as stage:
        for clock.now, name, done in told:
            stage(name, done)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "compressing net: reconstruct, 3 blocks: 0, 30 s",
        "compressing net: reconstruct, 3 blocks: 2, 61 s",
        "compressing net: distill, 9 steps: 1, 62 s",
        "compressing net: distill, 9 steps: 8, 95 s",
    ]


def test_a_count_in_a_pipe(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("evaluating", 100) as progress:
        for clock.now in range(0, 70, 10):
            progress(int(clock.now))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["evaluating: 30 of 100, 30 s", "evaluating: 60 of 100, 60 s"]

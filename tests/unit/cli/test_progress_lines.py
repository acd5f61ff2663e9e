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


def test_what_training_tells_stands_behind_its_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with console.stages("compressing net") as stage:
        for clock.now in (31.0, 40.0, 62.0):
            stage.status(f"loss {clock.now:g}")  # type: ignore[attr-defined]
            stage("distill, 9 steps", int(clock.now))
        clock.now = 99.0
        stage("distill, 9 steps", 9)  # nothing new was told
    assert capsys.readouterr().err.splitlines() == [
        "compressing net: distill, 9 steps: 31, 31 s, loss 31",
        "compressing net: distill, 9 steps: 62, 62 s, loss 62",
        "compressing net: distill, 9 steps: 9, 99 s",
    ]


def test_it_stands_beside_the_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with console.stages("compressing net") as stage:
        stage.status("loss 0.5 [bold]")  # type: ignore[attr-defined]
        stage("distill, 9 steps", 3)
    assert "compressing net: distill, 9 steps" in terminal.getvalue()
    assert "loss 0.5 [bold]" in terminal.getvalue()

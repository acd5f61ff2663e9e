"""Whatever files, names and results hold, the terminal gets text: no escapes, no markup, no line ends."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import subbyte
from subbyte.cli.console import complain, note, printable, progress, say, show, show_json, stages, styled

Invoke = Callable[..., Any]
#: CSI, OSC (window title) and their C1 forms, a backspace, a carriage return, a line end, a right-to-left
#: override, a byte that is no UTF-8, and markup of rich: styles, a link, an emoji.
HOSTILE = "a\x1b[31m\x1b]0;owned\x07\x9b2J\x08\r\nerror: \u202egnp\udcff[bold red]b[link=http:e]c[red]:skull:"
SHOWN = r"a\x1b[31m\x1b]0;owned\x07\x9b2J\x08\r\nerror: \u202egnp\udcff[bold red]b[link=http:e]c[red]:skull:"
PRINTABLE = "[bold red]b[link=http:e]c[red]:skull:"  # what names of nodes and classes can hold


def safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_printable() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable("größe 3 × 4 – \\ [x]") == "größe 3 × 4 – \\ [x]"


def test_lines_and_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE, box=None)
    table.add_row(HOSTILE)
    table.add_row(styled(HOSTILE, "red"))
    show(HOSTILE, table, "[/closed]")  # a closing tag without its opening one
    say(HOSTILE)
    complain(HOSTILE)
    out, err = capsys.readouterr()
    assert safe(out)
    assert out.count(SHOWN) == 7
    assert "[/closed]" in out
    assert safe(err)
    assert err.count("\n") == 1
    assert err.startswith("error: a\\x1b[31m")


def test_an_error_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    complain("x" * 10_000)
    assert 2000 < len(capsys.readouterr().err) < 2100


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    with progress(HOSTILE, 2) as done:
        done(1)
    with stages("stages") as stage:
        stage(HOSTILE, 1)
    note(HOSTILE)
    shown = terminal.getvalue()
    assert "\x1b[?25l" in shown  # rich did take it for a terminal
    assert not {"\x9b", "\u202e", "\udcff", "\x07", "\x08"} & set(shown)
    assert "\x1b]" not in shown
    assert shown.count(r"\x1b]0;owned\x07") >= 3
    assert "[link=http:e]c[red]:skull:" in shown


def test_json_is_ascii_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({HOSTILE: [HOSTILE, (1.5, float("nan"), float("inf"))]})
    out = capsys.readouterr().out
    assert out.isascii()
    assert safe(out)
    assert json.loads(out) == {HOSTILE: [HOSTILE, [1.5, None, None]]}


# --------------------------------------------------------------------------- every command


@pytest.fixture
def hostile(int8: Path, images: Path, tmp_path: Path) -> Path:
    """A folder with an artifact, an image and a recipe of hostile names and contents."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    artifact = subbyte.load(int8)
    graph = artifact.graph
    nodes = tuple(replace(node, name=f"{PRINTABLE}{node.name}") for node in graph.nodes)
    subbyte.save(
        folder / f"{HOSTILE}.subbyte",
        replace(
            artifact,
            graph=replace(graph, nodes=nodes),
            classes=tuple(f"{PRINTABLE}{name}" for name in artifact.classes or ()),
            recipe={"name": HOSTILE.replace("\udcff", "")},
            provenance={"model": HOSTILE.replace("\udcff", "")},
        ),
    )
    for name in (f"{HOSTILE}.png", "b.png"):
        (folder / name).write_bytes((images / "00.png").read_bytes())
    (folder / f"broken{HOSTILE}.jpg").write_bytes(b"no image")
    text = f'name = {json.dumps(HOSTILE.replace(chr(0xDCFF), ""))}\nsteps = ["bias_correction"]\n'
    (folder / f"{HOSTILE}.toml").write_text(text)
    return folder


def artifact_in(folder: Path) -> Path:
    return folder / f"{HOSTILE}.subbyte"


def checked(result: Any, status: int = 0) -> str:
    """What a command printed, which is safe to show."""
    assert result.exit_code == status, result.output
    assert safe(result.stdout)
    assert safe(result.stderr)
    return str(result.stdout + result.stderr)


def test_run(invoke: Invoke, hostile: Path) -> None:
    result = invoke("run", artifact_in(hostile), hostile)
    text = checked(result, 1)
    assert f"{PRINTABLE}fox" in text or f"{PRINTABLE}ant" in text  # five of six
    assert SHOWN in text
    assert result.stderr.count("\n") == 1
    found = json.loads(checked(invoke("run", artifact_in(hostile), hostile, "--json"), 1))
    assert os.fsencode(found[0]["file"]) == os.fsencode(hostile / f"{HOSTILE}.png")


def test_inspect(invoke: Invoke, hostile: Path) -> None:
    text = checked(invoke("inspect", artifact_in(hostile), "--repeats", 0))
    assert SHOWN in text
    assert PRINTABLE in text
    checked(invoke("inspect", artifact_in(hostile), "--repeats", 0, "--json"))


def test_evaluate(invoke: Invoke, hostile: Path) -> None:
    def evaluate(rows: str, status: int) -> str:
        (hostile / "labels.csv").write_text(f"file,label\n{rows}\n", errors="surrogateescape")
        return checked(invoke("evaluate", artifact_in(hostile), "--data", hostile), status)

    assert "1 of 1" in evaluate("b.png,0", 0) or "0 of 1" in evaluate("b.png,0", 0)
    assert r"\x1b[31m" in evaluate("\x1b[31m[red].png,0", 1)
    assert r"\x1b[31m" in evaluate("b.png,\x1b[31m[red]", 1)
    same = ("--against", artifact_in(hostile))
    (hostile / "labels.csv").write_text("file,label\nb.png,0\n")
    assert SHOWN in checked(invoke("evaluate", artifact_in(hostile), "--data", hostile, *same))


def test_bench(invoke: Invoke, hostile: Path) -> None:
    text = checked(invoke("bench", artifact_in(hostile), "--seconds", 0.05))
    assert r"\x1b]0;owned\x07" in text
    assert r"\x1b]0;owned\x07" in checked(invoke("bench", artifact_in(hostile), "--against", HOSTILE), 1)
    assert json.loads(checked(invoke("bench", artifact_in(hostile), "--seconds", 0.05, "--json")))


def test_report(invoke: Invoke, hostile: Path, images: Path) -> None:
    page = hostile / f"{HOSTILE}.html"
    text = checked(invoke("report", artifact_in(hostile), "--data", images, "--output", page))
    assert SHOWN in text


def test_compress_ablate_and_sensitivity(
    invoke: Invoke, hostile: Path, source: Path, images: Path, tmp_path: Path
) -> None:
    network = (f"{source}:build", "--input-size", 16, "--calibration", images)
    recipe = ("--recipe", hostile / f"{HOSTILE}.toml")
    made = invoke("compress", *network, *recipe, "--output", hostile / f"x{HOSTILE}.subbyte")
    assert SHOWN in checked(made)
    out = ("--output", tmp_path / "out.subbyte")
    assert "there is no recipe" in checked(invoke("compress", *network, "--recipe", "\x1b[2J", *out), 1)
    names = tmp_path / "names"
    names.write_text("\x1b[31mant\n[bold red]bee\ncat\ndog\nelk\nfox\n")
    text = checked(invoke("compress", *network, "--recipe", "w8a8", *out, "--classes", names), 1)
    assert r"the name of class 0, '\x1b[31mant'" in text
    table = checked(
        invoke("ablate", *network, *recipe, "--data", images, "--output", tmp_path / HOSTILE / "o")
    )
    assert r"\x1b\]0;owned\x07" in table  # Markdown, which escapes brackets
    analysis = ("--weight-bits", "4", "--activation-bits", "", "--output", hostile / f"{HOSTILE}.json")
    assert SHOWN in checked(invoke("sensitivity", *network, *analysis))


def test_lists_and_usage(invoke: Invoke) -> None:
    checked(invoke("recipes"))
    checked(invoke("models"))
    assert r"\x1b[31m" in checked(invoke("models", HOSTILE), 2)
    assert r"\x1b[31m" in checked(invoke(HOSTILE), 2)
    assert r"\x1b[31m" in checked(invoke("models", f"--{HOSTILE}"), 2)

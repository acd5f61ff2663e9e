"""What the commands share towards the terminal: errors, progress, tables, JSON."""

from __future__ import annotations

import errno
import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from subbyte.errors import SubbyteError

T = TypeVar("T")
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
LINE_SECONDS = 30.0  # between two lines of progress in a file or a pipe
WIDE = 200  # columns for output that goes into a file or a pipe
#: packages that an extra installs, by the module that is missed without it
EXTRAS = {"torch": "torch", "onnx": "peers", "onnxruntime": "peers", "openvino": "peers"}


def reported(command: Callable[..., T]) -> Callable[..., T]:
    """The command with every expected failure as one line `error: ...` and exit status 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            return command(*args, **kwargs)
        except SubbyteError as error:
            fail(str(error))
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRAS:
                raise
            fail(f"this needs {package}: pip install 'subbyte[{EXTRAS[package]}]'")
        except MemoryError:
            fail("out of memory")
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return run


def fail(text: str) -> NoReturn:
    """Prints `error: text` as one line and ends the command with status 1."""
    typer.echo("error: " + " ".join(text.split()), err=True)
    raise typer.Exit(1)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; the function it gives is told how many of `total` are done. Without a terminal:
    a line now and then, see `_lines`."""
    if not sys.stderr.isatty():
        line = _lines(text)
        yield lambda done: line("", f"{done} of {total}")
        return
    with _bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stages(text: str) -> Iterator[Callable[[str, int], None]]:
    """Like `progress` for work in stages of unknown length, told the stage's name and how far it is."""
    if not sys.stderr.isatty():
        line = _lines(text)
        yield lambda stage, done: line(stage, str(done))
        return
    with _bar(BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(text, total=None)
        yield lambda stage, done: bar.update(task, description=f"{text}: {stage}", completed=done)


def _bar(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    first = TextColumn("{task.description}")
    return Progress(first, *columns, console=console, transient=True, disable=not console.is_terminal)


def _lines(text: str) -> Callable[[str, str], None]:
    """Told the stage and how far it is, prints that on stderr every LINE_SECONDS, and when the stage
    changes. What is done before the first line is due prints nothing."""
    start = monotonic()
    last, before = start, ""

    def tell(stage: str, done: str) -> None:
        nonlocal last, before
        now = monotonic()
        if now - last >= LINE_SECONDS or (last > start and stage != before):
            what = f"{text}: {stage}" if stage else text
            typer.echo(f"{what}: {done}, {round(now - start)} s", err=True)
            last, before = now, stage

    return tell


def show(*items: Any) -> None:
    """Prints rich renderables on stdout, as wide as the terminal."""
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    for item in items:
        console.print(item)


def show_json(value: Any) -> None:
    """Prints one JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def megabytes(count: int) -> str:
    """Bytes as decimal megabytes."""
    return f"{count / 1e6:.2f} MB"


def percent(share: float) -> str:
    """A share 0..1 in per cent."""
    return f"{100 * share:.2f} %"

"""What the commands share towards the terminal: errors, progress, tables, JSON.

Names and texts from files may hold anything: what is printed goes through `printable` here, and nothing in
it is read as markup.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from subbyte.errors import SubbyteError
from subbyte.system.printable import printable as printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

LINE_SECONDS = 30.0  # between two lines of progress in a file or a pipe
WIDE = 200  # columns for output that goes into a file or a pipe
LONGEST = 2000  # characters of an error, which may quote a file
#: packages that an extra installs, by the module that is missed without it
EXTRAS = {
    **dict.fromkeys(("typer", "rich", "pydantic", "PIL", "tomli"), "cli"),
    **dict.fromkeys(("torch", "huggingface_hub", "safetensors"), "torch"),
    **dict.fromkeys(("jinja2", "scipy"), "report"),
    "tensorboard": "logs",
    **dict.fromkeys(("optuna", "sqlalchemy"), "search"),
    "ray": "ray",
    "onnx_ir": "onnx",
    "cv2": "video",
    **dict.fromkeys(("onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert", "flatbuffers"), "peers"),
}


def say(text: str, error: bool = False) -> None:
    """Prints one line, on stderr if it is an error."""
    print(printable(text), file=sys.stderr if error else sys.stdout)


def show_lines(text: str, error: bool = False) -> None:
    """Prints a text of several lines."""
    for line in text.rstrip("\n").split("\n"):
        say(line, error)


def fail(text: str, status: int = 1) -> NoReturn:
    """Prints `error: text` as one line and ends the program with the status."""
    complain(text)
    sys.exit(status)


def complain(text: str, kind: str = "error") -> None:
    """Prints `error: text` as one line on stderr."""
    text = " ".join(text.split())
    say(f"{kind}: " + (text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."), error=True)


def warn(message: Warning | str, *where: Any, **more: Any) -> None:
    """Prints a warning of a library as one line on stderr, as `warnings.showwarning` does in several."""
    complain(str(message), "warning")


def explain(error: Exception) -> str | None:
    """What to tell a user about a failure that is not a fault of the program; None if it is one."""
    if isinstance(error, SubbyteError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return explain_missing(error)
    if isinstance(error, ImportError):  # where memory is short: it could not be mapped
        return f"a library cannot be loaded: {error}; free memory or raise its limit"
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.filename:  # without one, it is a stream's: see cli/__init__.py
        return f"{error.filename}: {error.strerror}"
    return None


def explain_missing(error: ModuleNotFoundError, who: str = "this") -> str | None:
    """What to install where a package of an extra is missing; None if it is no such package."""
    package = (error.name or "").partition(".")[0]
    return f"{who} needs {package}: pip install 'subbyte[{EXTRAS[package]}]'" if package in EXTRAS else None


def show_traceback(error: BaseException) -> None:
    """Prints where the program failed, on stderr."""
    show_lines("".join(traceback.format_exception(error)), error=True)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; the function it gives is told how many of `total` are done. Without a terminal:
    a line now and then, see `_lines`."""
    if not sys.stderr.isatty():
        line = _lines(text)
        yield lambda done: line("", f"{done} of {total}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with _bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(printable(text), total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stages(text: str) -> Iterator[Callable[[str, int], None]]:
    """Like `progress` for work in stages of unknown length, told the stage's name and how far it is; by its
    method `status`, what training tells (steps.status.Status), which stands beside that."""
    if not sys.stderr.isatty():
        line = _lines(text)
        yield Stages(lambda stage, done, status: line(stage, str(done), status))
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    more = TextColumn("{task.fields[status]}", style="dim", markup=False)
    with _bar(BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn(), more) as bar:
        task = bar.add_task(printable(text), total=None, status="")

        def update(stage: str, done: int, status: str) -> None:
            description = printable(f"{text}: {stage}")
            bar.update(task, description=description, completed=done, status=printable(status))

        yield Stages(update)


class Stages:
    """Remembers what training told last in the stage that goes on. show: given stage, how far, and that."""

    def __init__(self, show: Callable[[str, int, str], None]) -> None:
        self.show, self.told = show, ""

    def __call__(self, stage: str, done: int) -> None:
        self.show(stage, done, self.told)
        self.told = ""

    def status(self, status: object) -> None:
        """Shown with what is told next."""
        self.told = str(status)


@contextmanager
def steps(text: str) -> Iterator[Callable[[int, int, str], None]]:
    """Like `progress` for steps of which there is something to say: told how many are done, of how many, and
    that."""
    if not sys.stderr.isatty():
        line = _lines(text)
        yield lambda done, total, what: line("", f"{done} of {total}, {what}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn

    with _bar(BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task(printable(text), total=None)
        yield lambda done, total, what: bar.update(
            task, description=printable(f"{text}: {what}"), completed=done, total=total
        )


def _bar(*columns: ProgressColumn) -> Progress:
    from rich.progress import Progress, TextColumn

    console = _console(stderr=True)
    first = TextColumn("{task.description}", markup=False)
    return Progress(first, *columns, console=console, transient=True, disable=not console.is_terminal)


def note(text: str) -> None:
    """Prints a dim line on stderr if that is a terminal."""
    console = _console(stderr=True)
    if console.is_terminal:
        console.print(styled(text, "dim"))


def _lines(text: str) -> Callable[..., None]:
    """Told the stage, how far it is, and more if there is more, prints that on stderr every LINE_SECONDS,
    and when the stage changes. What is done before the first line is due prints nothing."""
    start = monotonic()
    last, before = start, ""

    def tell(stage: str, done: str, more: str = "") -> None:
        nonlocal last, before
        now = monotonic()
        if now - last >= LINE_SECONDS or (last > start and stage != before):
            what = f"{text}: {stage}" if stage else text
            say(f"{what}: {done}, {round(now - start)} s" + (more and f", {more}"), error=True)
            last, before = now, stage

    return tell


def show(*items: Any) -> None:
    """Prints rich renderables on stdout, as wide as the terminal. A string is text, never markup."""
    console = _console(width=None if sys.stdout.isatty() else WIDE)
    for item in items:
        console.print(item)


def styled(text: str, style: str) -> Text:
    """Text in a color or weight, for a cell of a table."""
    from rich.text import Text

    return Text(printable(text), style)


def _console(**options: Any) -> Console:
    from rich.console import Console

    class Plain(Console):
        """Takes every string, in a table or not, as text without meaning."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Plain(markup=False, emoji=False, highlight=False, **options)


def show_json(value: Any) -> None:
    """Prints one JSON document on stdout, in ASCII: its escapes are JSON's own. NaN and infinities, which
    JSON does not have, become null."""
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The table of commands, and how a command ends."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

from subbyte.cli.console import explain, fail, say, show_traceback, warn
from subbyte.cli.once import Once
from subbyte.cli.signals import RECEIVED

#: The base of all that can be wrong with a command line; typer has no public name for it.
UsageError: Any = typer.BadParameter.__base__
SETTINGS = {"help_option_names": ["-h", "--help"]}

#: Name, module, and the line in the list of commands: the first of the command's docstring. Modules are
#: imported when their command is used, which is what makes `subbyte --help` fast.
COMMANDS = {
    "check": (
        "check",
        "Whether a network can be compressed: what it costs, or every operator that stops it.",
    ),
    "train": (
        "train",
        "Train a network in full precision; images and regularization grow together (arXiv 2104.00298).",
    ),
    "search": (
        "search",
        "Find networks of a space that are accurate within a device's limits: a Pareto front.",
    ),
    "compress": ("compress", "Compress a model by a recipe and write one artifact."),
    "run": ("run", "Classify images: the five best classes of each."),
    "evaluate": (
        "evaluate",
        "Accuracy with intervals; beside another artifact's; on corrupted images; by shape and texture.",
    ),
    "hands": (
        "hands",
        "Find a hand's 21 landmarks in images, follow it through a video, and print milliseconds per stage.",
    ),
    "bench": (
        "bench",
        "Time artifacts of one network, in turns with other engines on the same images and cores.",
    ),
    "inspect": (
        "inspect",
        "Show the plan: memory, what runs depth-first, and per layer requested and executed formats, "
        "kernel, share of time.",
    ),
    "export": (
        "export",
        "Write an artifact as a file of another runtime: ONNX (QDQ), QONNX or TensorFlow Lite.",
    ),
    "report": (
        "report",
        "Compare artifacts, and peers, on labelled images: one HTML page that needs no network.",
    ),
    "ablate": (
        "ablate",
        "Compress without each step and technique of a recipe, or with options changed; compare.",
    ),
    "sensitivity": (
        "sensitivity",
        "Bring each layer's weights and activations alone to fewer bits, and measure the degradation.",
    ),
    "recipes": ("lists", "The recipes that come with the package."),
    "models": ("lists", "The networks that come with the package."),
}


class Commands(TyperGroup):
    """Commands that are imported when they are used, and end with one line and a status."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, command(str(name)), rest

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Status 0; 1 for what is wrong with files and values, 2 with the command line."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        context: Any = None
        try:
            with self.make_context("subbyte", arguments) as context:
                self.invoke(context)
        except typer.Exit as end:
            sys.exit(end.exit_code)
        except UsageError as error:
            fail(_usage(error, context), status=2)
        except Exception as error:
            if RECEIVED or (text := explain(error)) is None:
                raise
            if "--traceback" in arguments or os.environ.get("SUBBYTE_TRACEBACK"):
                show_traceback(error)
            fail(text)
        sys.exit(0)


def _usage(error: Any, context: Any) -> str:
    """What is wrong with the command line, and where its rules are."""
    where = f"subbyte {context.invoked_subcommand}" if error.ctx is None else error.ctx.command_path
    return f"{error.format_message().rstrip('.')}; see {where} --help"


app = typer.Typer(
    name="subbyte",
    cls=Commands,
    help="Compress convolutional networks to 8 bits and fewer, run them, and measure what that costs.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes would cost the time to import rich
    context_settings=SETTINGS,
)


def command(name: str) -> Any:
    """The command of that name, with its parameters."""
    module, _ = COMMANDS[name]
    own = typer.Typer(add_completion=False, rich_markup_mode=None)
    own.command(name, cls=Once, context_settings=SETTINGS)(
        getattr(importlib.import_module(f"subbyte.cli.{module}"), name)
    )
    return get_command(own)


def _listed() -> None:
    """Stands for a command in the list of commands."""


for _name, (_, _line) in COMMANDS.items():
    app.command(_name, help=_line, short_help=_line)(_listed)


def _version(wanted: bool) -> None:
    if wanted:
        from subbyte.system.version import __version__

        say(f"subbyte {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
    pass


def main() -> NoReturn:
    """Runs the command line; `subbyte.cli.main` also takes care of signals."""
    warnings.showwarning = warn
    raise SystemExit(get_command(app).main())

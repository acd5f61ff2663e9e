"""The table of commands."""

from __future__ import annotations

from typing import Annotated

import typer

import subbyte
from subbyte.cli.ablate import ablate
from subbyte.cli.bench import bench
from subbyte.cli.check import check
from subbyte.cli.compress import compress
from subbyte.cli.console import reported
from subbyte.cli.evaluate import evaluate
from subbyte.cli.inspect import inspect
from subbyte.cli.lists import models, recipes
from subbyte.cli.report import report
from subbyte.cli.run import run
from subbyte.cli.sensitivity import sensitivity

app = typer.Typer(
    name="subbyte",
    help="Compress convolutional networks to 8 bits and fewer, run them, and measure what that costs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (check, compress, run, evaluate, bench, inspect, report, ablate, sensitivity, recipes, models):
    app.command()(reported(command))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subbyte {subbyte.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of the installed `subbyte` command."""
    app()

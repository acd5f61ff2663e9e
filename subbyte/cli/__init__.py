"""The `subbyte` command: one verb per arrow of the data flow. See `subbyte --help`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType

from subbyte.cli.signals import BROKEN_PIPE, RECEIVED, SAYS, Ended


def main() -> None:
    """The entry point of the installed `subbyte` command.

    Signals are handled before anything slow is imported. They become exceptions, so that what is being
    written is removed on the way out; whatever the code on that way makes of the exception, one line is
    printed, and no traceback.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        RECEIVED.append(signal.Signals(number))
        raise Ended

    def uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if not RECEIVED:
            from subbyte.cli.console import show_traceback

            show_traceback(error)

    def unraisable(report: sys.UnraisableHookArgs) -> None:
        if not RECEIVED:
            sys.__unraisablehook__(report)

    sys.excepthook, sys.unraisablehook = uncaught, unraisable
    try:
        for number in SAYS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as it is for a job in a script's background
                signal.signal(number, stop)
        from subbyte.cli.app import main as command_line

        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by `>&-`
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        try:
            command_line()
        finally:
            sys.stdout.flush()
    except OSError as error:
        _output_failed(error)
    except BaseException as error:
        if not RECEIVED:
            if isinstance(error, ModuleNotFoundError):
                _package_missing(error)
            raise
    print(SAYS[RECEIVED[0]], file=sys.stderr)
    sys.exit(128 + RECEIVED[0])


def _package_missing(error: ModuleNotFoundError) -> None:
    """Ends the program with one line if an extra brings what is missing: the commands themselves need one."""
    from subbyte.cli.console import explain_missing, fail

    if (text := explain_missing(error, "the command line")) is not None:
        fail(text)


def _output_failed(error: OSError) -> None:
    """Ends the program when stdout cannot be written to: a full disk, or `subbyte models | head -1`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # else what is still in its buffer fails again at exit
    if not isinstance(error, BrokenPipeError):
        print(f"error: cannot write the output: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    os.dup2(nowhere, sys.stderr.fileno())
    sys.exit(BROKEN_PIPE)

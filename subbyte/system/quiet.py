"""Output of third-party code goes nowhere: what it prints, warns and logs from Python, or writes from C."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, warnings, logging up to WARNING and prints to stdout and stderr go nowhere."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def quiet_descriptor(number: int) -> Iterator[None]:
    """Inside, what C code writes to a file descriptor (1: stdout, 2: stderr) goes nowhere.

    What it prints may lie in a buffer until then, which is emptied inside too.
    """
    sys.stdout.flush()
    kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # no such C library on this system
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, number)
        os.close(kept)
        os.close(nowhere)

"""The signals that end a command."""

from __future__ import annotations

import signal

#: What is printed at a signal that ends the program. The exit status is 128 + its number, as in a shell.
SAYS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
BROKEN_PIPE = 128 + 13  # SIGPIPE, which not every system has


class Ended(KeyboardInterrupt):
    """A signal came. Of a KeyboardInterrupt itself Python remembers that it was one, and ends by SIGINT."""


#: The signals that came so far: whatever goes wrong after one is a consequence.
RECEIVED: list[signal.Signals] = []

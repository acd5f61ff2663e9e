"""The `subbyte` command: one verb per arrow of the data flow. See `subbyte --help`."""

from subbyte.cli.app import app, main

__all__ = ["app", "main"]

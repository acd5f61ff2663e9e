"""The `subbyte` command, also as `python -m subbyte`."""

import sys


def main() -> None:
    """Loads the commands and runs one. Where memory is short, that shows first while libraries load."""
    try:
        from subbyte.cli import main as command
    except ModuleNotFoundError:
        raise
    except (ImportError, MemoryError, SystemError) as error:
        reason = " ".join(str(error).split())[:300] or "out of memory"
        sys.exit(f"error: a library cannot be loaded ({reason}); free memory or raise its limit")
    except KeyboardInterrupt:  # by hand, or by OpenBLAS, which sends it where it cannot start threads
        sys.exit("error: interrupted while libraries were loaded")
    command()


if __name__ == "__main__":
    main()

"""How long the command line takes to start: the least of several runs, which other programs disturb least.

python -m bench.startup [--runs 20]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "import subbyte": ("-c", "import subbyte"),
    "subbyte --help": ("-m", "subbyte", "--help"),
    "subbyte run --help": ("-m", "subbyte", "run", "--help"),
    "subbyte models": ("-m", "subbyte", "models"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="of each command")
    runs = parser.parse_args().runs
    seconds = {name: [_seconds(command) for _ in range(runs)] for name, command in COMMANDS.items()}
    for name, found in seconds.items():
        wall, cpu = (1e3 * min(column) for column in zip(*found, strict=True))
        print(f"{name:20}{wall:6.0f} ms, of the CPU {cpu:6.0f} ms")


def _seconds(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Of one run: by the clock, and of the CPU, which says more on a busy machine."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return end - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

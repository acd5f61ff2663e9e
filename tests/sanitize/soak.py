"""Fuzzes the sanitized engine for hours: artifact files and descriptor sets in turn, each with a new seed.

    python -m tests.sanitize.soak --hours 8 [--seed N] [--folder build/soak]

Every round's seed, counts and time go to `log` in the folder, and what failed is kept there as files;
a round is repeated by giving its seed to the command that the log names. Exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from tests.sanitize.__main__ import ROOT, build, environment, sanitized

FILES = ("tests.fuzz.run", "--engine", "--count", "500")
DESCRIPTORS = ("tests.fuzz.descriptors", "--count", "2000")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of the first round; then counted up"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "soak")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    env = environment(sanitized(build()))
    end, seed, failed = time.monotonic() + 3600 * args.hours, args.seed, 0
    while time.monotonic() < end:
        for module, *options in (FILES, DESCRIPTORS):
            command = ["-m", module, *options, "--memory", "0", "--seed", str(seed)]
            keep = ["--failures", str(args.folder)]
            result = subprocess.run(
                [sys.executable, *command, *keep], cwd=ROOT, env=env, capture_output=True, text=True
            )
            failed += result.returncode != 0
            counts = (result.stdout.splitlines() or [""])[1:2]
            words = f"{datetime.now():%Y-%m-%d %H:%M:%S} {' '.join(command)}: {' '.join(counts)}"
            if result.returncode:
                words += f"\n{result.stdout}{result.stderr}"
            print(words, flush=True)
            with (args.folder / "log").open("a") as log:
                log.write(words + "\n")
        seed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

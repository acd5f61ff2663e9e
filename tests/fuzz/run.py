"""Mutates artifact files and watches what loading and running them does.

    python -m tests.fuzz.run --count 10000 --seed 1            the numpy reference runs what loads
    python -m tests.fuzz.run --count 10000 --seed 1 --engine   the native engine does, and must agree
    python -m tests.fuzz.run --count 10000 --seed 1 --only sparse     mutants of one of the graphs

Every mutant is made in a child process (tests/fuzz/trial.py) with a limit on time and address
space; one that kills or hangs its child is saved, with the child's last words, and the rest goes
on. Exits with 1 if any mutant crashed, hung, failed (another exception than ArtifactError) or gave
other integers than the reference. Under AddressSanitizer (LD_PRELOAD=libasan.so, and
ASAN_OPTIONS=detect_leaks=0 because Python leaks at exit) the limit on address space has to be off:
--memory 0.
"""

from __future__ import annotations

import argparse
import os
import selectors
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from json import loads
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 120.0  # seconds for a child to start, and to end after its last mutant
FAILURES = ("crashed", "hung", "failed", "disagreed")
Command = Callable[[int, int], list[str]]


@dataclass
class Summary:
    """Counts by outcome and by (kind, outcome); the failures as (number, kind, outcome, detail)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, number: int, outcome: str, kind: str, detail: str) -> None:
        self.outcomes[outcome] += 1
        self.kinds[kind.split("/")[-1], outcome] += 1
        if outcome in FAILURES:
            self.failures.append((number, kind, outcome, detail))


def trial_command(seed: int, engine: bool, memory: int, only: str = "") -> Command:
    """The child for mutants begin .. end-1, as a function of these."""

    def command(begin: int, end: int) -> list[str]:
        fixed = [
            sys.executable,
            "-X",
            "faulthandler",
            "-W",
            "error",
            "-m",
            "tests.fuzz.trial",
            "--seed",
            str(seed),
        ]
        if memory == 0:  # a sanitizer reports crashes itself
            del fixed[1:3]
        fixed += ["--memory", str(memory), "--only", only, *(["--engine"] if engine else [])]
        return [*fixed, "--begin", str(begin), "--end", str(end)]

    return command


def watch(command: Command, begin: int, end: int, limit: float) -> Summary:
    """Runs children until every mutant of begin .. end-1 has ended, one way or another."""
    summary, number = Summary(), begin
    while number < end:
        with tempfile.TemporaryFile() as words:
            child = subprocess.Popen(
                command(number, end), cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=words
            )
            try:
                number = _follow(child, number, limit, summary, words)
            finally:
                child.kill()
                child.wait()
                child.stdout.close()  # type: ignore[union-attr]
    return summary


def _follow(
    child: subprocess.Popen[bytes], number: int, limit: float, summary: Summary, words: IO[bytes]
) -> int:
    """Reads a child's reports until it ends; returns the number of the first mutant still to do."""
    kind = ""
    for line in _lines(child, limit):
        if line is None:
            summary.add(number, "hung", kind, f"no answer within {limit} s")
            return number + 1
        current, outcome, kind, detail = loads(line)
        if outcome != "began":
            summary.add(current, outcome, kind, detail)
            number = current + 1
            kind = ""
    code = child.wait(START_LIMIT)
    if code == 0:
        return number
    if not kind:
        raise RuntimeError(f"the child ended with {code} outside any mutant:\n{_tail(words)}")
    summary.add(number, "crashed", kind, f"exit status {code}\n{_tail(words)}")
    return number + 1


def _lines(child: subprocess.Popen[bytes], limit: float) -> Iterator[bytes | None]:
    """The child's output by lines; None once if, having begun, it says nothing for `limit` seconds."""
    assert child.stdout is not None
    pending, patience = b"", START_LIMIT
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(patience):
                yield None
                return
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            if not chunk:
                return
            patience = limit
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines


def _tail(words: IO[bytes]) -> str:
    words.seek(0)
    return words.read()[-8000:].decode(errors="replace")


def _environment() -> dict[str, str]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    asan = os.environ.get("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1")
    return {**os.environ, **single, "ASAN_OPTIONS": asan}


def save_failures(summary: Summary, seed: int, folder: Path, only: str = "") -> None:
    """Each failing mutant's file and story."""
    from tests.fuzz.trial import mutant

    folder.mkdir(parents=True, exist_ok=True)
    for number, kind, outcome, detail in summary.failures:
        stem = f"{outcome}-{seed}-{number}"
        (folder / f"{stem}.subbyte").write_bytes(mutant(seed, number, only)[1])
        (folder / f"{stem}.txt").write_text(f"{kind}\n{detail}\n")


def report(summary: Summary) -> str:
    lines = [", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.most_common())]
    outcomes = sorted(summary.outcomes)
    lines.append(f"{'mutation':<24}" + "".join(f"{outcome:>10}" for outcome in outcomes))
    for kind in sorted({kind for kind, _ in summary.kinds}):
        lines.append(f"{kind:<24}" + "".join(f"{summary.kinds[kind, o]:>10}" for o in outcomes))
    for number, kind, outcome, detail in summary.failures[:20]:
        last = detail.strip().splitlines()[-1:] or [""]
        lines.append(f"{outcome}: mutant {number} ({kind}): {last[0]}")
    return "\n".join(lines)


def parser_of(description: str, subject: str, limit: float) -> argparse.ArgumentParser:
    """The options of both fuzzers, for `hunt`; `limit`: the usual seconds for one subject."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--begin", type=int, default=0, help=f"number of the first {subject}")
    parser.add_argument("--limit", type=float, default=limit, help=f"seconds for one {subject}")
    parser.add_argument("--memory", type=int, default=2048, help="address space in MiB; 0: no limit")
    parser.add_argument("--failures", type=Path, default=Path(tempfile.gettempdir()) / "subbyte-fuzz")
    return parser


def hunt(
    args: argparse.Namespace, subject: str, command: Command, save: Callable[[Summary, int, Path], None]
) -> int:
    """Watches what the options ask for, prints the counts and saves the failures; the exit status."""
    end = args.begin + args.count
    print(f"seed {args.seed}, {subject}s {args.begin}..{end - 1}", flush=True)
    summary = watch(command, args.begin, end, args.limit)
    print(report(summary))
    if summary.failures:
        save(summary, args.seed, args.failures)
        print(f"{len(summary.failures)} failures, saved in {args.failures}")
    return 1 if summary.failures else 0


def main() -> int:
    parser = parser_of(str(__doc__), "mutant", limit=30.0)
    parser.add_argument("--engine", action="store_true", help="run on the native engine, compare")
    parser.add_argument("--only", default="", help="mutate this seed graph alone")
    args = parser.parse_args()
    command = trial_command(args.seed, args.engine, args.memory, args.only)
    return hunt(args, "mutant", command, partial(save_failures, only=args.only))


if __name__ == "__main__":
    sys.exit(main())

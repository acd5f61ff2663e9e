"""A few hundred mutants in every test run, and that the fuzzer notices what it is there to notice."""

from __future__ import annotations

import pickle
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from subbyte.artifact import load
from tests.fuzz.document import Document
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.run import Command, Summary, report, save_failures, trial_command, watch
from tests.fuzz.trial import bases, mutant

SEED = 20
COUNT = 300

#: A child that reports three mutants from `begin`, and goes wrong in the second as told.
FAKE = """
import json, os, signal, sys, time
begin, end = int(sys.argv[1]), int(sys.argv[2])
def say(*row):
    print(json.dumps(row), flush=True)
for number in range(begin, end):
    say(number, "began", "graph/kind", "")
    if number == 1:
        print("last words", file=sys.stderr, flush=True)
        {action}
    say(number, "ran", "graph/kind", "")
"""


def fake(action: str) -> Command:
    return lambda begin, end: [sys.executable, "-c", FAKE.format(action=action), str(begin), str(end)]


def test_mutants_are_refused_or_run() -> None:
    """Loading on the reference: every mutant ends as promised."""
    print(f"seed {SEED}")
    summary = watch(trial_command(SEED, engine=False, memory=2048), 0, COUNT, limit=120)
    assert not summary.failures, report(summary)
    assert sum(summary.outcomes.values()) == COUNT
    assert set(summary.outcomes) <= {"refused", "ran", "large"}
    # both kinds of end are well exercised, or the mutations have lost their use
    assert summary.outcomes["refused"] >= COUNT // 4
    assert summary.outcomes["ran"] >= COUNT // 4
    assert {kind for kind, _ in summary.kinds} == {*MUTATIONS, "rewrite"}


def test_mutants_run_on_the_engine_as_on_the_reference() -> None:
    pytest.importorskip("subbyte._native", reason="the engine is not built", exc_type=ImportError)
    summary = watch(trial_command(SEED, engine=True, memory=2048), COUNT, 2 * COUNT, limit=120)
    assert not summary.failures, report(summary)
    assert set(summary.outcomes) <= {"refused", "ran", "large", "declined"}
    assert summary.outcomes["ran"] >= COUNT // 4


def test_descriptors_are_refused_or_run() -> None:
    pytest.importorskip("subbyte._native", reason="the engine is not built", exc_type=ImportError)
    from tests.fuzz import descriptors

    summary = watch(descriptors.command_of(SEED, memory=2048), 0, COUNT, limit=120)
    assert not summary.failures, report(summary)
    assert set(summary.outcomes) <= {"refused", "ran", "large"}
    assert summary.outcomes["refused"] >= COUNT // 4
    assert summary.outcomes["ran"] >= COUNT // 4
    assert {kind for kind, _ in summary.kinds} == {*descriptors.MUTATIONS, "none"}


def test_a_descriptor_set_is_always_the_same(tmp_path: Path) -> None:
    pytest.importorskip("subbyte._native", reason="the engine is not built", exc_type=ImportError)
    from tests.fuzz import descriptors

    summary = Summary(failures=[(number, "kind", "crashed", "last words") for number in range(40)])
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        descriptors.save_failures(summary, SEED, folder)
    files = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders]
    assert files[0] == files[1]
    assert len(set(files[0])) == 40
    for number in range(40):
        assert pickle.dumps(descriptors.make(SEED, number)) == pickle.dumps(descriptors.make(SEED, number))


def test_a_mutant_is_always_the_same() -> None:
    for number in range(40):
        assert mutant(SEED, number) == mutant(SEED, number)
    assert len({mutant(SEED, number)[1] for number in range(40)}) > 30


@pytest.mark.parametrize("kind", sorted(MUTATIONS))
def test_every_mutation_changes_the_file(kind: str) -> None:
    rng, changed = random.Random(SEED), 0
    for _, _, data in bases():
        changed += MUTATIONS[kind](rng, data) != data
    assert changed >= len(bases()) // 2


def test_documents_survive_being_taken_apart(tmp_path: Path) -> None:
    for _, _, data in bases():
        document = Document.split(data)
        path = tmp_path / "a.subbyte"
        path.write_bytes(document.join())
        load(path)


@pytest.mark.parametrize(
    "action", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "sys.exit(7)", "os._exit(1)"]
)
def test_a_crash_is_noticed_and_the_rest_goes_on(action: str) -> None:
    summary = watch(fake(action), 0, 4, limit=60)
    assert summary.outcomes == Counter(ran=3, crashed=1)
    number, kind, outcome, detail = summary.failures[0]
    assert (number, kind, outcome) == (1, "graph/kind", "crashed")
    assert "last words" in detail


def test_a_hang_is_noticed_and_the_rest_goes_on() -> None:
    summary = watch(fake("time.sleep(600)"), 0, 3, limit=3)
    assert summary.outcomes == Counter(ran=2, hung=1)
    assert summary.failures[0][0] == 1


def test_a_child_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="outside any mutant"):
        watch(lambda begin, end: [sys.executable, "-c", "import sys; sys.exit(3)"], 0, 2, limit=60)


def test_failures_are_saved_with_their_story(tmp_path: Path) -> None:
    summary = watch(fake("os.abort()"), 0, 2, limit=60)
    save_failures(summary, SEED, tmp_path)
    assert (tmp_path / f"crashed-{SEED}-1.subbyte").read_bytes() == mutant(SEED, 1)[1]
    assert "last words" in (tmp_path / f"crashed-{SEED}-1.txt").read_text()
    assert "crashed: mutant 1" in report(summary)

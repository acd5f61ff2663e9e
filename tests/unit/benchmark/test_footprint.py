"""Load time, memory and throughput: what is measured is what was asked for."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import save
from subbyte.benchmark import footprint as module
from subbyte.benchmark.engine_file import EngineFile
from subbyte.benchmark.footprint import Footprint, footprint, resident_bytes
from subbyte.benchmark.opener import opener
from subbyte.benchmark.throughput import ROUNDS, throughput, throughput_of_files
from subbyte.errors import InputError
from subbyte.execute.native import Session
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap


def large(folder: Path, megabytes: int) -> EngineFile:
    """A network whose weights take `megabytes` in the file and in the engine."""
    b = Builder(random.Random(1), (1, 1, 1000))
    outputs = [b.qconv(b.quantize("image"), 1000, out_bits=None) for _ in range(megabytes)]
    path = folder / f"{megabytes}.subbyte"
    save(path, wrap(b.finish(*outputs)))
    return EngineFile("subbyte", "w8a8", str(path))


def test_memory_grows_by_the_weights_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MB more of weights are 16 MB more of memory: none is held twice, whatever loading took."""
    if resident_bytes() is None:
        pytest.skip("this system does not say how much memory a process has")
    monkeypatch.setattr(module, "REPEATS", 1)
    small, much = (footprint(large(tmp_path, n), threads=1, shape=(1, 1, 1, 1000)) for n in (4, 20))
    assert small.resident_bytes is not None
    assert much.resident_bytes is not None
    assert 14e6 < much.resident_bytes - small.resident_bytes < 20e6
    assert small.load_ms > 0


def test_repeats_are_summarized(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(3.0, 5), (1.0, 9), (2.0, 7), (4.0, None), (4.0, None), (4.0, None)])
    monkeypatch.setattr(
        module, "ask", lambda *_: dict(zip(("load_ms", "resident_bytes"), next(answers), strict=True))
    )
    file = EngineFile("subbyte", "w8a8", "x")
    assert footprint(file, threads=1, shape=(1,)) == Footprint(1.0, 7)
    assert footprint(file, threads=1, shape=(1,)) == Footprint(4.0, None)


def test_a_process_that_fails_is_one_sentence(tmp_path: Path) -> None:
    missing = EngineFile("subbyte", "w8a8", str(tmp_path / "none.subbyte"))
    with pytest.raises(InputError, match=r"subbyte w8a8 cannot be measured .*none\.subbyte"):
        footprint(missing, threads=1, shape=(1, 1, 1, 1000))


def test_an_artifact_is_opened_with_its_streams(tmp_path: Path) -> None:
    file = large(tmp_path, 1)
    x = np.random.default_rng(0).standard_normal((2, 1, 1, 1000), np.float32)
    runs = opener("subbyte")(file, threads=1, streams=2)
    assert len(runs) == 2
    expected = Session(file.path).run(x)
    assert all(np.array_equal(np.asarray(run(x)), expected) for run in runs)


def test_streams_run_at_the_same_time() -> None:
    """Two callers that wait for each other: in turns, neither would return."""
    together = threading.Barrier(2, timeout=60)

    def run(x: np.ndarray) -> None:
        together.wait()

    # seconds=0: one untimed call and one timed one of each stream, in step
    speeds = throughput([[run, run]], [np.zeros((3, 2))], 0)
    assert speeds.shape == (1, ROUNDS)
    assert (speeds > 0).all()


def test_speed_counts_images(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    calls: list[int] = []
    speeds = throughput([[lambda x: calls.append(len(x))]], [np.zeros((3, 2))], 2.0 * ROUNDS)
    # Of a turn's clock: 0 begins it, 1 is the stream's own begin; it calls until 3, asking after the first
    # call (2) and the second (3); 4 ends it. Six images in 4 s, and three before.
    assert calls == [3] * 3 * ROUNDS
    assert (speeds == 6 / 4).all()


def test_files_are_measured_in_a_process_of_their_own(tmp_path: Path) -> None:
    small, large_one = (large(tmp_path, n) for n in (1, 8))
    speeds = throughput_of_files([small, large_one], [(2, 1, 1, 1000)] * 2, streams=2, seconds=0.5)
    assert speeds.shape == (2, ROUNDS)
    assert (speeds > 0).all()
    missing = EngineFile("subbyte", "w8a8", str(tmp_path / "none.subbyte"))
    with pytest.raises(InputError, match=r"the throughput cannot be measured .*none\.subbyte"):
        throughput_of_files([small, missing], [(2, 1, 1, 1000)] * 2, streams=1, seconds=0)


def test_a_failing_stream_is_an_error() -> None:
    def fails(x: np.ndarray) -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        throughput([[fails, fails]], [np.zeros((1, 2))], 0)

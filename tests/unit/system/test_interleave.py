"""The order and the arithmetic of timing, under a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from subbyte.system.interleave import MIN_CALLS, MIN_ROUNDS, SLICE_SECONDS, interleave


class World:
    """A clock, and functions that take known time on it and leave a trace."""

    def __init__(self) -> None:
        self.now, self.trace = 0.0, ""

    def clock(self) -> float:
        return self.now

    def candidate(self, letter: str, *seconds: float) -> Callable[[], None]:
        """Takes the given durations in turn, over and over."""
        calls = 0

        def run() -> None:
            nonlocal calls
            self.now += seconds[calls % len(seconds)]
            calls += 1
            self.trace += letter

        return run


def turns(trace: str) -> str:
    """Consecutive equal letters as one."""
    return "".join(a for a, b in zip(trace, trace[1:] + " ", strict=True) if a != b)


def test_rounds_rotate_and_first_calls_are_not_timed() -> None:
    world = World()
    runs = [world.candidate(letter, SLICE_SECONDS) for letter in "ABC"]
    samples = interleave(runs, 0.0, clock=world.clock)
    per_turn = MIN_CALLS + 1
    warm_up = 3 * (1 + 3)
    assert len(world.trace) == warm_up + MIN_ROUNDS * 3 * per_turn
    assert turns(world.trace[warm_up:]) == turns("ABCBCACABABCBCA")
    assert all(len(r) == MIN_CALLS for s in samples for r in s.rounds)
    for s in samples:
        np.testing.assert_allclose(s.all, SLICE_SECONDS, rtol=1e-9)


def test_a_fast_candidate_fills_its_turn() -> None:
    world = World()
    samples = interleave([world.candidate("A", SLICE_SECONDS / 8)], 0.0, clock=world.clock)
    assert {len(r) for r in samples[0].rounds} == {8}


def test_it_goes_on_until_the_time_is_used() -> None:
    world = World()
    run = world.candidate("A", 0.25)
    (samples,) = interleave([run], 10.0, clock=world.clock)
    # a round is four calls, a second; the tenth ends exactly at the limit
    assert len(samples.rounds) == 10


def test_medians_are_taken_round_by_round() -> None:
    world = World()
    # four calls warm up; then every fourth call, 9.0, is the untimed one of a round
    run = world.candidate("A", 9.0, 6.0, 2.0, 1.0)
    (samples,) = interleave([run], 0.0, clock=world.clock)
    assert [r.tolist() for r in samples.rounds] == [[6.0, 2.0, 1.0]] * MIN_ROUNDS
    assert samples.round_medians.tolist() == [2.0] * MIN_ROUNDS


def test_cpu_time_is_that_of_the_timed_calls() -> None:
    world, used = World(), 0.0
    runs = [world.candidate(letter, SLICE_SECONDS) for letter in "AB"]

    def busy() -> None:
        nonlocal used
        runs[0]()
        used += 3 * SLICE_SECONDS  # three threads

    a, b = interleave([busy, runs[1]], 0.0, clock=world.clock, cpu_clock=lambda: used)
    np.testing.assert_allclose(a.cpu, [3 * SLICE_SECONDS] * MIN_ROUNDS)
    assert b.cpu.tolist() == [0.0] * MIN_ROUNDS


def test_a_clock_that_stands_still_is_survived() -> None:
    samples = interleave([lambda: None], 0.0, clock=iter([0.0] * 1000).__next__)
    assert samples[0].all.tolist() == [0.0] * MIN_CALLS * MIN_ROUNDS


def test_a_failing_candidate_is_not_swallowed() -> None:
    def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        interleave([fails], 1.0)

"""The search: the same after an interruption, with several workers, and within limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from subbyte.device import Host, find_target
from subbyte.errors import InputError
from subbyte.search import Candidate, Space
from subbyte.search.costs import Costs, Limits, cost_of, costs_of
from subbyte.search.engine import Evaluated, Method, Search
from subbyte.search.front import front, front_json, hypervolume, picture
from subbyte.search.pool import evaluating

pytest.importorskip("optuna", reason="needs the extra search")
pytest.importorskip("sqlalchemy", reason="needs the extra search")
POPULATION, GENERATIONS = 6, 3


def error_of(candidate: Candidate) -> float:
    """Large networks are good ones."""
    return 1.0 / (1 + candidate.stem + sum(s.channels * s.depth * s.kernel for s in candidate.stages))


def quick_costs(candidates: Sequence[Candidate]) -> list[Costs]:
    return [
        Costs(float(sum(s.channels * s.depth for s in c.stages) + c.resolution), None, c.head, c.stem, 1)
        for c in candidates
    ]


class Interrupted:
    """Errors of so many candidates, then an interruption."""

    def __init__(self, most: int) -> None:
        self.left = most

    def __call__(self, candidates: Sequence[Candidate]) -> Iterable[float]:
        for candidate in candidates:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield error_of(candidate)


def search(space: Space, file: Path, most: int = 1000, **changes: Any) -> Search:
    given = {
        "limits": Limits(latency=70.0),
        "seed": 5,
        "cost": "latency",
        "population": POPULATION,
        **changes,
    }
    return Search(space, begun={}, file=file, costs=quick_costs, errors=Interrupted(most), **given)


@pytest.mark.parametrize("method", ["nsga2", "random"])
def test_resumed_is_the_same(space: Space, tmp_path: Path, method: Method) -> None:
    whole = search(space, tmp_path / "whole.db").run(method, GENERATIONS)
    assert len(whole) == POPULATION * GENERATIONS
    told: list[Evaluated] = []
    for most in (0, 1, 4, 1000):
        again = search(space, tmp_path / "parts.db", most)
        try:
            found = again.run(method, GENERATIONS, told.append)
        except KeyboardInterrupt:
            assert most < 1000
    assert found == told == whole
    assert front(found, "latency") == front(whole, "latency")
    assert search(space, tmp_path / "parts.db", 0).run(method, GENERATIONS) == whole
    assert search(space, tmp_path / "parts.db", 0).run(method, 1) == whole[:POPULATION]


def test_limits(space: Space, tmp_path: Path) -> None:
    """What is outside is not evaluated, and less and less is asked for."""
    found = search(space, tmp_path / "s.db", limits=Limits(latency=60.0, size=16)).run("nsga2", 8)
    for one in found:
        fits = one.costs.latency <= 60.0 and one.costs.size <= 16
        assert (one.error is not None) == fits
    outside = [one.error is None for one in found]
    assert sum(outside[:12]) > sum(outside[-12:])
    assert all(one.costs.latency <= 60.0 for one in front(found, "latency"))


def test_a_network_is_evaluated_once(space: Space, tmp_path: Path) -> None:
    """However often it is asked for: here 24 times one of eight; the ninth evaluation would be refused."""
    few = space.model_copy(update={"stem": space.stem[:1], "resolution": space.resolution[:1]})
    stages = [{n: v[:1] for n, v in stage if n not in ("stride", "depth")} for stage in few.stage]
    pairs = zip(few.stage, stages, strict=True)
    few = few.model_copy(update={"stage": tuple(stage.model_copy(update=own) for stage, own in pairs)})
    assert few.size() == 8  # head and the depths of both stages
    found = search(few, tmp_path / "s.db", 8, limits=Limits()).run("nsga2", 4)
    assert len(found) == 4 * POPULATION
    assert len({one.candidate for one in found}) <= 8


def test_violations() -> None:
    costs = Costs(3.0, None, 50, 10, 1)
    assert Limits().violations(costs) == ()
    assert Limits(latency=2.0, size=100).violations(costs) == (0.5, -0.5)
    with pytest.raises(InputError, match="does not say what energy layers need"):
        Limits(energy=1.0).violations(costs)
    with pytest.raises(InputError, match="energy"):
        cost_of(costs, "energy")


def test_another_search_is_refused(space: Space, tmp_path: Path) -> None:
    search(space, tmp_path / "s.db").run("nsga2", 1)
    with pytest.raises(InputError, match="another seed"):
        search(space, tmp_path / "s.db", seed=6).run("nsga2", 1)
    with pytest.raises(InputError, match="another limits"):
        search(space, tmp_path / "s.db", limits=Limits()).run("nsga2", 1)
    (tmp_path / "no.db").write_text("no database " * 100)
    with pytest.raises(InputError, match="is no storage of a search"):
        search(space, tmp_path / "no.db").run("nsga2", 1)
    with pytest.raises(InputError, match="at least 2 networks"):
        search(space, tmp_path / "s.db", population=1).run("nsga2", 1)


def test_costs_on_a_device(space: Space) -> None:
    """Of a device by its profile: the larger network costs more, narrow weights are smaller."""
    chosen = {name: values[0] for name, values in space.lists().items()}
    ends = [space.smallest, space.largest, space.candidate(chosen)]
    narrow = space.candidate({**chosen, "stage1.weights": "int4"})
    small, large, wide, four = costs_of(space, [*ends, narrow], 5, find_target("raspberry-pi-5"))
    for name in ("latency", "energy", "size", "memory", "macs"):
        assert cost_of(small, name) < cost_of(large, name)
    assert four.size < wide.size
    assert four.macs == wide.macs


def test_costs_on_this_machine(space: Space) -> None:
    """Networks of several input sizes are measured together."""
    assert space.smallest.resolution != space.largest.resolution
    found = costs_of(space, [space.smallest, space.largest], 5, Host(keep=False))
    assert all(costs.latency > 0 and costs.energy is None for costs in found)


def evaluated(space: Space, stem: int, error: float | None, latency: float) -> Evaluated:
    chosen = {**{name: values[0] for name, values in space.lists().items()}, "stem": stem}
    return Evaluated(chosen, space.candidate(chosen), Costs(latency, None, 1, 1, 1), error)


def test_the_front(space: Space) -> None:
    better, worse = evaluated(space, 8, 0.2, 1.0), evaluated(space, 16, 0.3, 1.0)
    assert front([worse, better, better], "latency") == [better]
    faster = evaluated(space, 16, 0.3, 0.5)
    assert front([faster, better], "latency") == [better, faster]
    assert front([evaluated(space, 8, None, 0.1)], "latency") == []
    # 0.3 wide at cost 1..2 and 0.2 more at cost 0.5..1 below the reference's error of 0.5
    area = hypervolume([(0.2, 1.0), (0.3, 0.5)], (0.5, 2.0))
    assert area == pytest.approx(0.3 * 1.0 + 0.2 * 0.5)


def test_files(space: Space) -> None:
    found = {"nsga2": [evaluated(space, 8, 0.2, 1.0), evaluated(space, 16, 0.3, 0.5)], "random": []}
    described = front_json(found, "latency", {"seed": 1})
    assert described["searches"]["nsga2"]["front"][0]["error"] == 0.2
    assert described["searches"]["random"] == {
        "asked": 0, "within_limits": 0, "hypervolume": 0.0, "front": [],
    }  # fmt: skip
    assert picture(found, "latency", "tiny").count("<circle") == 2
    assert picture({"nsga2": []}, "latency", "tiny").startswith("<svg")


def test_two_workers_find_what_one_finds(space: Space, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    judge: Any = Judge()
    results = []
    for workers in (1, 2):
        with evaluating(judge, workers) as errors:
            run = Search(
                *(space, Limits(), "latency", POPULATION, 1, {}, tmp_path / f"{workers}.db"),
                costs=quick_costs,
                errors=errors,
            )
            results.append(run.run("nsga2", 2))
    assert results[0] == results[1]


class Judge:
    """In the place of an Evaluator."""

    def error(self, candidate: Candidate) -> float:
        return error_of(candidate)

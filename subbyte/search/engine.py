"""The search itself: NSGA-II (Deb et al., 2002) under constraints, or random draws, in generations of Optuna.

What a generation asks for is a function of the seed, its number and the generations before it. So a search
that was interrupted goes on to the same result, and neither the number of processes that evaluate nor the
order in which they end make a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subbyte.errors import InputError
from subbyte.search.costs import Costs, Limits, cost_of
from subbyte.search.space import Candidate, Choices, Space

if TYPE_CHECKING:
    import optuna

Method = Literal["nsga2", "random"]
METHODS: tuple[Method, ...] = ("nsga2", "random")
#: Where a trial keeps what it came to, and a study what it is a search of.
COSTS, ERROR, BEGUN = "costs", "error", "begun"


@dataclass(frozen=True)
class Evaluated:
    """A network that was asked for. error: None if it is outside the limits, and was not evaluated."""

    choices: Choices
    candidate: Candidate
    costs: Costs
    error: float | None


@dataclass(frozen=True, eq=False)
class Search:
    """What is searched, and by what.

    cost: the field of Costs that is made small beside the error. begun: what else the result depends on,
    plain values, which must be the same when a search goes on. costs: of candidates; errors: of those within
    the limits, in order, as they become known. file: of the storage (SQLite), which `optuna-dashboard` shows.
    """

    space: Space
    limits: Limits
    cost: str
    population: int
    seed: int
    begun: dict[str, Any]
    file: Path
    costs: Callable[[Sequence[Candidate]], Sequence[Costs]]
    errors: Callable[[Sequence[Candidate]], Iterable[float]]

    def run(
        self, method: Method, generations: int, tell: Callable[[Evaluated], None] = lambda one: None
    ) -> list[Evaluated]:
        """All networks of so many generations, in the order in which they were asked for. tell: called with
        each that is new.

        Raises InputError for a population of fewer than 2, a storage of another search, or one that cannot be
        used; ModuleNotFoundError without Optuna.
        """
        if self.population < 2:
            raise InputError(f"a generation needs at least 2 networks, not {self.population}")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        kept = self._study(method)
        for generation in range(generations):
            self._generation(kept, method, generation, tell)
        trials = kept.get_trials(deepcopy=False)[: generations * self.population]
        return [self._evaluated(trial) for trial in trials]

    def _study(self, method: Method) -> optuna.Study:
        """That of the storage, new or to go on with."""
        import optuna
        from sqlalchemy import URL
        from sqlalchemy.exc import SQLAlchemyError

        url = URL.create("sqlite", database=str(self.file)).render_as_string()
        try:
            study = optuna.create_study(
                study_name=method,
                storage=url,
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.file} is no storage of a search ({reason:.200})") from None
        begun = {
            **self.begun,
            "space": self.space.model_dump(mode="json"),
            "limits": vars(self.limits),
            "cost": self.cost,
            "population": self.population,
            "seed": self.seed,
        }
        before = study.user_attrs.get(BEGUN)
        if before is None:
            study.set_user_attr(BEGUN, begun)
        elif before != _plain(begun):
            other = next(key for key in {**before, **begun} if before.get(key) != _plain(begun).get(key))
            raise InputError(
                f"{self.file} holds a search with another {other}; choose another --output, or delete it to "
                "begin again"
            )
        return study

    def _generation(
        self, kept: optuna.Study, method: Method, number: int, tell: Callable[[Evaluated], None]
    ) -> None:
        """Asks for all of a generation first; then evaluates and keeps one after the other what is not known,
        each network once.

        The study that is asked is made anew each time, so that it depends on nothing but the generations
        before this one.
        """
        import optuna

        known = kept.get_trials(deepcopy=False)
        first = number * self.population
        done = len(known) - first
        if done >= self.population:
            return
        study = optuna.create_study(
            directions=["minimize", "minimize"], sampler=self._sampler(method, number)
        )
        study.add_trials(known[:first])
        trials = [study.ask() for _ in range(self.population)]
        asked = [
            {name: trial.suggest_categorical(name, values) for name, values in self._lists().items()}
            for trial in trials
        ][done:]
        before = {one.candidate: one for one in map(self._evaluated, known)}
        candidates = [self.space.candidate(choices) for choices in asked]
        new = list(dict.fromkeys(candidate for candidate in candidates if candidate not in before))
        found = {candidate: one.costs for candidate, one in before.items()}
        found.update(zip(new, self.costs(new) if new else (), strict=True))
        costs = [found[candidate] for candidate in candidates]
        broken = [self.limits.violations(each) for each in costs]
        within = [all(v <= 0.0 for v in violations) for violations in broken]
        fitting = {c for c, fits in zip(candidates, within, strict=True) if fits}
        results = {candidate: one.error for candidate, one in before.items()}
        errors = iter(self.errors([candidate for candidate in new if candidate in fitting]))
        for trial, choices, candidate, cost, violations, fits in zip(
            trials[done:], asked, candidates, costs, broken, within, strict=True
        ):
            if fits and candidate not in results:
                results[candidate] = next(errors)
            error = results[candidate] if fits else None
            trial.set_user_attr(COSTS, cost.to_json())
            trial.set_user_attr(ERROR, error)
            for i, violation in enumerate(violations):
                trial.set_constraint(f"limit {i}", violation)
            values = (math.inf if error is None else error, cost_of(cost, self.cost))
            kept.add_trial(study.tell(trial, values))
            tell(Evaluated(choices, candidate, cost, error))

    def _lists(self) -> dict[str, Any]:
        """What there is to choose between."""
        return {name: values for name, values in self.space.lists().items() if len(values) > 1}

    def _sampler(self, method: Method, generation: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = (self.seed * 1_000_003 + generation) % (1 << 32)
        if method == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)

    def _evaluated(self, trial: optuna.trial.FrozenTrial) -> Evaluated:
        costs, error = Costs(**trial.user_attrs[COSTS]), trial.user_attrs[ERROR]
        return Evaluated(trial.params, self.space.candidate(trial.params), costs, error)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value

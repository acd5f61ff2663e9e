"""Where candidates are evaluated: in this process, or in many, of one machine or several, by Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from subbyte.errors import InputError
from subbyte.execute.torch.steady import fixed_threads
from subbyte.search.space import Candidate

if TYPE_CHECKING:
    from subbyte.search.evaluate import Evaluator

Errors = Callable[[Sequence[Candidate]], Iterable[float]]


@contextmanager
def evaluating(evaluator: Evaluator, workers: int = 1, cluster: str | None = None) -> Iterator[Errors]:
    """Gives what maps candidates to their errors, in order.

    workers: processes of this machine, 1 for this one; cluster: the address of Ray's cluster ("auto": the one
    that this machine belongs to), which then counts the workers itself. All compute with one thread, so that
    equal machines give equal numbers.

    Raises InputError if there is no such cluster, ModuleNotFoundError without Ray where it is needed.
    """
    if workers == 1 and cluster is None:
        yield lambda candidates: (_error(evaluator, candidate) for candidate in candidates)
        return
    import ray

    try:
        if cluster is None:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=cluster, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"there is no Ray cluster at {cluster!r}: {error!s:.200}") from None
    try:
        shared, remote = ray.put(evaluator), ray.remote(num_cpus=1)(_error)

        def errors(candidates: Sequence[Candidate]) -> Iterable[float]:
            return map(ray.get, [remote.remote(shared, candidate) for candidate in candidates])

        yield errors
    finally:
        ray.shutdown()


def _error(evaluator: Evaluator, candidate: Candidate) -> float:
    with fixed_threads(1):
        return evaluator.error(candidate)

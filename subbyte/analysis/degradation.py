"""How far a network's answers are from those of the float32 network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from subbyte.execute.native import Session
from subbyte.ir import Graph
from subbyte.tasks import task_of
from subbyte.tasks.task import as_outputs, relative_error


class Degradation(BaseModel):
    """kl: of a classifier, mean over images of KL(softmax of float32 ‖ softmax), nats; None of other tasks.
    mse: of the outputs, over the variance of the float32 ones. agreement: mean over images of how alike the
    task finds the answers, 0..1; of a classifier, the share with the same best class."""

    model_config = ConfigDict(frozen=True)

    kl: float | None = None
    mse: float
    agreement: float

    @property
    def loss(self) -> float:
        """What an allocation keeps least: `kl` where there is one, else `mse`."""
        return self.mse if self.kl is None else self.kl

    @property
    def unit(self) -> str:
        """Of `loss`."""
        return "of the variance" if self.kl is None else "nats"

    @property
    def loss_text(self) -> str:
        """`loss` for people."""
        return f"relative error {self.mse:.4f}" if self.kl is None else f"KL {self.kl:.4f} nats"


class Meter:
    """Compares networks with `graph`, in float32, on images float32 [N, H, W, C].

    Everything runs on the native engine. task: None finds it from the graph. Raises InputError if the outputs
    do not fit it.
    """

    def __init__(self, graph: Graph, images: np.ndarray, threads: int = 1, task: str | None = None) -> None:
        self.task = task_of(graph, task)
        self.images, self.threads = images, threads
        self.exact = self.outputs(graph)

    def outputs(self, graph: Graph) -> list[np.ndarray]:
        """float64 [N, ...] each."""
        found = Session(graph, threads=self.threads).run(self.images)
        return [y.astype(np.float64) for y in as_outputs(found)]

    def of(self, graph: Graph) -> Degradation:
        """Runs a graph on the images and compares its outputs with the original's."""
        return self.of_outputs(self.outputs(graph))

    def of_outputs(self, outputs: Sequence[np.ndarray]) -> Degradation:
        """outputs: [N, ...] each, for the same images."""
        judged = [self.task.judged(found) for found in (outputs, self.exact)]
        answers, exact = map(self.task.answers, judged)
        return Degradation(
            kl=self.task.divergence(*judged),
            mse=relative_error(outputs, self.exact),
            agreement=float(self.task.alike(answers, exact).mean()),
        )

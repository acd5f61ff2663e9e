"""How far a network's answers are from those of the float32 network."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.ir import Graph


class Degradation(BaseModel):
    """kl: mean over images of KL(softmax of float32 ‖ softmax), nats. mse: of the logits, over the
    variance of the float32 ones. agreement: share of images with the same best class."""

    model_config = ConfigDict(frozen=True)

    kl: float
    mse: float
    agreement: float


class Meter:
    """Compares networks with `graph`, a float32 classifier, on images float32 [N, H, W, C].

    Everything runs on the native engine. Raises InputError if the network is no classifier.
    """

    def __init__(self, graph: Graph, images: np.ndarray, threads: int = 1) -> None:
        shapes = [graph.value(name).shape for name in graph.outputs]
        if len(shapes) != 1 or len(shapes[0]) != 1:
            raise InputError(
                f"degradation is measured on class scores, but the network's outputs are {shapes}"
            )
        self.images, self.threads = images, threads
        self.exact = self.logits(graph)
        self._log_p = log_softmax(self.exact)

    def logits(self, graph: Graph) -> np.ndarray:
        """float64 [N, classes]."""
        return Session(graph, threads=self.threads).run(self.images).astype(np.float64)

    def of(self, graph: Graph) -> Degradation:
        """Runs a graph on the images and compares its outputs with the original's."""
        return self.of_logits(self.logits(graph))

    def of_logits(self, logits: np.ndarray) -> Degradation:
        """logits: [N, classes] of the same images."""
        log_q = log_softmax(logits)
        kl = (np.exp(self._log_p) * (self._log_p - log_q)).sum(axis=1)
        return Degradation(
            kl=float(kl.mean()),
            mse=float(((logits - self.exact) ** 2).mean() / self.exact.var()),
            agreement=float((logits.argmax(axis=1) == self.exact.argmax(axis=1)).mean()),
        )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [N, classes] of the same shape."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

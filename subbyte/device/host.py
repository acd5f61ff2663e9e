"""This machine: latencies measured by the engine, layer by layer, and kept for the next time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from subbyte.device.cache import cache_folder, engine_version, read_json, write_json
from subbyte.device.target import Cost, Layer, Memory, layers
from subbyte.errors import InputError
from subbyte.execute.native import Session, best_isa
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.quant import Format
from subbyte.quant.format import ACTIVATION_FORMATS, FLOAT_FORMATS
from subbyte.system.cpus import cpu_name

#: Rounds over all widths, and runs in each: the least of the rounds' medians counts, so that what
#: another program disturbs is not taken for slowness.
ROUNDS = 7
REPEATS = 5
#: A table that gives a network this many times what it takes now was measured on a busy machine.
STALE = 1.25


class Host:
    """The CPU under this process, as a Target.

    Activations of fewer than 8 bits lie one per byte and run like those of 8: they cost the same.
    cache: a folder; None: the user's own. keep: whether anything is kept.
    """

    here = True

    def __init__(
        self, isa: str | None = None, threads: int = 1, cache: Path | None = None, *, keep: bool = True
    ) -> None:
        self.isa, self.threads = isa or best_isa(), threads
        identity = f"{cpu_name()}|{self.isa}|{threads}|{engine_version()}"
        name = f"latency-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
        self.path = (cache or cache_folder()) / name if keep else None
        self.milliseconds = read_json(self.path) if self.path else {}

    @property
    def name(self) -> str:
        """The CPU, its instruction set and the threads."""
        return f"{cpu_name()}, {self.isa}, {self.threads} thread(s)"

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        """Whether the engine runs these formats."""
        floats = FLOAT_FORMATS.values()
        known = weights is None or weights.of_weights or weights in floats
        return known and activations in (*ACTIVATION_FORMATS.values(), *floats)

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        """For one image. InputError if the layer has not been measured."""
        known = self.milliseconds.get(layer.signature, {})
        if _key(weights) not in known:
            raise InputError(
                f"the latency of {layer.signature} with weights of {_key(weights)} has not been measured"
            )
        return Cost(known[_key(weights)], layer.moved(weights, activations))

    def memory(self, graph: Graph) -> Memory:
        """What the engine takes for one stream."""
        session = Session(graph, isa=self.isa, threads=self.threads)
        return Memory(session.arena_bytes, session.weight_bytes)

    def knows(self, graph: Graph) -> bool:
        """Whether every node of a quantized graph has been measured."""
        found = layers(graph)
        return all(
            _key(weights_of(graph.node(name))) in self.milliseconds.get(layer.signature, {})
            for name, layer in found.items()
        )

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        """Measures the layers of quantized graphs that are not known yet; graphs by any name.

        What is known is tried on one of the graphs, and measured again if it is too slow for this machine
        (other programs only ever add time).
        Takes turns, so that all are measured under the same conditions. Times of a graph's steps
        are scaled to add up to that of a whole run, which nothing interrupts to look at the clock.
        """
        known = next((graph for graph in graphs.values() if self.knows(graph)), None)
        if known is not None and self.total(known) > STALE * self._now(known):
            for graph in graphs.values():
                for layer in layers(graph).values():
                    self.milliseconds.pop(layer.signature, None)
        unknown = [graph for graph in graphs.values() if not self.knows(graph)]
        if not unknown:
            return
        sessions = [Session(graph, isa=self.isa, threads=self.threads) for graph in unknown]
        noises = [_noise(graph) for graph in unknown]
        steps = [np.full(len(session.plan()), np.inf) for session in sessions]
        whole = [np.inf] * len(sessions)
        for _ in range(ROUNDS):
            for i, (session, noise) in enumerate(zip(sessions, noises, strict=True)):
                session.run(noise)
                steps[i] = np.minimum(steps[i], session.profile(noise, REPEATS))
                whole[i] = min(whole[i], _median_run(session, noise))
        for graph, session, seconds, total in zip(unknown, sessions, steps, whole, strict=True):
            self._record(graph, session, 1e3 * seconds * (total / seconds.sum()))
        if self.path is not None:
            write_json(self.path, self.milliseconds)

    def total(self, graph: Graph) -> float:
        """Milliseconds of all layers of a graph that is known."""
        return sum(
            self.milliseconds[layer.signature][_key(weights_of(graph.node(name)))]
            for name, layer in layers(graph).items()
        )

    def _now(self, graph: Graph) -> float:
        """Milliseconds that an image takes, measured."""
        session = Session(graph, isa=self.isa, threads=self.threads)
        noise = _noise(graph)
        session.run(noise)
        return 1e3 * min(_median_run(session, noise) for _ in range(ROUNDS))

    def _record(self, graph: Graph, session: Session, milliseconds: np.ndarray) -> None:
        by_step = dict(zip((step["name"] for step in session.plan()), milliseconds.tolist(), strict=True))
        samples: dict[tuple[str, str], list[float]] = {}
        for name, layer in layers(graph).items():
            # a node without a step of its own is done inside another one
            key = layer.signature, _key(weights_of(graph.node(name)))
            samples.setdefault(key, []).append(by_step.get(name, 0.0))
        for (signature, weights), found in samples.items():
            self.milliseconds.setdefault(signature, {})[weights] = float(np.mean(found))


def _key(weights: Format | None) -> str:
    """Of a latency: code books cost no time."""
    return "none" if weights is None else str(weights.plain)


def _noise(graph: Graph) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, *graph.value(graph.input).shape), np.float32)


def _median_run(session: Session, image: np.ndarray) -> float:
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        session.run(image)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))

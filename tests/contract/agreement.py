"""Compares the native engine with the reference, for every instruction set and several thread counts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from subbyte.execute import reference
from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph

#: Under AddressSanitizer, whose build lets no two buffers of an arena share memory.
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")

#: Threads, and the size of tensors above which layers run by row tiles (None: never, 0: wherever possible).
SETTINGS = tuple(itertools.product((1, 2, 3), (None, 0)))


def random_images(graph: Graph, count: int, seed: int, spread: float = 1.0) -> np.ndarray:
    """Normal noise float32 [count, H, W, C] for the graph's input."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, *graph.value(graph.input).shape)) * spread).astype(np.float32)


def expected_outputs(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    """The reference's outputs as the engine delivers them: codes as the float32 numbers they stand for."""
    values = reference.run(graph, x)
    grids = [graph.value(name).q for name in graph.outputs]
    return [
        values[name] if q is None else q.dequantize(values[name])
        for name, q in zip(graph.outputs, grids, strict=True)
    ]


def engine_outputs(session: Session, x: np.ndarray) -> list[np.ndarray]:
    result = session.run(x)
    return list(result) if isinstance(result, tuple) else [result]


def same(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> bool:
    return len(actual) == len(expected) and all(
        a.dtype == e.dtype == np.float32 and np.array_equal(a, e)
        for a, e in zip(actual, expected, strict=True)
    )


def assert_engine_equals(graph: Graph, x: np.ndarray) -> None:
    """Every output equals the reference's, for every instruction set of this CPU x SETTINGS."""
    expected = expected_outputs(graph, x)
    for isa in available_isas():
        for threads, above in SETTINGS:
            session = Session(graph, isa=isa, threads=threads, depth_first_above=above)
            assert {row["isa"] for row in session.plan()} == {isa}
            if not same(engine_outputs(session, x), expected):
                where = f"{isa}, {threads} threads, depth first above {above}"
                raise AssertionError(f"{where}: {_first_difference(graph, x, isa, threads)}")


def _first_difference(graph: Graph, x: np.ndarray, isa: str, threads: int) -> str:
    """Which node goes wrong when every value is an output: nothing is fused, banded or shares memory then."""
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    session = Session(everything, isa=isa, threads=threads, depth_first_above=None)
    pairs = zip(engine_outputs(session, x), expected_outputs(everything, x), strict=True)
    for node, (actual, expected) in zip(graph.nodes, pairs, strict=True):
        if not np.array_equal(actual, expected):
            wrong = np.argwhere(actual != expected)
            return (
                f"node {node.name!r}, {len(wrong)} of {expected.size} elements, first {wrong[0].tolist()}: "
                f"{actual[tuple(wrong[0])]} instead of {expected[tuple(wrong[0])]}; {dict(node.attrs)}"
            )
    return "outputs differ, but no node does when every value is an output: memory, a fused gate or row tiles"

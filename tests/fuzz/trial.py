"""One mutant after another in this process: make it, load it, run it, say how it ended.

    python -m tests.fuzz.trial --seed 1 --begin 0 --end 100 [--engine] [--memory 2048] [--only GRAPH]

Prints one JSON line before and one after each mutant, so that whoever started this process knows
which mutant it died of. Mutant number i of a seed is always the same bytes.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import resource
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

from subbyte.artifact import Artifact, load
from subbyte.artifact.file import serialize
from subbyte.errors import ArtifactError, SubbyteError
from subbyte.execute import reference
from subbyte.ir import Graph
from subbyte.ir.limits import peak_live_bytes
from subbyte.ir.ops import work
from tests.fuzz.graphs import seeds
from tests.fuzz.mutations import MUTATIONS
from tests.fuzz.rewrites import rewrite

#: What a mutant may cost to be run here; larger ones only have to load.
RUN_WORK = 1 << 25
RUN_BYTES = 1 << 25

Outcome = tuple[str, str]


@functools.cache
def bases() -> tuple[tuple[str, Artifact, bytes], ...]:
    return tuple((name, artifact, b"".join(serialize(artifact))) for name, artifact in seeds().items())


def mutant(seed: int, number: int, only: str = "") -> tuple[str, bytes]:
    """The kind ("seed graph/mutation") and the bytes of one mutant. only: the seed graph, "" for any."""
    rng = random.Random(f"{seed}/{number}")
    name, artifact, data = rng.choice([base for base in bases() if only in ("", base[0])])
    if rng.random() < 0.4:
        return f"{name}/rewrite", rewrite(rng, artifact)
    kind = rng.choice(sorted(MUTATIONS))
    return f"{name}/{kind}", MUTATIONS[kind](rng, data)


def attempt(path: Path, engine: bool, number: int) -> Outcome:
    """How a file ends: refused, declined (by the engine), large, ran; or a failure and its reason.

    Failures: "failed" (another exception than the promised one), "disagreed" (engine and reference
    gave different integers).
    """
    try:
        artifact = load(path)
    except ArtifactError as error:
        text = str(error)
        return ("refused", text) if text.isprintable() and len(text) < 1000 else ("failed", repr(text))
    graph = artifact.graph
    needed = sum(work(graph).values())
    if needed > RUN_WORK or peak_live_bytes(graph) > RUN_BYTES:
        return "large", ""
    batch = 1 + number % 2
    x = np.random.default_rng(number).normal(size=(batch, *graph.value(graph.input).shape)).astype(np.float32)
    if not engine:
        _reference(graph, x)
        return "ran", ""
    return _engine(artifact, x, number)


def _reference(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):  # float layers with damaged weights overflow, by right
        return reference.run(graph, x)


def _engine(artifact: Artifact, x: np.ndarray, number: int) -> Outcome:
    """Runs on each instruction set in turn, some mutants on three threads, most of them by row tiles."""
    from subbyte.execute.native import Session, available_isas

    isas = available_isas()
    try:
        session = Session(
            artifact,
            threads=3 if number % 5 == 0 else 1,
            isa=isas[number % len(isas)],
            depth_first_above=None if number % 3 == 0 else 0,
        )
    except SubbyteError as error:
        return "declined", str(error)
    result = session.run(x)
    outputs = result if isinstance(result, tuple) else (result,)
    if not is_integer(artifact.graph):
        return "ran", ""
    graph, expected = artifact.graph, _reference(artifact.graph, x)
    for name, output in zip(graph.outputs, outputs, strict=True):
        q = graph.value(name).q
        wanted = expected[name] if q is None else q.dequantize(expected[name])
        if output.dtype != np.float32 or not np.array_equal(output, wanted):
            return "disagreed", f"output {name!r} differs from the reference ({session.isa})"
    return "ran", ""


def is_integer(graph: Graph) -> bool:
    """Whether the numerics page promises equal results: nothing but quantize reads float32."""
    return all(
        node.op == "quantize" or all(graph.value(name).q is not None for name in node.inputs)
        for node in graph.nodes
    )


def guarded(path: Path, engine: bool, number: int) -> Outcome:
    try:
        return attempt(path, engine, number)
    except Exception:
        return "failed", traceback.format_exc()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--begin", type=int, required=True)
    parser.add_argument("--end", type=int, required=True)
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--memory", type=int, default=0, help="address space in MiB, 0: no limit")
    parser.add_argument("--only", default="", help="mutants of this seed graph alone")
    args = parser.parse_args()
    if args.engine:
        import subbyte.execute.native  # noqa: F401  before the limit, so that only mutants count
    if args.memory:
        resource.setrlimit(resource.RLIMIT_AS, (args.memory << 20, args.memory << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{os.getpid()}.subbyte"
        for number in range(args.begin, args.end):
            kind, data = mutant(args.seed, number, args.only)
            path.write_bytes(data)
            _say(number, "began", kind, "")
            _say(number, *_ordered(kind, guarded(path, args.engine, number)))


def _ordered(kind: str, outcome: Outcome) -> tuple[str, str, str]:
    return outcome[0], kind, outcome[1]


def _say(number: int, outcome: str, kind: str, detail: str) -> None:
    sys.stdout.write(json.dumps([number, outcome, kind, detail]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

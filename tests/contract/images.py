"""Shows that the three executors agree on real images, for every instruction set and 1 and 2 threads.

    python -m tests.contract.images --artifact network.subbyte --data images/ --limit 50

The numpy reference defines the outputs of every image; the torch executor and the engine must give
the same float32 numbers, bit for bit. Prints what was compared; exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from subbyte.artifact import load
from subbyte.data.samples import batches, image_folder, subset
from subbyte.execute import reference
from subbyte.execute.native import Session, available_isas
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph

BATCH = 10
THREADS = (1, 2)
Executor = Callable[[np.ndarray], np.ndarray]


def executors(graph: Graph) -> dict[str, Executor]:
    """Every executor but the reference, by a name for people: images to the first output."""
    name = graph.outputs[0]
    found: dict[str, Executor] = {"torch executor": lambda x: torch_executor.run(graph, x)[name]}
    for isa in available_isas():
        for threads in THREADS:
            session = Session(graph, isa=isa, threads=threads)
            assert {row["isa"] for row in session.plan()} == {isa}
            found[f"engine {isa}, {threads} thread{'s' if threads > 1 else ''}"] = session.run
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images")
    args = parser.parse_args()
    artifact = load(args.artifact)
    graph = artifact.graph
    samples = subset(image_folder(args.data), args.limit, args.seed)
    digest = hashlib.sha256(args.artifact.read_bytes()).hexdigest()[:16]
    print(f"{args.artifact.name} (sha256 {digest}...), recipe {artifact.recipe.get('name')}")
    print(f"{len(samples)} images of {args.data.name}, seed {args.seed}, {len(graph.nodes)} nodes")
    others = executors(graph)
    equal, classes = dict.fromkeys(others, 0), set()
    for x in batches(samples, artifact.preprocessing, BATCH):
        expected = reference.run(graph, x)[graph.outputs[0]]
        classes |= set(expected.argmax(axis=-1).reshape(-1).tolist())
        for name, run in others.items():
            same = (run(x) == expected).reshape(len(x), -1).all(axis=1)
            equal[name] += int(same.sum())
    outputs = int(np.prod(graph.value(graph.outputs[0]).shape))
    print(f"reference: {outputs} outputs an image, {len(classes)} different classes on top")
    for name, count in equal.items():
        print(f"{name}: {count} of {len(samples)} images equal the reference in every output")
    return 0 if all(count == len(samples) for count in equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

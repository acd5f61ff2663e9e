"""Makes the stored artifacts of the format versions, which every later version must load.

    python -m tests.unit.artifact.store

writes stored/VERSION/NAME.subbyte and NAME.npz (the input and every output) beside this file, each in the
folder of the first version that has what it needs. It never replaces a file: what a released program wrote is
what has to be read.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from subbyte.artifact import Artifact, save
from subbyte.artifact.file import VERSIONS, version_of
from subbyte.execute.reference import run
from subbyte.ir import Graph, Param
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import (
    balanced,
    computed,
    leveled,
    moved,
    narrow,
    normalized,
    quantized,
    quotients,
    sparse,
    wrap,
)

STORED = Path(__file__).parent / "stored"
SEED = 2026
IMAGES = 2


def _whole(role: str, param: Param) -> np.ndarray:
    assert isinstance(param, np.ndarray)
    return (np.sign(param) if role == "weight" else np.round(8 * param)).astype(param.dtype)


def whole_numbers(rng: random.Random, half: bool) -> Graph:
    """A float network whose weights are small whole numbers: of whole inputs all its sums are exact in
    float32, whatever their order, so that executors may be compared for equality. half: float16 weights."""
    b = Builder(rng, (8, 8, 3))
    x = b.fconv("image", 8, 3, half=half, stride=2, act="relu")
    y = b.fconv(x, 8, 3, groups=8, half=half, act="relu6")
    z = b.fconv(y, 8, half=half, act="none", residual=x)
    pooled = b.add("global_avg_pool", [b.max_pool(b.concat(z, y))])  # of 4 pixels: exact
    b.flinear(b.flatten(pooled), 7)
    b.nodes = [
        node.with_(params={role: _whole(role, param) for role, param in node.params.items()})
        for node in b.nodes
    ]
    return b.finish(b.nodes[-1].output, z)


def networks(seed: int) -> dict[str, Artifact]:
    """By name; all of them use every width, code books, squeeze-and-excite, and both float types."""
    names = tuple(f"class {i}" for i in range(10))
    return {
        "w8a8": wrap(quantized(random.Random(seed), 8), names),
        "w4a8-codebook": wrap(quantized(random.Random(seed + 1), 4), names),
        "w3a8-planes": wrap(quantized(random.Random(seed + 2), 3)),
        "w2a8-codebook": wrap(quantized(random.Random(seed + 3), 2)),
        "narrow-activations": wrap(narrow(random.Random(seed + 4))),
        "fp16": wrap(whole_numbers(random.Random(seed + 5), half=True)),
        "fp32": wrap(whole_numbers(random.Random(seed + 6), half=False)),
        "channel-scales": wrap(balanced(random.Random(seed + 7))),
        "levels": wrap(leveled(random.Random(seed + 8))),
        "patterns": wrap(sparse(random.Random(seed + 9))),
        "moves": wrap(moved(random.Random(seed + 9))),
        "normalizations": wrap(normalized(random.Random(seed + 11))),
        "products": wrap(computed(random.Random(seed + 10))),
        "quotients": wrap(quotients(random.Random(seed + 12))),
        "compact": replace(wrap(quantized(random.Random(seed + 13), 3), names), coding="entropy"),
    }


def inputs(artifact: Artifact, seed: int) -> np.ndarray:
    """float32 [IMAGES, H, W, C]: multiples of 1/4 for quantized networks, whole numbers for the others."""
    graph = artifact.graph
    x = np.random.default_rng(seed).integers(-8, 9, (IMAGES, *graph.value(graph.input).shape))
    return (x / (4 if graph.nodes[0].op == "quantize" else 1)).astype(np.float32)


def main() -> None:
    print(f"seed {SEED}, format versions {', '.join(VERSIONS)}")
    for number, (name, artifact) in enumerate(networks(SEED).items()):
        path = STORED / version_of(artifact) / f"{name}.subbyte"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            print(f"{path.name} is there and stays as it is")
            continue
        x = inputs(artifact, SEED + number)
        save(path, artifact)
        outputs = run(artifact.graph, x)  # none is called allow_pickle, numpy's one option
        np.savez_compressed(path.with_suffix(".npz"), x=x, **outputs)  # type: ignore[arg-type]
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

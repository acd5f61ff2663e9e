"""What an installed wheel has to do without torch and without a compiler: exact integers, and the commands.

    python bench/commands.py

Run by the Python of an environment that has the wheel and its extra `cli`, from anywhere: by
bench/install.py, `make wheels`, cibuildwheel and tests/arm. Networks come from
tests/unit/artifact/stored, where they were kept with the outputs that the definition gave; nothing of the
checkout is imported. What it prints is one line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STORED = Path(__file__).parents[1] / "tests" / "unit" / "artifact" / "stored"
SIDE, CLASSES = 8, 10
#: What must be absent: whoever runs networks needs none of it.
ABSENT = ("torch", "onnxruntime", "openvino", "nanobind", "scikit_build_core")


def main() -> int:
    os.environ["PATH"] = ""  # no compiler, nor any other program
    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    if present:
        sys.exit(f"error: not an empty environment: {', '.join(present)} can be imported")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        result = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "stored": stored_artifacts(),
            "commands": commands(Path(folder)),
        }
    print(json.dumps(result))
    return 0


def stored_artifacts() -> dict[str, int]:
    """Per instruction set of this CPU: how many stored artifacts give their stored outputs exactly."""
    import numpy as np

    import subbyte
    from subbyte import available_isas

    counts = dict.fromkeys(available_isas(), 0)
    for path in sorted(STORED.rglob("*.subbyte")):
        graph = subbyte.load(path).graph
        with np.load(path.with_suffix(".npz")) as stored:
            arrays = dict(stored)
        for isa in counts:
            outputs = subbyte.Session(path, isa=isa).run(arrays["x"])
            several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            for name, y in zip(graph.outputs, several, strict=True):
                q = graph.value(name).q
                expected = arrays[name] if q is None else q.dequantize(arrays[name])
                if not np.array_equal(y, expected):
                    sys.exit(f"error: {path.name} on {isa}: {name} differs from what was stored")
            counts[isa] += 1
    return counts


def commands(folder: Path) -> dict[str, float]:
    """Seconds of run, evaluate, inspect and bench on a small classifier and three labelled pictures."""
    artifact = classifier(folder)
    images = pictures(folder / "images")
    done = {}
    for words, key in (
        (("run", artifact, images / "0.png"), "top"),
        (("evaluate", artifact, "--data", images), "top1"),
        (("inspect", artifact), "plan"),
        (("bench", artifact, "--seconds", "0.05"), "timings"),
    ):
        start = time.perf_counter()
        told = command(*map(str, words), "--json")
        if key not in (told[0] if isinstance(told, list) else told):
            sys.exit(f"error: subbyte {words[0]} printed no {key}: {json.dumps(told)[:500]}")
        done[str(words[0])] = round(time.perf_counter() - start, 3)
    return done


def command(*words: str) -> Any:
    """What `subbyte WORDS` prints, which is JSON; ends the process where it fails."""
    from subbyte.__main__ import main as subbyte

    printed, sys.argv = io.BytesIO(), ["subbyte", *words]
    try:
        with contextlib.redirect_stdout(io.TextIOWrapper(printed, "utf-8", write_through=True)) as stream:
            subbyte()
    except SystemExit as error:
        if error.code not in (0, None):
            sys.exit(f"error: subbyte {' '.join(words)}: status {error.code}")
    stream.detach()
    return json.loads(printed.getvalue())


def classifier(folder: Path) -> Path:
    """A stored network, of its outputs the one that is a vector of class scores."""
    import dataclasses

    import subbyte

    artifact = subbyte.load(STORED / "1" / "w8a8.subbyte")
    graph = artifact.graph
    (scores,) = (name for name in graph.outputs if graph.value(name).shape == (CLASSES,))
    path = folder / "classifier.subbyte"
    subbyte.save(path, dataclasses.replace(artifact, graph=dataclasses.replace(graph, outputs=(scores,))))
    return path


def pictures(folder: Path) -> Path:
    """Three pictures of noise, with labels."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "labels.csv").write_text("file,label\n0.png,0\n1.png,1\n2.png,2\n")
    return folder


if __name__ == "__main__":
    sys.exit(main())

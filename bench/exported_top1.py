"""Top-1 of an artifact in other runtimes, beside its own engine on the same images: rows of docs/export.md.

    python -m bench.exported_top1 ARTIFACT --calibration FOLDER --data FOLDER:crop --data FOLDER:squash ...

Each runtime reads the file that `subbyte export` writes for it: QDQ ONNX for ONNX Runtime and OpenVINO,
TensorFlow Lite for LiteRT, whose outputs have the ranges of 32 calibration images. Behind the runtime's
name, "-ranges": residuals have them, too, "-fused": they are added before they are rounded (QDQ), "-exact":
gates are rounded as they are here, too. Every image goes through all of them, one at a time on one thread.
Prints a row of a table for each: how many are right, how many it alone has wrong and right beside our
engine (lost, gained), and on how many the best class is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from bench.exported import Run, opened
from subbyte.artifact import load
from subbyte.data.samples import Sample, batches, image_folder, subset
from subbyte.data.sets import parse_sets
from subbyte.execute.native import Session
from subbyte.exporters.ranges import observe_ranges
from subbyte.metrics.statistics import paired
from subbyte.tasks.classification import class_count

RUNTIMES = ("onnxruntime", "onnxruntime-ranges", "openvino", "openvino-ranges", "litert", "litert-ranges")
CALIBRATION = 32


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--calibration", required=True, help="a folder of images")
    parser.add_argument("--data", action="append", required=True, help="FOLDER, FOLDER:crop or FOLDER:squash")
    parser.add_argument("--limit", type=int, help="of images of each folder")
    parser.add_argument("--runtime", action="append", help=f"such as {', '.join(RUNTIMES)}, the default")
    given = parser.parse_args(arguments)
    artifact = load(given.artifact)
    graph, session = artifact.graph, Session(artifact)
    shown = list(batches(subset(image_folder(given.calibration), CALIBRATION), artifact.preprocessing))
    ranges = observe_ranges(graph, shown)
    runs: dict[str, Run] = {"subbyte": lambda x: [session.run(x)]}
    runs |= {name: opened(name, graph, ranges) for name in given.runtime or RUNTIMES}
    samples: list[Sample] = []
    for each in parse_sets(given.data):
        samples += each.samples(limit=given.limit)
    best: dict[str, list[int]] = {name: [] for name in runs}
    for x in batches(samples, artifact.preprocessing, 1):
        for name, run in runs.items():
            best[name].append(int(run(x)[0].argmax()))
    labels = np.array([sample.label for sample in samples])
    assert class_count(graph) > labels.max()
    own = np.array(best["subbyte"])
    print("| runtime | top-1 | lost, gained | same best class |\n|---|---|---|---|")
    for name, answers in best.items():
        pair, same = paired(np.array(answers) == labels, own == labels), int((np.array(answers) == own).sum())
        print(
            f"| {name} | {int((np.array(answers) == labels).sum())} of {len(labels)} "
            f"| {pair.lost}, {pair.gained} | {same} |"
        )


if __name__ == "__main__":
    main()

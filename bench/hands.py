"""How well networks find the landmarks of hands, on photographs with true key points.

    python -m bench.hands NETWORK... --data FOLDER [--palm NETWORK...] [--json FILE]

NETWORK: an artifact, or a .tflite file, which LiteRT runs. FOLDER: photographs and labels.csv with
`file,u0,v0,...,u20,v20`, pixels. The protocol, one hand a photograph:

- row "true": the network is given the square that subbyte.hands.region makes of the true key points (twice
what the
  palm and the lower joints span, upright), as it is in tracking when the last frame was right.
- row of a palm detector: the square of the most certain palm that it finds in the photograph; hands that it
  does not find are counted, their points are wrong in PCK@0.2, and they are not in the mean error.
- error: mean distance of the 21 points in the plane, over the distance from the wrist to the middle finger's
knuckle.

--against NETWORK: also the largest and the mean difference of the points from that network's on the same
squares, in pixels of the input.

--seconds N: times the networks instead, in turns for so long, one thread, on the square of the first
photograph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.benchmark.litert_peer import _interpreter, _runner
from subbyte.data.decode import read_image
from subbyte.data.labels import numbered_folder
from subbyte.errors import InputError, SubbyteError
from subbyte.hands import Errors, Region, from_landmarks, score
from subbyte.hands.landmarks import hand_of
from subbyte.hands.palm import anchors, decode
from subbyte.hands.region import whole
from subbyte.hands.skeleton import FINGERS, JOINTS
from subbyte.hands.source import session, unit
from subbyte.hands.warp import pixels, warp
from subbyte.system.interleave import interleave
from subbyte.system.whole_file import write_whole

Run = Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Network:
    """name: of its file. size: pixels along a side of its input. run: one input [size, size, 3] to its
    outputs. unit: pixels along that side which its points count."""

    name: str
    size: int
    run: Run
    unit: int


@dataclass(frozen=True)
class Row:
    """A landmark network's errors. squares: "true", or the palm detector's name. apart: the largest and the
    mean difference of its points from another network's, pixels of the input; None if there is none beside
    it."""

    network: str
    squares: str
    errors: Errors
    apart: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Counts, shares and errors over the palm's size."""
        errors = self.errors
        return {
            "network": self.network,
            "squares": self.squares,
            "hands": len(errors.distances),
            "found": errors.found,
            "error": errors.mean,
            "pck": errors.pck,
            "fingers": errors.fingers,
            "apart": self.apart,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", metavar="NETWORK", nargs="+", type=Path)
    parser.add_argument("--data", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--palm", metavar="NETWORK", nargs="+", type=Path, default=[])
    parser.add_argument("--against", metavar="NETWORK", type=Path)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    try:
        images, true = photographs(options.data)
        networks = [opened(path) for path in options.networks]
        if options.seconds is not None:
            print(timed(networks, images[0], from_landmarks(true[0]), options.seconds))
            return 0
        beside = None if options.against is None else opened(options.against)
        rows = [
            measured(network, squares, found, images, true, beside)
            for squares, found in squares_of(images, true, [opened(path) for path in options.palm])
            for network in networks
        ]
        print(table(rows))
        if options.json is not None:
            text = json.dumps([row.to_json() for row in rows], indent=2)
            write_whole(options.json, [text.encode() + b"\n"])
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def photographs(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Images uint8 [H, W, 3], and their hands' points float64 [n, 21, 2]."""
    samples = numbered_folder(folder, 2 * JOINTS)
    images = [pixels(read_image(sample.path)) for sample in samples]
    return images, np.array([sample.label for sample in samples], np.float64).reshape(-1, JOINTS, 2)


def opened(path: Path) -> Network:
    """A network by its file; .tflite files are LiteRT's. InputError if its input is no square of RGB."""
    if path.suffix.lower() != ".tflite":
        ours, size = session(path)
        return Network(path.name, size, ours.run, unit(path, size))
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    interpreter = _interpreter(1, model_path=str(path))
    _, height, width, channels = interpreter.get_input_details()[0]["shape"]
    if height != width or channels != 3:
        raise InputError(f"{path} does not take a square of RGB")
    run = _runner(interpreter)
    return Network(path.name, int(height), lambda x: run(x[None]), int(height))


def squares_of(
    images: Sequence[np.ndarray], true: np.ndarray, detectors: Sequence[Network]
) -> list[tuple[str, list[Region | None]]]:
    """By name, where each image's hand is, by the true points and by each detector; None: not found."""
    found: list[tuple[str, list[Region | None]]] = [("true", [from_landmarks(points) for points in true])]
    for detector in detectors:
        centres = anchors(detector.size)
        squares: list[Region | None] = []
        for image in images:
            region = whole(image, detector.size)
            boxes, scores = (one.ravel() for one in detector.run(warp(image, region, black=True)))
            palms = decode(boxes, scores, centres, region)
            squares.append(palms[0].region() if palms else None)
        found.append((detector.name, squares))
    return found


def measured(
    network: Network,
    squares: str,
    regions: Sequence[Region | None],
    images: Sequence[np.ndarray],
    true: np.ndarray,
    beside: Network | None,
) -> Row:
    """The errors of a network on these squares."""
    made, apart = np.full(true.shape, np.nan), []
    for i, (image, found) in enumerate(zip(images, regions, strict=True)):
        if found is None:
            continue
        region = found.sized(network.size)
        x = warp(image, region)
        made[i] = hand_of(network.run(x), region.sized(network.unit)).points[:, :2]
        if beside is not None:
            other = hand_of(beside.run(x), region.sized(beside.unit)).points[:, :2]
            apart.append(np.abs(region.to_input(made[i]) - region.to_input(other)))
    difference = (float(np.max(apart)), float(np.mean(apart))) if apart else None
    return Row(network.name, squares, score(made, true), difference)


def timed(networks: Sequence[Network], image: np.ndarray, square: Region, seconds: float) -> str:
    """Milliseconds of each network on one crop, in turns: CPU time of a call, least of the rounds, which
    other programs hardly change, and wall-clock time."""

    def on_crop(network: Network) -> Callable[[], object]:
        x = warp(image, square.sized(network.size))
        return lambda: network.run(x)

    samples = interleave([on_crop(network) for network in networks], seconds)
    wide = max(len(network.name) for network in networks) + 2
    lines = [f"{'network':{wide}}{'CPU ms':>9}{'min ms':>9}{'median':>9}"]
    for network, one in zip(networks, samples, strict=True):
        numbers = (one.cpu.min(), one.all.min(), np.median(one.all))
        lines.append(f"{network.name:{wide}}" + "".join(f"{1e3 * number:9.3f}" for number in numbers))
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """A line per row, errors in per cent of the palm's size."""
    wide = max(len(row.network) for row in rows) + 2
    squares = max(len("squares"), *(len(row.squares) for row in rows)) + 2
    names = ("wrist", *FINGERS)
    heads = "".join(f"{name:>8}" for name in ("found", "error %", "PCK@0.2", *names))
    lines = [f"{'network':{wide}}{'squares':{squares}}{heads}"]
    for row in rows:
        errors = row.errors
        numbers = f"{errors.found:8}{100 * errors.mean:8.3f}{errors.pck:8.4f}"
        fingers = "".join(f"{100 * errors.fingers[name]:8.2f}" for name in names)
        line = f"{row.network:{wide}}{row.squares:{squares}}{numbers}{fingers}"
        if row.apart is not None:
            line += f"   apart: at most {row.apart[0]:.4f}, mean {row.apart[1]:.5f} pixels"
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""`subbyte hands`: a hand's landmarks in images, and followed through a video."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.table import Table

from subbyte.cli.checks import check_output, check_output_folder
from subbyte.cli.console import complain, say, show, show_json
from subbyte.cli.options import Isa, Json, Threads
from subbyte.errors import InputError
from subbyte.hands.draw import drawn
from subbyte.hands.frames import CAMERA, Frame, frames
from subbyte.hands.landmarks import Hand, LandmarkNetwork
from subbyte.hands.page import Shot, page
from subbyte.hands.palm import PalmDetector
from subbyte.hands.tracker import MIN_PRESENCE, STAGES, Seen, Tracker
from subbyte.hands.warp import warp
from subbyte.system.whole_file import write_whole

_NETWORK = "a .subbyte file, or a .tflite file, which runs in float32."
MAX_SHOTS = 200  # frames of a page


def hands(
    source: Annotated[
        str,
        typer.Argument(
            metavar=f"IMAGE|FOLDER|VIDEO|{CAMERA.upper()}",
            help="An image, a folder of frames (by name), an animation (GIF, WebP), a video file, "
            f"{CAMERA} or {CAMERA}:N. Videos and cameras need OpenCV.",
        ),
    ],
    palm: Annotated[Path, typer.Option(help=f"The palm detector: {_NETWORK}")],
    landmarks: Annotated[Path, typer.Option(help=f"The landmark network: {_NETWORK}")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the frames with the skeleton drawn, as PNG files.")
    ] = None,
    page_file: Annotated[
        Path | None,
        typer.Option(
            "--page", help=f"HTML file of the frames with the key points over them, the first {MAX_SHOTS}."
        ),
    ] = None,
    crops: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what the landmark network saw where it found a hand: PNG files to calibrate on."
        ),
    ] = None,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate", help="Frames have nothing to do with each other: each one's palm is found."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    presence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Below this probability there is no hand.")
    ] = MIN_PRESENCE,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Find a hand's 21 landmarks in images, follow it through a video, and print milliseconds per stage.

    A frame that cannot be read is reported, and the others are looked at; the exit status is 1 then.
    Ctrl-C ends a camera; what was seen is summed up.
    """
    tracker = Tracker(PalmDetector(palm, threads, isa), LandmarkNetwork(landmarks, threads, isa), presence)
    for option, folder in (("--output", output), ("--crops", crops)):
        if folder is not None:
            check_output_folder(option, folder)
    if page_file is not None:
        check_output("--page", page_file, ".html", (palm, landmarks, source))
    watched = Watched()
    failed = False
    try:
        for frame, seconds in _timed(frames(source), limit):
            if frame.image is None:
                failed = True
                complain(frame.error)
                continue
            if separate:
                tracker.forget()
            start = process_time()
            seen = tracker.see(frame.image)
            watched.add(seen, seconds, process_time() - start)
            described = _described(frame.name, seen)
            if json:
                watched.results.append(described)
            else:
                say(f"{frame.name}: {_line(seen)}")
            if output is not None:
                points = None if seen.hand is None else seen.hand.points
                _save(drawn(frame.image, points), output, watched.count, frame.name)
            if crops is not None and seen.hand is not None:
                x = warp(frame.image, seen.hand.region)
                _save(Image.fromarray((x * 255).round().astype(np.uint8)), crops, watched.count, frame.name)
            if page_file is not None and len(watched.shots) < MAX_SHOTS:
                watched.shots.append(Shot(frame.name, frame.image, seen.hand, _line(seen)))
    except KeyboardInterrupt:
        if not source.startswith(CAMERA):
            raise
    if page_file is not None:
        write_whole(page_file, page(f"Hands in {source}", watched.shots, watched.rows()))
    if json:
        show_json({"frames": watched.results, "milliseconds": watched.milliseconds()})
    elif watched.count:
        table = Table(*watched.rows()[0], box=None)
        for row in watched.rows()[1:]:
            table.add_row(*row)
        show(table)
    if failed:
        sys.exit(1)


class Watched:
    """What was seen so far, and how long each stage took."""

    def __init__(self) -> None:
        self.count = self.found = 0
        self.seconds: dict[str, list[float]] = {stage: [] for stage in ("read", *STAGES, "all", "CPU")}
        self.results: list[dict[str, Any]] = []
        self.shots: list[Shot] = []

    def add(self, seen: Seen, read: float, cpu: float) -> None:
        """One frame more; read: seconds that reading it took; cpu: CPU seconds of all else, whatever other
        programs took meanwhile."""
        self.count += 1
        self.found += seen.hand is not None
        self.seconds["read"].append(read)
        self.seconds["all"].append(sum(seen.seconds.values()))
        self.seconds["CPU"].append(cpu)
        for stage, seconds in seen.seconds.items():
            self.seconds[stage].append(seconds)

    def milliseconds(self) -> dict[str, dict[str, float]]:
        """Of each stage that there was: in how many frames, and the median, least and longest time."""
        return {
            stage: {
                "frames": len(times),
                "median": 1e3 * median(times),
                "min": 1e3 * min(times),
                "max": 1e3 * max(times),
            }
            for stage, times in self.seconds.items()
            if times
        }

    def rows(self) -> list[tuple[str, ...]]:
        """A table of the times, its heading first; the last row without reading, as frames a second."""
        rows: list[tuple[str, ...]] = [("stage", "frames", "median ms", "min", "max")]
        for stage, one in self.milliseconds().items():
            times = (f"{one[key]:.2f}" for key in ("median", "min", "max"))
            rows.append((stage, str(one["frames"]), *times))
        if self.count:
            total = sum(self.seconds["all"])
            rate = f"{self.count / total:.1f} frames/s" if total > 0 else ""
            rows.append((f"{self.found} hands", str(self.count), rate, "", ""))
        return rows


def _timed(source: Iterator[Frame], limit: int | None) -> Iterator[tuple[Frame, float]]:
    """At most `limit` frames, each with the seconds that it took to read."""
    count = 0
    while limit is None or count < limit:
        start = perf_counter()
        frame = next(source, None)
        if frame is None:
            return
        yield frame, perf_counter() - start
        count += 1


def _line(seen: Seen) -> str:
    if seen.hand is None:
        return "no hand"
    how = "followed" if seen.tracked else "found"
    return f"{_side(seen.hand)}hand {how}, presence {seen.hand.presence:.2f}, {_milliseconds(seen)}"


def _side(hand: Hand) -> str:
    if hand.right is None:
        return ""
    return "right " if hand.right >= 0.5 else "left "


def _milliseconds(seen: Seen) -> str:
    return ", ".join(f"{stage} {1e3 * seconds:.1f} ms" for stage, seconds in seen.seconds.items())


def _described(name: str, seen: Seen) -> dict[str, Any]:
    hand = seen.hand
    times = {stage: 1e3 * seconds for stage, seconds in seen.seconds.items()}
    if hand is None:
        return {"frame": name, "hand": None, "milliseconds": times}
    found = {
        "points": hand.points.tolist(),
        "presence": hand.presence,
        "right": hand.right,
        "world": None if hand.world is None else hand.world.tolist(),
        "followed": seen.tracked,
    }
    return {"frame": name, "hand": found, "milliseconds": times}


def _save(picture: Image.Image, folder: Path, number: int, name: str) -> None:
    """By its number, and its file's name as far as that is harmless. InputError if it cannot be written."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in Path(name).stem)
    path = folder / f"{number:06}-{plain[:80]}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None

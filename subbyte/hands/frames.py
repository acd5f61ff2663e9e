"""The frames of a photograph, a folder, an animation, a video or a camera, one at a time.

Photographs and animations (GIF, WebP) are read by Pillow; videos and cameras by OpenCV, the extra "video".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.data.decode import read_frames, read_image
from subbyte.data.samples import SUFFIXES, image_folder
from subbyte.errors import InputError
from subbyte.hands.warp import pixels
from subbyte.system.imports import extra_module

VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
CAMERA = "camera"


@dataclass(frozen=True, eq=False)
class Frame:
    """name: of the file, with the frame's number if it has several. image: uint8 [H, W, 3], RGB; None where
    it cannot be read, and `error` says why."""

    name: str
    image: np.ndarray | None
    error: str = ""


def frames(source: str) -> Iterator[Frame]:
    """The frames of a source.

    source: the path of an image, of a folder of images (by name; one that cannot be read is a frame with an
    error), of an animation or a video, or `camera` or `camera:N`.

    Raises InputError for what is not there, cannot be read, or holds no frame, and if OpenCV is needed and
    lacking.
    """
    if source.partition(":")[0] == CAMERA and not Path(source).exists():
        number = source.partition(":")[2] or "0"
        if not number.isdecimal() or len(number) > 3:
            raise InputError(f"a camera is {CAMERA} or {CAMERA}:N with N from 0 to 999, not {source!r}")
        return _captured(int(number), source)
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix in VIDEOS:
        return _captured(str(path), path.name)
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is no image, folder or video that is known by its name")
    return _numbered(path.name, (pixels(image) for image in read_frames(path)))


def _folder(path: Path) -> Iterator[Frame]:
    for sample in image_folder(path):
        name = str(sample.path.relative_to(path))
        try:
            yield Frame(name, pixels(read_image(sample.path)))
        except InputError as error:
            yield Frame(name, None, str(error))


def _numbered(name: str, images: Iterator[np.ndarray]) -> Iterator[Frame]:
    """A single image has the file's name; of several, each has its number."""
    first = next(images, None)
    if first is None:
        raise InputError(f"{name} holds no frame")
    second = next(images, None)
    yield Frame(name if second is None else f"{name} 0", first)
    number = 1
    while second is not None:
        yield Frame(f"{name} {number}", second)
        second = next(images, None)
        number += 1


def _captured(what: str | int, name: str) -> Iterator[Frame]:
    cv2: Any = extra_module("cv2", "video")
    capture = cv2.VideoCapture(what)
    try:
        if not capture.isOpened():
            raise InputError(f"{name} cannot be opened as a video")
        yield from _numbered(name, _decoded(capture, cv2))
    finally:
        capture.release()


def _decoded(capture: Any, cv2: Any) -> Iterator[np.ndarray]:
    while True:
        there, image = capture.read()
        if not there or image is None:
            return
        yield np.ascontiguousarray(
            image[..., ::-1] if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        )

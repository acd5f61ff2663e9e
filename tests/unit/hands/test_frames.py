"""Frames of images, folders, animations and videos, drawn and in a page."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.errors import InputError
from subbyte.hands import Hand, Region
from subbyte.hands.draw import COLOURS, drawn
from subbyte.hands.frames import frames
from subbyte.hands.page import Shot, page
from subbyte.hands.skeleton import BONES, FINGERS, JOINTS
from tests.unit.hands.test_region import UPRIGHT

WITH_OPENCV = importlib.util.find_spec("cv2") is not None
SHADES = (0, 80, 160, 240)
GREY = [np.full((12, 16, 3), shade, np.uint8) for shade in SHADES]


def shades(source: object) -> list[int]:
    return [int(frame.image.mean()) for frame in frames(str(source)) if frame.image is not None]


def test_an_image(tmp_path: Path) -> None:
    Image.fromarray(GREY[2]).save(tmp_path / "a.png")
    (frame,) = frames(str(tmp_path / "a.png"))
    assert frame.name == "a.png"
    np.testing.assert_array_equal(frame.image, GREY[2])


def test_a_folder_goes_on_behind_a_damaged_image(tmp_path: Path) -> None:
    for i, image in enumerate(GREY):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"nothing")
    found = list(frames(str(tmp_path)))
    assert [frame.name for frame in found] == ["0.png", "1.png", "2.png", "3.png"]
    assert [frame.image is None for frame in found] == [False, True, False, False]
    assert "1.png" in found[1].error


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    first, *others = (Image.fromarray(image) for image in GREY)
    first.save(path, save_all=True, append_images=others, duration=40, lossless=True)
    assert shades(path) == list(SHADES)
    assert [frame.name for frame in frames(str(path))] == [f"a.{suffix} {i}" for i in range(4)]


def test_a_damaged_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)
    first, *others = (Image.fromarray(image) for image in noise)
    first.save(path, save_all=True, append_images=others)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 5 // 8])
    seen = []
    with pytest.raises(InputError, match=r"cannot read .*a\.gif as an image"):
        seen += list(frames(str(path)))
    path.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"cannot read .*a\.gif as an image"):
        list(frames(str(path)))


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no image")
    for source, message in (
        (tmp_path / "none.png", "there is no file"),
        (tmp_path / "a.txt", "no image, folder or video"),
        ("camera:x", "a camera is camera or camera:N"),
        ("camera:1000", "a camera is camera or camera:N"),
    ):
        with pytest.raises(InputError, match=message):
            list(frames(str(source)))


@pytest.mark.skipif(WITH_OPENCV, reason="OpenCV is installed")
def test_videos_without_opencv(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    for source in (tmp_path / "a.mp4", "camera"):
        with pytest.raises(InputError, match=r"pip install subbyte\[video\]"):
            list(frames(str(source)))


@pytest.mark.skipif(not WITH_OPENCV, reason="needs OpenCV, the extra video")
def test_a_video(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for shade in SHADES:
        writer.write(np.full((24, 32, 3), (shade, 0, 0), np.uint8))  # blue
    writer.release()
    found = list(frames(str(path)))
    assert len(found) == 4
    for shade, frame in zip(SHADES, found, strict=True):
        assert frame.image is not None
        assert frame.image.shape == (24, 32, 3)
        np.testing.assert_allclose(frame.image.mean((0, 1)), (0, 0, shade), atol=8)  # JPEG, of one colour
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        list(frames(str(path)))


def test_the_skeleton() -> None:
    assert sorted({joint for bone in BONES for joint in bone}) == list(range(JOINTS))
    assert sorted([0, *(joint for joints in FINGERS.values() for joint in joints)]) == list(range(JOINTS))
    image = np.zeros((240, 240, 3), np.uint8)
    picture = np.asarray(drawn(image, UPRIGHT))
    for name, joints in FINGERS.items():
        middle = (UPRIGHT[joints[1]] + UPRIGHT[joints[2]]).astype(int) // 2
        assert "#" + picture[middle[1], middle[0]].tobytes().hex() == COLOURS[name]
    assert not image.any()
    assert not np.asarray(drawn(image, None)).any()
    drawn(image, UPRIGHT * 1e6)  # far outside


def test_the_page() -> None:
    hand = Hand(UPRIGHT, 0.9, None, None, Region(0, 0, 1))
    image = np.zeros((240, 200, 3), np.uint8)
    shots = [Shot("<a>&", image, hand, "found"), Shot("b", image, None, "no hand")]
    text = b"".join(page("T<", shots, [("stage", "ms"), ("palm", "1.0")])).decode()
    assert "<a>" not in text
    assert text.count("<svg") == text.count("data:image/jpeg;base64,") == 2
    assert text.count("<circle") == JOINTS
    assert text.count("<line") == len(BONES)
    assert "<td>palm</td>" in text
    assert "script" not in text

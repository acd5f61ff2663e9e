"""Files to pixels: what PIL's `convert` gets wrong, what it gets right, and files that are made to hurt."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from subbyte.data.decode import MAX_PIXELS, read_image
from subbyte.errors import InputError

MEGABYTES = 200  # of memory at most, Python and numpy included, for a small file


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, pixels: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG; without pixels, as many zeros as its size asks for, or 2^24."""
    row = (width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
    lines = pixels and b"".join(b"\0" + pixels[i : i + row] for i in range(0, len(pixels), row))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = zlib.compress(lines or bytes(min((row + 1) * height, 2**24)), 9)
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zipped_text(megabytes: int) -> bytes:
    """Text chunks of a kilobyte that unpack to a megabyte each, four in memory."""
    text = zlib.compress(("\U0001f600" + "a" * (2**20 - 8)).encode(), 9)
    return b"".join(chunk(b"iTXt", b"k%d\0\1\0\0\0" % i + text) for i in range(megabytes))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.img"
    path.write_bytes(data)
    return path


def pixels_of(tmp_path: Path, data: bytes, channels: int = 3) -> np.ndarray:
    return np.asarray(read_image(written(tmp_path, data), channels))


# --------------------------------------------------------------------------- modes

RAMP = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
RAMP8 = np.round(RAMP / 257).astype(np.uint8)  # never a tie: 257 is odd


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_of_16_bits_keeps_its_range(tmp_path: Path, form: str, channels: int) -> None:
    image = Image.fromarray(RAMP)
    found = pixels_of(tmp_path, encoded(image, form), channels)
    if channels == 1:
        np.testing.assert_array_equal(found, RAMP8)
    else:
        for i in range(3):
            np.testing.assert_array_equal(found[..., i], RAMP8)


def test_mode_i_of_older_pillows_is_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 10 opens a PNG of 16 bits as 32-bit integers."""
    image = Image.fromarray(RAMP.astype(np.int32))
    image.format = "PNG"
    monkeypatch.setattr(Image, "open", lambda path, formats: image)
    np.testing.assert_array_equal(pixels_of(tmp_path, b"", 1), RAMP8)


def test_rgb_of_16_bits(tmp_path: Path) -> None:
    """PIL takes the high byte, which is v / 257 or one beside it."""
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 3))
    found = pixels_of(tmp_path, png(8, 8, 16, 2, values.astype(">u2").tobytes()))
    np.testing.assert_array_equal(found, values >> 8)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_known_range_are_refused(tmp_path: Path, dtype: type) -> None:
    data = encoded(Image.fromarray(np.full((4, 4), 100, dtype)), "TIFF")
    with pytest.raises(
        InputError, match=r"a\.img as an image: it holds 32-bit values, whose range is not known"
    ):
        read_image(written(tmp_path, data))


COLOURS = np.random.default_rng(1).integers(0, 256, (8, 8, 4), np.uint8)


def palette(**options: Any) -> Image.Image:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8), "L").convert("P")
    image.putpalette(COLOURS[..., :3].tobytes())
    return image


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("form", "image", "options"),
    [
        ("PNG", Image.fromarray(COLOURS, "RGBA"), {}),
        ("PNG", Image.fromarray(COLOURS[..., :2].copy(), "LA"), {}),
        ("PNG", palette(), {}),
        ("PNG", palette(), {"transparency": bytes(range(64))}),  # of which PIL warns
        ("PNG", Image.fromarray(COLOURS[..., 0] > 100), {}),
        ("JPEG", Image.fromarray(COLOURS, "CMYK"), {}),
        ("TIFF", Image.fromarray(COLOURS, "CMYK"), {}),
    ],
    ids=["rgba", "la", "palette", "palette-alpha", "1-bit", "cmyk-jpeg", "cmyk-tiff"],
)
@pytest.mark.filterwarnings("error")
def test_other_modes_as_convert_has_them(
    tmp_path: Path, form: str, image: Image.Image, options: dict[str, Any], channels: int
) -> None:
    """Transparency is dropped unless there is a channel for it, as torchvision and timm do."""
    data = encoded(image, form, **options)
    found = pixels_of(tmp_path, data, channels)
    with pytest.MonkeyPatch.context() as patch, Image.open(io.BytesIO(data)) as opened:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        expected = np.asarray(opened.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    np.testing.assert_array_equal(found, expected)


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    data = encoded(Image.new("RGBA", (2, 2), (10, 20, 30, 0)), "PNG")
    assert pixels_of(tmp_path, data)[0, 0].tolist() == [10, 20, 30]
    assert pixels_of(tmp_path, data, 4)[0, 0].tolist() == [10, 20, 30, 0]


# --------------------------------------------------------------------------- orientation, frames

PLAIN = np.arange(6, dtype=np.uint8).reshape(2, 3)
#: What a camera stores, by EXIF's orientation, of what stands upright as PLAIN.
STORED = {
    1: PLAIN,
    2: PLAIN[:, ::-1],
    3: PLAIN[::-1, ::-1],
    4: PLAIN[::-1],
    5: PLAIN.T,
    6: np.rot90(PLAIN, 1),  # to be turned by 90 degrees clockwise
    7: np.rot90(PLAIN.T, 2),
    8: np.rot90(PLAIN, -1),
}


def exif(value: int) -> bytes:
    """An EXIF block with nothing but the orientation."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1, value) + bytes(4)


@pytest.mark.parametrize("value", STORED)
def test_orientation(tmp_path: Path, value: int) -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[value]))
    np.testing.assert_array_equal(pixels_of(tmp_path, encoded(image, "PNG", exif=exif(value)), 1), PLAIN)


@pytest.mark.parametrize("block", [exif(9), exif(0), b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense"])
def test_damaged_metadata_does_not_matter(tmp_path: Path, block: bytes) -> None:
    data = encoded(Image.fromarray(PLAIN), "PNG", exif=block)
    np.testing.assert_array_equal(pixels_of(tmp_path, data, 1), PLAIN)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG"])
def test_the_first_of_several_frames_counts(tmp_path: Path, form: str) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (50, 100, 150)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert np.unique(pixels_of(tmp_path, data, 1)).tolist() == [50]


# --------------------------------------------------------------------------- plugins


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif(tmp_path: Path) -> None:
    found = pixels_of(tmp_path, encoded(Image.new("RGB", (16, 16), (255, 255, 255)), "AVIF"))
    np.testing.assert_array_equal(found, np.full((16, 16, 3), 255))


@pytest.mark.parametrize(
    ("name", "module", "brand", "package"),
    [("AVIF", "pillow_avif", b"avif", "pillow-avif-plugin"), ("HEIF", "pillow_heif", b"heic", "pillow-heif")],
)
def test_missing_plugins_are_named_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, brand: bytes, package: str
) -> None:
    path = written(tmp_path, struct.pack(">I", 20) + b"ftyp" + brand + bytes(4) + b"mif1" + bytes(100))
    Image.init()
    monkeypatch.delitem(Image.OPEN, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"no decoder for {name} opens it; .* pip install {package}"):
        read_image(path)

    class Plugin(ImageFile.ImageFile):
        format = name

        def _open(self) -> None:
            self._size, self._mode = (3, 2), "L"
            self.tile = [ImageFile._Tile("raw", (0, 0, 3, 2), 24, ("L", 0, 1))]

    def register() -> None:
        monkeypatch.setitem(Image.OPEN, name, (Plugin, None))

    monkeypatch.setitem(sys.modules, module, plugin_module(module, register))
    assert read_image(path, 1).size == (3, 2)


def plugin_module(name: str, register: Callable[[], None]) -> types.ModuleType:
    """A stand-in: pillow_heif registers when told to, pillow_avif when it is imported."""
    made = types.ModuleType(name)
    if name == "pillow_heif":
        made.register_heif_opener = register  # type: ignore[attr-defined]
    else:
        register()
    return made


# --------------------------------------------------------------------------- files made to hurt


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(9500, 9500, 1, 0), "it has 9500 x 9500 pixels in only"),  # of which PIL only warns
        (png(100000, 100000, 1, 0)[:200], "exceeds limit"),
        (png(MAX_PIXELS // 2 + 1, 2, 1, 0), "it has 4194305 x 2 pixels"),
        (png(64, 64)[:-40], "truncated"),
        (png(8, 8, extra=zipped_text(60)), "text chunks"),
        (png(8, 8, extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**24)))), "too large"),
        (encoded(Image.new("RGB", (64, 64)), "TIFF")[:-9000], "truncated"),
        (encoded(Image.new("RGB", (5000, 5000)), "WEBP"), "it has 5000 x 5000 pixels"),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40, ""),
    ],
    ids=["warned", "beyond", "barely", "cut", "text", "profile", "cut-tiff", "webp", "tags"],
)
def test_hostile_files_are_one_error(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"cannot read .*a\.img as an image: .*{reason}"):
        read_image(written(tmp_path, data))


def test_many_pixels_in_many_bytes_are_fine(tmp_path: Path) -> None:
    """More than the limit for small files, in a file of a byte for each 64 of them."""
    side = 3000
    data = encoded(Image.new("1", (side, side)), "PNG")
    assert read_image(written(tmp_path, data + bytes(side * side // 64)), 1).size == (side, side)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of memory")
@pytest.mark.parametrize(
    "data",
    [
        png(20000, 1),
        png(1, 60000),
        png(200, 41000, 8, 6),
        png(2896, 2896, 16, 0, extra=chunk(b"eXIf", exif(6)[6:])),
        png(8, 8, extra=zipped_text(60)),
        encoded(Image.new("RGB", (2896, 2896)), "JPEG", progressive=True, exif=exif(5)),
    ],
    ids=["wide", "tall", "strip", "turned", "text", "progressive"],
)
def test_small_files_take_little_memory(tmp_path: Path, data: bytes) -> None:
    """99 bytes of 20000 x 1 pixels took 5.5 GB: 256 times as many in both directions."""
    code = """
import sys
from pathlib import Path
from subbyte.errors import InputError
from subbyte.data.samples import load_image
from subbyte.preprocess import Preprocessing
try:
    load_image(sys.argv[1], Preprocessing(224, 224, (0.5,) * 4, (0.5,) * 4))
except InputError as error:
    print(error, file=sys.stderr)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
"""
    assert len(data) < 2**18
    command = [sys.executable, "-c", code, str(written(tmp_path, data))]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < MEGABYTES * 1000, result.stderr

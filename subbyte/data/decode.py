"""An image's file to pixels of 8 bits: what PIL decodes, upright, in memory that the file's size bounds.

The rules, where a file leaves a choice:
- EXIF orientation is applied; of several frames or pages, the first is taken; colour profiles are ignored.
- Transparency is dropped, not composed on a background, unless the network has a channel for it; palettes,
  CMYK and YCbCr become RGB, and RGB becomes grey, by PIL's `convert`, as in the training pipelines of the
  published networks.
- Grey of 16 bits is v / 257, rounded: 65535 becomes 255. 32-bit integers and floats are refused, because
  nothing in the file says which of them is white.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from subbyte.errors import InputError

Source = Path | str | io.BytesIO
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # PIL's names by channels

# Pixels that a file may unpack to: so many, or so many per byte of it. The demo's photographs have 2 to 7;
# 2^23 pixels are 34 MB in RGB.
MAX_PIXELS = 2**23
MAX_PIXELS_PER_BYTE = 64
MAX_TEXT = 2**24  # characters in the text chunks of a PNG, where a zipped megabyte is a kilobyte

ANIMATED = ("GIF", "WEBP")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF")
# What needs a recent Pillow or a plugin: format, module, package, and the brands in the file's `ftyp` box.
_PLUGINS = (
    ("AVIF", "pillow_avif", "pillow-avif-plugin", {b"avif", b"avis"}),
    ("HEIF", "pillow_heif", "pillow-heif", {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}),
)
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4 A
# What turns an image upright, by its orientation.
_UPRIGHT: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path | str, channels: int = 3, data: bytes | None = None) -> Image.Image:
    """The image, 8 bits a channel: grey (1), RGB (3) or RGBA (4).

    data: the file's bytes where they lie in another file, such as a tar; errors then call it `path`.

    InputError, naming the file: there is none, it cannot be decoded, it would unpack to far more than
    it holds, or its format needs a plugin for PIL that is not installed.
    """
    return _read(path, data, lambda image: _eight_bits(image).convert(MODES[channels]))


def read_mask(path: Path | str) -> np.ndarray:
    """The numbers of a mask, uint8 [H, W]: palette indices, or grey of 8 bits. InputError as `read_image`,
    and for an image of another kind."""
    return np.asarray(_read(path, None, _numbered), np.uint8)


def _numbered(image: Image.Image) -> Image.Image:
    if image.mode not in ("L", "P"):
        raise ValueError(f"a mask is grey or has a palette, not {image.mode}")
    return image.copy()


def _read(
    path: Path | str, data: bytes | None, pixels_of: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """What `pixels_of` makes of the opened image, upright."""
    try:
        source = path if data is None else io.BytesIO(data)
        with _guarded(), _open(source) as image:
            _check_size(image.size, Path(path).stat().st_size if data is None else len(data))
            upright = _orientation(image)
            pixels = pixels_of(image)
            return pixels if upright is None else pixels.transpose(upright)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise _unreadable(path, error) from None


def read_frames(path: Path) -> Iterator[Image.Image]:
    """The frames of an animation (GIF, WebP), or the one image of another file, RGB, one at a time.

    InputError as of `read_image`; a frame that cannot be read comes after those that can.
    """
    try:
        with _guarded():
            image = _open(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except Exception as error:
        raise _unreadable(path, error) from None
    with image:
        if image.format not in ANIMATED or not getattr(image, "is_animated", False):
            yield read_image(path)
            return
        for number in count():
            try:
                with _guarded():
                    image.seek(number)
                    _check_size(image.size, path.stat().st_size)
                    frame = image.convert("RGB")
            except EOFError:  # there are no more
                return
            except Exception as error:
                raise _unreadable(path, error) from None
            yield frame


def _unreadable(path: Path | str, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return InputError(f"cannot read {path} as an image: {reason}")


@contextmanager
def _guarded() -> Iterator[None]:
    """PIL without warnings, of large sizes (which are checked here) and of damaged metadata, and with a
    limit on text that keeps to megabytes where a character takes four bytes."""
    before = PngImagePlugin.MAX_TEXT_MEMORY
    PngImagePlugin.MAX_TEXT_MEMORY = MAX_TEXT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        PngImagePlugin.MAX_TEXT_MEMORY = before


def _open(source: Source) -> Image.Image:
    try:
        return Image.open(source, formats=_FORMATS)
    except UnidentifiedImageError:
        brands = _brands(source)
        for name, module, package, known in _PLUGINS:
            if brands & known:
                return _open_with_plugin(source, name, module, package)
        raise


def _brands(source: Source) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12, 4.3), such as `avif`; else none."""
    if isinstance(source, io.BytesIO):
        head = source.getvalue()[:64]
    else:
        with open(source, "rb") as stream:
            head = stream.read(64)
    size = int.from_bytes(head[:4], "big")
    return {head[i : i + 4] for i in range(8, min(size, len(head)), 4)} if head[4:8] == b"ftyp" else set()


def _open_with_plugin(source: Source, name: str, module: str, package: str) -> Image.Image:
    try:
        plugin = importlib.import_module(module)
        getattr(plugin, "register_heif_opener", lambda: None)()  # the other one registers itself
    except ImportError:
        pass  # PIL may know the format
    Image.init()
    if name in Image.OPEN:
        try:
            return Image.open(source, formats=(name,))
        except UnidentifiedImageError:
            pass  # PIL may have been built without the decoder
    raise ValueError(f"no decoder for {name} opens it; if none is installed: pip install {package}")


def _check_size(size: tuple[int, int], file_bytes: int) -> None:
    width, height = size
    if width * height > max(MAX_PIXELS, MAX_PIXELS_PER_BYTE * file_bytes):
        raise ValueError(
            f"it has {width} x {height} pixels in only {file_bytes} bytes, which looks like an attack"
        )


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION))
    except Exception:  # damaged metadata; if the pixels are damaged too, decoding them will say so
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Without more than 8 bits a channel, which `convert` would clip at 255. ValueError where the range is
    not known."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values = np.asarray(image).astype(np.uint32)
        values += 128
        values //= 257
        return Image.fromarray(values.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it holds 32-bit values, whose range is not known; save it with 8 or 16 bits")
    return image

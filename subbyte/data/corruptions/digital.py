"""Loss of contrast, shape and resolution, and compression. float32 [H, W, C] in 0..1 to the same."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from subbyte.data.corruptions.blur import to_bytes

Random = np.random.Generator
SMOOTHNESS = 4.0  # pixels, the sigma of elastic displacements


def contrast(x: np.ndarray, share: float, rng: Random) -> np.ndarray:
    """That share of the differences from the mean of each channel."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return mean + np.float32(share) * (x - mean)


def elastic_transform(x: np.ndarray, distance: float, rng: Random) -> np.ndarray:
    """Pixels move by smooth random displacements, `distance` pixels in root mean square each way."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width = x.shape[:2]
    noise = rng.uniform(-1, 1, (2, height, width)).astype(np.float32)
    moves = gaussian_filter(noise, (0, SMOOTHNESS, SMOOTHNESS))
    moves *= distance / np.sqrt((moves**2).mean())
    where = np.indices((height, width), np.float32) + moves
    channels = [map_coordinates(x[..., c], where, order=1, mode="reflect") for c in range(x.shape[2])]
    return np.stack(channels, axis=-1)


def pixelate(x: np.ndarray, share: float, rng: Random) -> np.ndarray:
    """Both sides reduced to that share by averaging, and enlarged again without smoothing."""
    height, width = x.shape[:2]
    small = max(1, int(width * share)), max(1, int(height * share))
    reduced = Image.fromarray(to_bytes(x)).resize(small, Image.Resampling.BOX)
    return np.asarray(reduced.resize((width, height), Image.Resampling.NEAREST), np.float32) / 255


def jpeg_compression(x: np.ndarray, quality: int, rng: Random) -> np.ndarray:
    """Written as JPEG of that quality, and read again."""
    stream = io.BytesIO()
    Image.fromarray(to_bytes(x)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        return np.asarray(image, np.float32) / 255

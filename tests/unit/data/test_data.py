"""Folders, labels and the way from an image to an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data import samples as data
from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing

PLAIN = Preprocessing(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nearest", 1.0)


def image(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 12, 3), 7, np.uint8) if pixels is None else pixels).save(path)
    return path


def gradient(height: int, width: int) -> np.ndarray:
    """Red counts columns, green rows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return pixels


def test_labels_csv_ignores_other_columns(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "sub" / "b.png")
    (tmp_path / "labels.csv").write_text("file,label,author\nsub/b.png,3,somebody\na.png, 1 ,\n")
    samples = data.labelled_folder(tmp_path, num_classes=4)
    assert [(s.path, s.label) for s in samples] == [(tmp_path / "sub/b.png", 3), (tmp_path / "a.png", 1)]


def test_class_folders_take_their_sorted_order(tmp_path: Path) -> None:
    for name in ("dog/2.png", "cat/1.png", "dog/1.JPG", ".hidden/x.png"):
        image(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    samples = data.labelled_folder(tmp_path, num_classes=2)
    found = [(s.path.relative_to(tmp_path).as_posix(), s.label) for s in samples]
    assert found == [("cat/1.png", 0), ("dog/1.JPG", 1), ("dog/2.png", 1)]


def test_class_folders_match_the_networks_names(tmp_path: Path) -> None:
    image(tmp_path / "dog" / "1.png")
    assert data.labelled_folder(tmp_path, 3, ["cat", "cow", "dog"])[0].label == 2


def test_synset_folders_are_imagenet_indices_for_1000_classes(tmp_path: Path) -> None:
    image(tmp_path / "n01443537" / "1.png")
    image(tmp_path / "n15075141" / "1.png")
    assert [s.label for s in data.labelled_folder(tmp_path, 1000)] == [1, 999]
    assert [s.label for s in data.labelled_folder(tmp_path, 2)] == [0, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\na.png,4\n", "has the label 4: the network has 4 classes"),
        ("file,label\na.png,-1\n", "line 2: the label must be a class index"),
        ("file,label\na.png,cat\n", "line 2: the label must be a class index"),
        ("file,class\na.png,1\n", "line 2: needs the columns file and label"),
        ("file,label\nb.png,1\n", "line 2: there is no file"),
        ("file,label\n\na.png,1\nsub/../../a.png,1\n", "line 4: the file must be inside the folder"),
        (
            "file,label\n../secret.png,1\n",
            "line 2: the file must be inside the folder of the table, got '../s",
        ),
        ("file,label\n/etc/passwd,1\n", "line 2: the file must be inside the folder of the table, got '/etc"),
        ("file,label\n", "holds no labelled images"),
    ],
)
def test_bad_tables(tmp_path: Path, table: str, message: str) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        data.labelled_folder(tmp_path, num_classes=4)


def test_links_that_the_user_placed_are_followed(tmp_path: Path) -> None:
    """Subsets of large data sets are often folders of links."""
    elsewhere = image(tmp_path / "all" / "a.png")
    folder = tmp_path / "subset"
    folder.mkdir()
    (folder / "b.png").symlink_to(elsewhere)
    (folder / "labels.csv").write_text("file,label\nb.png,1\n")
    assert [s.path.name for s in data.labelled_folder(folder)] == ["b.png"]
    (folder / "cat").symlink_to(elsewhere.parent)
    (folder / "labels.csv").unlink()
    assert [s.path.name for s in data.labelled_folder(folder)] == ["a.png"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    """A set of classes may be laid out by links; one that leads back does not go round for ever."""
    for name in ("cat", "dog"):
        image(tmp_path / "all" / name / f"{name}.png")
    folder = tmp_path / "set"
    image(folder / "real" / "bee.png")
    for link, target in {"a": "all/cat", "b": "all/dog", "c": "all/dog", "real/back": "set"}.items():
        (folder / link).symlink_to(tmp_path / target)
    (folder / "0").symlink_to(folder / "real")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    found = [s.path.relative_to(folder).as_posix() for s in data.image_folder(folder)]
    assert found == ["a/cat.png", "b/dog.png", "real/bee.png"]


def test_folders_named_like_classes_are_never_guessed(tmp_path: Path) -> None:
    """Where names match in part, or a name is that of two classes, any order would be a guess."""
    for name in ("ant", "bee", "crane"):
        image(tmp_path / name / "a.png")
    assert [s.label for s in data.labelled_folder(tmp_path, 3, ["crane", "bee", "ant"])] == [2, 1, 0]
    with pytest.raises(
        InputError, match=r"ant: no class of the network is called 'ant'; write a labels\.csv"
    ):
        data.labelled_folder(tmp_path, 3, ["crane", "bee", "cat"])
    with pytest.raises(InputError, match="crane: 2 of the network's classes are called 'crane'"):
        data.labelled_folder(tmp_path, 4, ["crane", "bee", "ant", "crane"])
    assert [s.label for s in data.labelled_folder(tmp_path, 3, ["x", "y", "z"])] == [0, 1, 2]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        data.labelled_folder(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no labelled images"):
        data.labelled_folder(tmp_path)
    with pytest.raises(InputError, match="holds no images"):
        data.image_folder(tmp_path)
    image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"needs a labels\.csv"):
        data.labelled_folder(tmp_path)
    image(tmp_path / "cat" / "a.png")
    with pytest.raises(InputError, match="1 class folders and the network 3 classes"):
        data.labelled_folder(tmp_path, num_classes=3)
    image(tmp_path / "n00000000" / "a.png")
    (tmp_path / "cat" / "a.png").unlink()
    (tmp_path / "cat").rmdir()
    with pytest.raises(InputError, match="n00000000 is not one of the 1000 ImageNet classes"):
        data.labelled_folder(tmp_path, num_classes=1000)


def test_image_folder_and_subset(tmp_path: Path) -> None:
    for i in range(10):
        image(tmp_path / str(i % 2) / f"{i}.png")
    samples = data.image_folder(tmp_path)
    assert len(samples) == 10
    assert samples == sorted(samples, key=lambda s: s.path)
    chosen = data.subset(samples, 4, seed=1)
    assert chosen == data.subset(samples, 4, seed=1)
    assert len(set(chosen)) == 4
    assert chosen == [s for s in samples if s in chosen]
    assert data.subset(samples, None) == data.subset(samples, 99) == samples
    with pytest.raises(InputError, match="at least 1"):
        data.subset(samples, 0)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0 truncated"])
def test_unreadable_images_are_named(tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read .*broken\.jpg as an image"):
        data.load_image(broken, PLAIN)
    with pytest.raises(InputError, match="there is no file"):
        data.load_image(tmp_path / "missing.jpg", PLAIN)


def test_truncated_jpeg_is_an_error(tmp_path: Path) -> None:
    path = image(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"a\.jpg as an image"):
        data.load_image(path, PLAIN)


def test_centre_crop_of_wide_and_tall_images() -> None:
    wide = np.asarray(data.fit(Image.fromarray(gradient(8, 14)), PLAIN))
    assert wide.shape == (8, 8, 3)
    assert wide[0, :, 0].tolist() == list(range(3, 11))
    tall = np.asarray(data.fit(Image.fromarray(gradient(14, 8)), PLAIN))
    assert tall[:, 0, 1].tolist() == list(range(3, 11))


def test_crop_fraction_is_what_remains() -> None:
    preprocessing = Preprocessing(14, 14, (0.0,) * 3, (1.0,) * 3, "nearest", 0.875)
    cropped = np.asarray(data.fit(Image.fromarray(gradient(16, 32)), preprocessing))
    assert cropped.shape == (14, 14, 3)
    assert cropped[:, 0, 1].tolist() == list(range(1, 15))
    assert cropped[0, :, 0].tolist() == list(range(9, 23))


def test_crop_to_an_oblong_input_covers_both_sides() -> None:
    preprocessing = Preprocessing(4, 8, (0.0,) * 3, (1.0,) * 3, "nearest", 1.0)
    cropped = np.asarray(data.fit(Image.fromarray(gradient(10, 8)), preprocessing))
    assert cropped.shape == (4, 8, 3)
    assert cropped[0, :, 0].tolist() == list(range(8))
    assert cropped[:, 0, 1].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_strips_are_cut_before_they_are_resized(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The window alone, and the window of the whole: apart by less than rounding, as corners in float32 move
    by 2^-13 of a pixel and the ramp has less than a level per pixel."""
    ramp = np.tile(np.linspace(0, 255, 2000).round().astype(np.uint8), (4, 1))
    for strip in (Image.fromarray(ramp).convert(mode), Image.fromarray(ramp.T.copy()).convert(mode)):
        for interpolation in ("bicubic", "bilinear"):
            preprocessing = Preprocessing(8, 6, (0.0,) * 3, (1.0,) * 3, interpolation, 0.5)
            whole = np.asarray(data.fit(strip, preprocessing)).astype(int)
            with monkeypatch.context() as patch:
                patch.setattr(data, "MAX_RESIZED", 0)
                window = np.asarray(data.fit(strip, preprocessing)).astype(int)
            assert window.shape == whole.shape
            assert abs(window - whole).max() <= 1
            assert 120 < window[..., 0].mean() < 135 if mode != "L" else 120 < window.mean() < 135


def test_ordinary_images_are_resized_as_torchvision_does() -> None:
    """To the bit: resized as a whole, then cut."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8))
    preprocessing = Preprocessing(224, 224, (0.0,) * 3, (1.0,) * 3)
    expected = noise.resize((426, 256), Image.Resampling.BICUBIC).crop((101, 16, 325, 240))
    np.testing.assert_array_equal(np.asarray(data.fit(noise, preprocessing)), np.asarray(expected))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_are_those_of_the_preprocessing(tmp_path: Path, channels: int) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[...] = (255, 0, 0, 51)
    mean = tuple(i / 10 for i in range(channels))
    x = data.load_image(image(tmp_path / "a.png", pixels), Preprocessing(8, 6, mean, (1.0,) * channels))
    assert x.shape == (8, 6, channels)
    grey = 76 / 255  # ITU-R 601: 0.299 of 255
    expected = {1: (grey,), 3: (1, 0, 0), 4: (1, 0, 0, 0.2)}[channels]
    np.testing.assert_array_equal(x[2, 3], np.array(expected, np.float32) - np.array(mean, np.float32))


def test_squash_keeps_everything() -> None:
    squashed = data.with_resize(Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3, "nearest", 0.5), "squash")
    pixels = np.asarray(data.fit(Image.fromarray(gradient(8, 16)), squashed))
    assert pixels[0, :, 0].tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert pixels[:, 0, 1].tolist() == list(range(8))


def test_resize_modes() -> None:
    assert data.with_resize(PLAIN, None) is PLAIN
    assert data.with_resize(data.with_resize(PLAIN, "squash"), "crop") == PLAIN
    with pytest.raises(InputError, match="crop, squash"):
        data.with_resize(PLAIN, "pad")


def test_normalization(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[...] = (255, 0, 51)
    path = image(tmp_path / "a.png", pixels)
    x = data.load_image(path, Preprocessing(8, 8, (0.5, 0.25, 0.0), (0.5, 0.25, 0.1), "bicubic", 1.0))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(
        x[3, 3], np.array([1.0, -1.0, np.float32(0.2) / np.float32(0.1)], np.float32)
    )


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    for mode, name in (("L", "grey.png"), ("RGBA", "alpha.png"), ("P", "palette.gif"), ("CMYK", "print.jpg")):
        Image.new(mode, (8, 8)).save(tmp_path / name)
        assert data.load_image(tmp_path / name, PLAIN).shape == (8, 8, 3)


def test_batches_stream_in_order(tmp_path: Path) -> None:
    for i in range(5):
        image(tmp_path / f"{i}.png", np.full((8, 8, 3), i, np.uint8))
    told: list[int] = []
    stream = data.batches(data.image_folder(tmp_path), PLAIN, 2, told.append)
    first = next(stream)
    assert told == []
    assert first.shape == (2, 8, 8, 3)
    arrays = [first, *stream]
    assert told == [2, 4, 5]
    values = np.concatenate(arrays)[:, 0, 0, 0] * np.float32(255)
    np.testing.assert_allclose(values, np.arange(5), atol=1e-5)

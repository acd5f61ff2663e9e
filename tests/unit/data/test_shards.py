"""Tar files of samples: found, labelled, read from their place, or refused with one sentence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data.shards import labelled_images
from subbyte.errors import InputError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_samples_are_members_with_one_key(tmp_path: Path) -> None:
    first = write_tar(
        tmp_path / "b-0.tar",
        {
            "x/1.0.png": b"not the image: its extension is 0.png",
            "x/2.cls": b"7\n",
            "x/2.json": b"{}",
            "x/2.PNG": png(2),
            "3.cls": b" 12",
            "3.webp": png(3),
        },
    )
    write_tar(tmp_path / "b-1.tar", {"9.png": png(9), "9.cls": b"0"})
    images = labelled_images(tmp_path)
    assert [(s.path.relative_to(tmp_path).as_posix(), s.label) for s in images.samples] == [
        ("b-0.tar/x/2.png", 7),
        ("b-0.tar/3.webp", 12),
        ("b-1.tar/9.png", 0),
    ]
    assert [np.asarray(images.read(i))[0, 0, 0] for i in range(3)] == [2, 3, 9]
    assert [np.asarray(images.chosen([2, 0]).read(i))[0, 0, 0] for i in range(2)] == [9, 2]
    assert len(labelled_images(first).samples) == 2


def test_subfolders_give_the_names(tmp_path: Path) -> None:
    for name in ("elk", "ant"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png(len(name)))
    images = labelled_images(tmp_path)
    assert images.classes == ("ant", "elk")
    assert [s.label for s in images.samples] == [0, 1]
    named = labelled_images(tmp_path, ("elk", "fox", "ant"))
    assert sorted(str(s.label) for s in named.samples) == ["0", "2"]


BAD = {
    "no images": ({"a.txt": b""}, None, "holds no labelled images"),
    "no label": ({"a.png": b""}, None, "has the image a.png without a.cls"),
    "a label of another sample": ({"a.png": b"", "b.cls": b"1"}, None, "without a.cls"),
    "no number": ({"a.png": b"", "a.cls": b"cat"}, None, "must hold a class index"),
    "a long label": ({"a.png": b"", "a.cls": b"1" * 33}, None, "must hold a class index"),
    "negative": ({"a.png": b"", "a.cls": b"-1"}, None, "must hold a class index"),
    "too large": ({"a.png": b"", "a.cls": b"2"}, ("x", "y"), "has the label 2: there are 2 classes"),
}


@pytest.mark.parametrize("case", BAD)
def test_shards_that_are_refused(case: str, tmp_path: Path) -> None:
    members, classes, message = BAD[case]
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(InputError, match=message):
        labelled_images(tmp_path, classes)


def test_files_that_are_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for data in (b"x", b"x" * 2000):
        path.write_bytes(data)
        with pytest.raises(InputError, match="as an uncompressed tar file"):
            labelled_images(path)
    write_tar(path, {"a.png": png(1), "a.cls": b"0"}, "w:gz")
    with pytest.raises(InputError, match="as an uncompressed tar file"):
        labelled_images(path)
    write_tar(path, {"a.cls": b"0", "a.png": bytes(20_000)})
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match="cut off"):
        labelled_images(path)
    with pytest.raises(InputError, match="is not a folder"):
        labelled_images(tmp_path / "none")


def test_a_file_that_changed_is_an_error_that_names_the_image(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.png": png(1), "a.cls": b"0"})
    images = labelled_images(path)
    path.write_bytes(bytes(10_000))
    with pytest.raises(InputError, match=r"cannot read .*a\.tar/a\.png as an image"):
        images.read(0)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot read .*a\.tar/a\.png"):
        images.read(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_what_webdataset_writes_and_reads(tmp_path: Path) -> None:
    """The library is the format's definition: its writer's shards, and the samples that its reader sees."""
    wds = pytest.importorskip("webdataset")
    with wds.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(5):
            writer.write({"__key__": f"part.{i}" if i == 4 else f"part/{i}", "png": png(i), "cls": i % 3})
    images = labelled_images(tmp_path)
    theirs = list(wds.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [s.label for s in images.samples] == [int(t["cls"]) for t in theirs if "png" in t]
    expected = [Image.open(io.BytesIO(t["png"])).convert("RGB") for t in theirs if "png" in t]
    assert len(expected) == 4  # the key of the last one ends at its first dot
    for i, image in enumerate(expected):
        assert np.array_equal(np.asarray(images.read(i)), np.asarray(image))

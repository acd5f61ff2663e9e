"""Files with sparse weights have one encoding; whatever else a file says is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import Artifact, load
from subbyte.artifact.file import serialize, version_of
from subbyte.errors import ArtifactError
from subbyte.quant import QTensor, uniform_levels, weight_format
from tests.fuzz.builder import Builder
from tests.fuzz.document import Document, get
from tests.fuzz.graphs import seeds, wrap

Change = Callable[[bytearray], None]


def layer_of(text: str, codes: np.ndarray) -> Artifact:
    """A linear layer of these codes [O, I], of a format."""
    b = Builder(random.Random(1), (1, 1, codes.shape[1]))
    output = b.qlinear(b.flatten(b.quantize("image")), len(codes))
    node, format = b.nodes[-1], weight_format(text)
    weight = QTensor(codes, np.full(len(codes), 0.01, np.float32), format, uniform_levels(format.bits))
    b.nodes[-1] = node.with_(params={**node.params, "weight": weight})
    return wrap(b.finish(output))


def file_of(text: str, codes: np.ndarray) -> bytes:
    """A file with a linear layer of these codes [O, I], which are the first of its bytes."""
    return b"".join(serialize(layer_of(text, codes)))


def stored(data: bytes) -> bytes:
    """Of the numbers that are bytes: what the weight takes."""
    document = Document.split(data)
    begin, end = get(dict(document.header)["U8"], "data_offsets")
    return bytes(document.body[begin:end])


def changed(data: bytes, change: Change) -> bytes:
    document = Document.split(data)
    begin, end = get(dict(document.header)["U8"], "data_offsets")
    part = document.body[begin:end]
    change(part)
    document.body[begin:end] = part
    return document.join()


def put(place: int, value: int) -> Change:
    def change(part: bytearray) -> None:
        part[place] = value

    return change


#: Two rows of six channels, of which two and one of four: the second group has two channels.
GROUPS = np.array([[0, 5, 0, 9, 3, 0], [7, 0, 0, 0, 0, 0]], np.uint8)
#: Blocks of 2 x 2 in 3 x 3, of which two of four: those at the ends are smaller.
BLOCKS = np.array([[0, 0, 1], [0, 0, 2], [0, 0, 3]], np.uint8)
BAD: dict[str, tuple[str, np.ndarray, Change]] = {
    # the places of GROUPS are 1 3, 0 1, 0 1, 0 1 (a number of two bits each), behind eight codes
    "out of order": ("int8+2:4", GROUPS, put(8, 0b01_00_01_11)),
    "twice": ("int8+2:4", GROUPS, put(8, 0b01_00_01_01)),
    "behind the channels": ("int8+2:4", GROUPS, put(8, 0b10_00_11_01)),
    "another zero": ("int8+2:4", GROUPS, put(9, 0b01_00_10_00)),
    "a zero before what is none": ("int8+2:4", GROUPS, put(0, 0)),
    "bits behind places": ("int8+1:4", np.array([[0, 0, 0, 9, 3, 0]], np.uint8), put(2, 0b1_00_11)),
    # the bitmap of BLOCKS is 0 1 0 1, behind two blocks of four codes
    "one block too many": ("int8+2x2:50", BLOCKS, put(8, 0b1011)),
    "one block too few": ("int8+2x2:50", BLOCKS, put(8, 0b1000)),
    "another block": ("int8+2x2:50", BLOCKS, put(8, 0b1100)),
    "codes behind the channels": ("int8+2x2:50", BLOCKS, put(1, 4)),
    "bits behind the bitmap": ("int8+2x2:50", BLOCKS, put(8, 0b11010)),
    "a block of zeros": ("int8+2x2:50", BLOCKS, lambda part: part.__setitem__(slice(0, 4), bytes(4))),
}


def test_the_bytes_are_those_of_the_specification() -> None:
    assert stored(file_of("int8+2:4", GROUPS)) == bytes(
        [5, 9, 3, 0, 7, 0, 0, 0, 0b01_00_11_01, 0b01_00_01_00]
    )
    assert stored(file_of("int8+2x2:50", BLOCKS)) == bytes([1, 0, 2, 0, 3, 0, 0, 0, 0b1010])
    # two bits: the codes of a row are 1 3 . 3 ., then 3 . . . .
    codes = GROUPS & 3
    assert stored(file_of("int2+2:4", codes)) == bytes(
        [0b00_11_01_01, 0b00_00_00_11, 0b01_00_11_01, 0b01_00_01_00]
    )


@pytest.mark.parametrize("case", BAD)
def test_other_encodings_are_refused(case: str, tmp_path: Path) -> None:
    text, codes, change = BAD[case]
    data = file_of(text, codes)
    (tmp_path / "a.subbyte").write_bytes(data)
    found = load(tmp_path / "a.subbyte").graph.nodes[-1].params["weight"]
    assert isinstance(found, QTensor)
    np.testing.assert_array_equal(found.codes, codes)
    (tmp_path / "a.subbyte").write_bytes(changed(data, change))
    with pytest.raises(ArtifactError, match=r"a\.subbyte: packed weights (do not lie as|end in bits)"):
        load(tmp_path / "a.subbyte")


@pytest.mark.parametrize("version", ["1", "2"])
def test_earlier_versions_have_no_patterns(version: str, tmp_path: Path) -> None:
    artifact = seeds()["sparse"]
    assert version_of(artifact) == "3"
    document = Document.split(b"".join(serialize(artifact)))
    document.fields[:] = [[key, version if key == "version" else value] for key, value in document.fields]
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(
        ArtifactError, match=f"says format version '{version}', but its graph is of version '3'"
    ):
        load(tmp_path / "a.subbyte")


@pytest.mark.parametrize("name", ["quantized4", "balanced", "leveled"])
def test_others_keep_their_version(name: str) -> None:
    assert version_of(seeds()[name]) == ("1" if name == "quantized4" else "2")

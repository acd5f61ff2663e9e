"""Codes in bytes: the order of docs/spec/artifact.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import ArtifactError
from subbyte.quant.packing import pack, packed_size, unpack

codes_of_width = st.sampled_from([2, 3, 4, 8]).flatmap(
    lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, (1 << bits) - 1), max_size=50))
)


@given(codes_of_width)
def test_code_i_is_bits_i_of_the_stream(case: tuple[int, list[int]]) -> None:
    bits, codes = case
    packed = pack(np.array(codes, np.uint8), bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (packed_size(len(codes), bits),)
    if bits == 3:  # two planes
        planes = [(packed[: packed_size(len(codes), 2)], 2, 0), (packed[packed_size(len(codes), 2) :], 1, 2)]
    else:
        planes = [(packed, bits, 0)]
    for plane, width, low in planes:
        stream = int.from_bytes(plane.tobytes(), "little")
        assert stream == sum(((code >> low) % (1 << width)) << (i * width) for i, code in enumerate(codes))


@given(codes_of_width)
def test_unpack_inverts_pack(case: tuple[int, list[int]]) -> None:
    bits, codes = case
    array = np.array(codes, np.uint8).reshape(len(codes), 1)
    assert np.array_equal(unpack(pack(array, bits), array.shape, bits), array)


def test_packs_in_c_order() -> None:
    codes = np.arange(8, dtype=np.uint8).reshape(2, 4).T
    assert pack(codes, 4).tobytes() == bytes([0x40, 0x51, 0x62, 0x73])


def test_does_not_alias_its_input() -> None:
    codes = np.array([1, 2, 3], np.uint8)
    pack(codes, 8)[0] = 9
    assert codes[0] == 1


@pytest.mark.parametrize("size", [0, 1, 3])
def test_refuses_another_size(size: int) -> None:
    with pytest.raises(ArtifactError, match="2 needed"):
        unpack(np.zeros(size, np.uint8), (3,), 4)


def test_three_bits_are_a_plane_of_two_and_a_plane_of_one() -> None:
    codes = np.array([7, 0, 5, 2, 4], np.uint8)
    assert pack(codes, 3).tobytes() == bytes([0b10_01_00_11, 0b00, 0b10101])
    assert packed_size(5, 3) == 3


@pytest.mark.parametrize(
    ("bits", "count", "packed"),
    [(4, 3, [0, 0x10]), (2, 7, [0, 0x40]), (3, 5, [0, 0x04, 0]), (3, 5, [0, 0, 0x20]), (3, 1, [0, 0x80])],
)
def test_refuses_padding_that_is_not_zero(bits: int, count: int, packed: list[int]) -> None:
    with pytest.raises(ArtifactError, match="not zero"):
        unpack(np.array(packed, np.uint8), (count,), bits)

"""What the plan says of formats: as they were asked for, and as they execute."""

from __future__ import annotations

import random

import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.execute.native.lower import CODE_BITS
from tests.contract.agreement import engine_outputs, expected_outputs, random_images, same
from tests.fuzz.builder import Builder


@pytest.mark.parametrize("bits", [4, 3, 2])
@pytest.mark.parametrize("codebook", [False, True])
def test_a_format_without_kernels_runs_as_dense_bytes(
    monkeypatch: pytest.MonkeyPatch, bits: int, codebook: bool
) -> None:
    """As if the engine had never heard of the format: the same numbers, and the plan says what executes."""
    b = Builder(random.Random(bits), (7, 7, 12))
    x = b.qconv(b.quantize("image"), 24, (3, 3), act="relu", bits=bits, codebook=codebook)
    graph = b.finish(b.qconv(x, 40, bits=bits, codebook=codebook))
    images = random_images(graph, 2, 5)
    expected = expected_outputs(graph, images)
    monkeypatch.delitem(CODE_BITS, f"int{bits}")
    for isa in available_isas():
        session = Session(graph, isa=isa)
        assert same(engine_outputs(session, images), expected), isa
        rows = [row for row in session.plan() if row["macs"]]
        assert {row["requested_weights"] for row in rows} == {f"int{bits}" + "+book" * codebook}
        assert {row["executed_weights"] for row in rows} <= {"int8", "int16 (Winograd)"}


@pytest.mark.parametrize("isa", available_isas())
def test_the_plan_says_what_executes(isa: str) -> None:
    """Of activations as of weights: codes are bytes whatever their width."""
    b = Builder(random.Random(3), (8, 8, 16))
    x = b.qconv(b.quantize("image", 4), 16, (3, 3), pad=(1, 1, 1, 1), bits=3)
    x = b.qconv(x, 16, (3, 3), pad=(1, 1, 1, 1))
    graph = b.finish(b.add("dequantize", [x]))
    rows = Session(graph, isa=isa).plan()
    activations = [(row["requested_activations"], row["executed_activations"]) for row in rows]
    assert activations == [("fp32", "fp32"), ("uint4", "uint8"), ("uint8", "uint8"), ("uint8", "uint8")]
    weights = [(row["requested_weights"], row["executed_weights"]) for row in rows]
    whole = "int16 (Winograd)" if isa == "avx2" else "int8"
    assert weights == [("", ""), ("int3", "int4"), ("int8", whole), ("", "")]


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_levels_run_as_bytes_and_are_called_levels(bits: int) -> None:
    b = Builder(random.Random(bits), (8, 8, 16))
    x = b.qconv(b.quantize("image"), 16, act="silu", out_bits=bits, levels=True)
    graph = b.finish(b.add("dequantize", [b.qconv(x, 16, (3, 3))]))
    rows = Session(graph).plan()
    activations = [(row["requested_activations"], row["executed_activations"]) for row in rows]
    assert activations[2] == (f"uint{bits}+levels", "uint8")

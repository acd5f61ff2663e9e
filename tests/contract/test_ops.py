"""Every executor and every exporter takes every operation, or says in its row why not; nothing else."""

from __future__ import annotations

import random

import pytest

from subbyte import _native
from subbyte.errors import GraphError, InputError
from subbyte.execute import EXECUTORS, Executor
from subbyte.execute.native.ops import OPS as LOWERED
from subbyte.execute.reference.ops import OPS as REFERENCE
from subbyte.exporters import EXPORTERS, Exporter
from subbyte.exporters.onnx import to_onnx
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import OPS
from tests.fuzz import graphs
from tests.fuzz.builder import Builder

TAKERS: dict[str, Executor | Exporter] = {**EXECUTORS, **EXPORTERS}


def assert_takes_or_disclaims_all(row: Executor | Exporter) -> None:
    taken = set(row.ops)
    disclaimed = {op.name for op in OPS.values() if row.name in op.lacks}
    assert taken | disclaimed == set(OPS)
    assert taken & disclaimed == set()


@pytest.mark.parametrize("name", TAKERS)
def test_every_op_is_taken_or_disclaimed(name: str) -> None:
    assert_takes_or_disclaims_all(TAKERS[name])


def test_only_executors_and_exporters_disclaim_with_a_reason() -> None:
    for op in OPS.values():
        assert op.lacks.keys() <= TAKERS.keys(), op.name
        assert all(len(reason) > 20 for reason in op.lacks.values()), op.name


def test_the_engine_has_what_is_lowered_and_nothing_else() -> None:
    assert {row.engine for row in LOWERED.values()} == set(_native.Op.__members__)


def test_whatever_can_be_float_has_a_bound() -> None:
    """quantize and dequantize alone are never float32 throughout."""
    assert {name for name, row in REFERENCE.items() if row.bound is None} == {"quantize", "dequantize"}


def test_the_reason_is_what_the_user_reads() -> None:
    b = Builder(random.Random(0), (4, 4, 2))
    normed = b.finish(b.batch_norm("image"))
    with pytest.raises(GraphError) as error:
        EXECUTORS["native"].prepare(normed)
    advice = OPS["batch_norm"].lacks["native"]
    assert str(error.value) == f"node 'batch_norm0': the engine has no batch_norm; {advice}"
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError) as refused:
        to_tflite(normed)
    assert str(refused.value) == f"node 'batch_norm0': TensorFlow Lite export has no batch_norm; {advice}"
    pytest.importorskip("onnx")
    with pytest.raises(InputError) as refused:
        to_onnx(graphs.quantized(random.Random(1), 4))
    advice = OPS["quantize"].lacks["onnx"]
    assert str(refused.value) == f"node 'quantize0': ONNX export has no quantize; {advice}"

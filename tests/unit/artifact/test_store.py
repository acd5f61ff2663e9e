"""No format version without its stored files, and nothing of the format that none of them uses."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.artifact import load
from subbyte.artifact.file import VERSIONS, version_of
from subbyte.ir import OPS
from subbyte.ir.ops import ATTRS
from subbyte.quant import QTensor
from tests.unit.artifact import store

ADVICE = "make them: python -m tests.unit.artifact.store"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_stored_files(version: str) -> None:
    files = {path.name for path in (store.STORED / version).glob("*")}
    networks = store.networks(store.SEED).items()
    names = [name for name, artifact in networks if version_of(artifact) == version]
    assert names
    assert {f"{name}.{suffix}" for name in names for suffix in ("subbyte", "npz")} <= files, ADVICE


def test_they_use_what_the_format_has() -> None:
    params, ops, roles = [], set(), set()
    for path in store.STORED.rglob("*.subbyte"):
        for node in load(path).graph.nodes:
            params += list(node.params.values())
            ops.add(node.op)
            roles |= {*node.params}
    packed = [param for param in params if isinstance(param, QTensor)]
    assert {(param.bits, not param.format.book) for param in packed} >= {
        *((bits, True) for bits in (2, 3, 4, 8)),
        *((bits, False) for bits in (2, 3, 4)),
    }
    plain = {param.dtype for param in params if isinstance(param, np.ndarray)}
    assert plain == {np.dtype(kind) for kind in ("float32", "float16", "int32", "uint8")}
    runs = [op for op in OPS.values() if op.name != "batch_norm"]  # which is folded before anything runs
    assert ops == {op.name for op in runs}, ADVICE
    assert roles == {role for op in runs for role in (*op.params, *op.optional)} - {*ATTRS}, ADVICE


def test_a_file_is_never_made_anew(tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(store, "STORED", tmp_path)
    store.main()
    path = tmp_path / VERSIONS[0] / "fp32.subbyte"
    path.write_bytes(b"old")
    store.main()
    assert path.read_bytes() == b"old"
    assert f"seed {store.SEED}" in capsys.readouterr().out

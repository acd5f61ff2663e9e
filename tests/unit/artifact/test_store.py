"""No format version without its stored files, and nothing of the format that none of them uses."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.artifact import load
from subbyte.artifact.file import VERSION
from subbyte.ir import OPS
from subbyte.quant import QTensor
from tests.unit.artifact import store

ADVICE = "make them: python -m tests.unit.artifact.store"


@pytest.mark.parametrize("version", [str(number) for number in range(1, int(VERSION) + 1)])
def test_every_version_has_stored_files(version: str) -> None:
    files = {path.name for path in (store.STORED / version).glob("*")}
    wanted = {f"{name}.{suffix}" for name in store.networks(store.SEED) for suffix in ("subbyte", "npz")}
    assert wanted <= files or version != VERSION, ADVICE
    assert any(name.endswith(".subbyte") for name in files), ADVICE


def test_they_use_what_the_format_has() -> None:
    params, ops = [], set()
    for path in (store.STORED / VERSION).glob("*.subbyte"):
        for node in load(path).graph.nodes:
            params += list(node.params.values())
            ops.add(node.op)
    packed = [param for param in params if isinstance(param, QTensor)]
    assert {(param.bits, not param.format.book) for param in packed} >= {
        *((bits, True) for bits in (2, 3, 4, 8)),
        *((bits, False) for bits in (2, 3, 4)),
    }
    plain = {param.dtype for param in params if isinstance(param, np.ndarray)}
    assert plain == {np.dtype(kind) for kind in ("float32", "float16", "int32", "uint8")}
    assert ops == set(OPS) - {"batch_norm"}, ADVICE  # which is folded before anything runs


def test_a_file_is_never_made_anew(tmp_path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(store, "STORED", tmp_path)
    store.main()
    path = tmp_path / VERSION / "fp32.subbyte"
    path.write_bytes(b"old")
    store.main()
    assert path.read_bytes() == b"old"
    assert f"seed {store.SEED}" in capsys.readouterr().out

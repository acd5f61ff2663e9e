"""`subbyte check` and `subbyte compress` of TensorFlow Lite files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import subbyte

pytest.importorskip("ai_edge_litert")
from tests.unit.importers.test_tflite_quantized import file_of_codes, uint8_weights
from tests.unit.importers.tflite_file import File

Invoke = Callable[..., Any]
Fails = Callable[..., None]


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    path = tmp_path / "codes.tflite"
    path.write_bytes(file_of_codes("int8")[1])
    return path


def test_a_quantized_file_stays_as_it_is(invoke: Invoke, codes: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.subbyte"
    result = invoke("compress", codes, "--output", output)
    assert result.exit_code == 0, result.output
    assert "as it is" in result.output
    artifact = subbyte.load(output)
    assert artifact.recipe == {}
    assert invoke("inspect", output).exit_code == 0
    assert json.loads(invoke("check", codes, "--json").stdout)["input"] == [9, 8, 3]


def test_what_stops_a_file(invoke: Invoke, tmp_path: Path) -> None:
    f = File((1, 8, 9, 3))
    y = f.op("ABS", [f.input], (1, 8, 9, 3))
    path = tmp_path / "a.tflite"
    path.write_bytes(f.bytes(y))
    result = invoke("check", path)
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert "a.tflite cannot be compressed: 1 unsupported operator" in words
    assert "Supported operators: CONV_2D, DEPTHWISE_CONV_2D" in words


def test_what_a_user_can_get_wrong(fails: Fails, codes: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "x.subbyte")
    fails("need --recipe", "compress", codes, *output, "--calibration", tmp_path)
    fails("takes images of 9 x 8 x 3", "compress", codes, *output, "--input-size", "224")
    old = tmp_path / "old.tflite"
    old.write_bytes(uint8_weights(155))
    fails("give a recipe, such as w8a8", "compress", old, *output)

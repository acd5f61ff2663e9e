"""`subbyte export`: files of other runtimes, and everything a user can get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Invoke = Callable[..., Any]
Fails = Callable[..., None]

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")


def exported(invoke: Invoke, *arguments: object) -> dict[str, Any]:
    result = invoke("export", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_suffix_says_the_format(
    invoke: Invoke, int8: Path, fp32: Path, images: Path, tmp_path: Path
) -> None:
    for artifact, name, format, numbers in (
        (int8, "a.onnx", "qdq", {"int8", "float32"}),
        (int8, "a.qonnx.onnx", "qonnx", {"int8 x uint8", "uint8", "float32"}),
        (int8, "a.tflite", "tflite", {"int8", "float32"}),
        (fp32, "b.onnx", "onnx", {"float32"}),
        (fp32, "b.tflite", "tflite", {"float32"}),
    ):
        given = ["--calibration", images] if artifact == int8 and format == "tflite" else []
        facts = exported(invoke, artifact, "--output", tmp_path / name, *given)
        assert facts["format"] == format
        assert facts["bytes"] == (tmp_path / name).stat().st_size
        assert {layer["executed"] for layer in facts["layers"]} == numbers


def test_the_table(invoke: Invoke, int8: Path, tmp_path: Path) -> None:
    result = invoke("export", int8, "--output", tmp_path / "a.onnx")
    assert result.exit_code == 0
    head, *rows, last = result.stdout.splitlines()
    assert head.split() == ["layer", "operation", "weights", "reads", "makes", "target", "executes"]
    assert rows[1].split()[1:] == ["conv2d", "int8", "uint8", "uint8", "int8"]
    assert rows[-1].split()[1:] == ["linear", "int8", "uint8", "fp32", "int8"]
    assert last.endswith("kB")
    assert "ONNX with QuantizeLinear" in last


def test_options_reach_the_file(invoke: Invoke, int8: Path, images: Path, tmp_path: Path) -> None:
    import onnx
    from ai_edge_litert.interpreter import Interpreter

    exported(invoke, int8, "--output", tmp_path / "a.onnx", "--batch", 3, "--float")
    model = onnx.load(tmp_path / "a.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3
    assert not any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    exported(invoke, int8, "--output", tmp_path / "b.onnx", "--int4", "--fused-residuals", "--format", "qdq")
    assert onnx.load(tmp_path / "b.onnx").opset_import[0].version == 21
    arguments = ["--integer-io", "--calibration", images, "--images", 4]
    exported(invoke, int8, "--output", tmp_path / "c.tflite", *arguments)
    interpreter = Interpreter(str(tmp_path / "c.tflite"))
    (source,) = interpreter.get_input_details()
    assert source["dtype"].__name__ == "int8"


def test_what_a_user_can_get_wrong(
    fails: Fails, int8: Path, fp32: Path, images: Path, tmp_path: Path
) -> None:
    onnx, tflite, nothing = tmp_path / "a.onnx", tmp_path / "a.tflite", tmp_path / "nothing"
    fails("must end in one of .onnx, .tflite, .qonnx.onnx", "export", int8, "--output", tmp_path / "a.pb")
    fails("must end in one of", "export", int8, "--output", tmp_path / ".onnx")
    fails(
        "unknown format 'coreml'; known: onnx, qdq,", "export", int8, "--output", onnx, "--format", "coreml"
    )
    fails(
        "must end in .tflite, for the format tflite", "export", int8, "--output", onnx, "--format", "tflite"
    )
    fails("ONNX export has no quantize", "export", int8, "--output", onnx, "--format", "onnx")
    fails("needs the range of", "export", int8, "--output", tflite)
    fails("the format tflite has no --int4", "export", int8, "--output", tflite, "--int4")
    fails("the format qdq has no --integer-io", "export", int8, "--output", onnx, "--integer-io")
    fails("takes nothing from --calibration", "export", fp32, "--output", onnx, "--calibration", images)
    fails("nothing", "export", int8, "--output", tflite, "--calibration", nothing)
    fails("is not a folder", "export", int8, "--output", nothing / "a.onnx")
    fails("cannot read", "export", nothing, "--output", onnx)
    fails("integer inputs need", "export", fp32, "--output", tflite, "--integer-io")
    assert not list(tmp_path.iterdir())

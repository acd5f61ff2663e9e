"""Damaged and hostile TensorFlow Lite files: one SubbyteError each, in bounded time and memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.errors import SubbyteError
from subbyte.importers import import_model
from subbyte.preprocess import Preprocessing

pytest.importorskip("ai_edge_litert")
from tests.unit.importers.test_tflite import head, normalized
from tests.unit.importers.test_tflite_quantized import file_of_codes
from tests.unit.importers.tflite_file import SAME, File, packed

SHAPE = (8, 9, 3)
MUTANTS = 300


def attempt(path: Path, data: bytes, shape: tuple[int, int, int] = SHAPE) -> str:
    """The error's text, "" where the file is imported. Any exception but a SubbyteError fails the test."""
    path.write_bytes(data)
    try:
        import_model(path, preprocessing=Preprocessing(*shape[:2], (0.0,) * shape[2], (1.0,) * shape[2]))
    except SubbyteError as error:
        return str(error)
    return ""


def small() -> tuple[File, int]:
    f = File((1, *SHAPE))
    y = f.conv(f.input, f.normal(4, 3, 3, 3), f.constant(np.ones(4)), (1, 8, 9, 4), SAME)
    return f, f.op("RELU", [y], (1, 8, 9, 4))


def edit(change: Callable[[Any], None]) -> bytes:
    f, y = small()
    model = f.model(y)
    change(model)
    return packed(model)


def graph(model: Any) -> Any:
    return model.subgraphs[0]


def test_the_file_itself_is_sound(tmp_path: Path) -> None:
    assert attempt(tmp_path / "a.tflite", edit(lambda model: None)) == ""


def set_inputs(number: int, inputs: list[int]) -> Callable[[Any], None]:
    return lambda m: setattr(graph(m).operators[number], "inputs", inputs)


def external(model: Any) -> None:
    model.buffers[1].offset, model.buffers[1].size = 4096, 432


def twice(model: Any) -> None:
    graph(model).operators[1].outputs = graph(model).operators[0].outputs


def short(model: Any) -> None:
    model.buffers[1].data = model.buffers[1].data[:-4]


def huge(model: Any) -> None:
    graph(model).tensors[1].shape = [1 << 28, 1 << 28, 1 << 28, 1 << 28]


def two_networks(model: Any) -> None:
    model.subgraphs = [graph(model), graph(model)]


def sparse(model: Any) -> None:
    import ai_edge_litert.schema_py_generated as schema

    graph(model).tensors[1].sparsity = schema.SparsityParametersT()


def options(name: str, value: int) -> Callable[[Any], None]:
    return lambda m: setattr(graph(m).operators[0].builtinOptions, name, value)


def tensor(number: int, name: str, value: Any) -> Callable[[Any], None]:
    return lambda m: setattr(graph(m).tensors[number], name, value)


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "reads what nothing makes": (set_inputs(0, [4, 1, 2]), "reads tensor 4, which nothing makes"),
    "a cycle": (set_inputs(0, [3, 1, 2]), "reads tensor 3, which nothing makes"),
    "no such tensor": (set_inputs(0, [99, 1, 2]), "refers to tensor 99 of 5"),
    "a negative tensor": (set_inputs(0, [-7, 1, 2]), "refers to tensor"),
    "no input": (set_inputs(0, []), "does not depend on the image"),
    "weights outside the file": (external, "behind the part of the file that offsets reach"),
    "made twice": (twice, "is made twice"),
    "too few bytes": (short, "has 428 bytes"),
    "an impossible shape": (huge, "has 432 bytes"),
    "two networks": (two_networks, "holds 2 networks"),
    "sparse weights": (sparse, "its zeros are not stored"),
    "two inputs": (lambda m: setattr(graph(m), "inputs", [0, 3]), "takes 2 inputs"),
    "no output": (lambda m: setattr(graph(m), "outputs", []), "has no output"),
    "an output that none makes": (lambda m: setattr(graph(m), "outputs", [0]), "the image itself"),
    "a batch": (tensor(0, "shape", [2, 8, 9, 3]), "not one image"),
    "no fixed size": (tensor(0, "shapeSignature", [1, -1, -1, 3]), "size is not fixed"),
    "a variable": (tensor(3, "isVariable", True), "keeps its value"),
    "no such buffer": (tensor(1, "buffer", 77), "refers to buffer 77"),
    "no such operator": (lambda m: setattr(graph(m).operators[0], "opcodeIndex", 9), "is of kind 9"),
    "no such stride": (options("strideH", 0), "is not positive"),
    "a huge stride": (options("strideH", -(1 << 31)), "not positive"),
    "no such padding": (options("padding", 9), "padding number 9"),
    "no such activation": (options("fusedActivationFunction", 77), "activation number 77"),
    "an unknown operator": (lambda m: setattr(m.operatorCodes[1], "builtinCode", 4000), "number 4000"),
    "another file": (tensor(1, "externalBuffer", 3), "lies in another file"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_hostile_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    assert message in attempt(tmp_path / "a.tflite", edit(change))


def test_no_file_and_no_network(tmp_path: Path) -> None:
    for data in (b"", b"TFL3", b"\0" * 8, b"\4\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + b"\0" * 64):
        assert "is no TensorFlow Lite file that can be imported" in attempt(tmp_path / "a.tflite", data)
    with pytest.raises(SubbyteError, match="cannot read"):
        import_model(tmp_path / "missing.tflite", preprocessing=Preprocessing(8, 9, (0.0,), (1.0,)))
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(SubbyteError, match="cannot read"):
        import_model(tmp_path / "folder.tflite", preprocessing=Preprocessing(8, 9, (0.0,), (1.0,)))


def test_one_constant_read_by_every_operator(tmp_path: Path) -> None:
    """4 MB of weights, read 200 times, would be 3.2 GB; the importer stops at the limit of graphs."""
    f = File((1, 1, 1, 1024))
    weight, bias, y = f.constant(np.zeros((1024, 1024))), f.constant(np.zeros(1024)), f.input
    for _ in range(300):
        y = f.op("FULLY_CONNECTED", [y, weight, bias], (1, 1024), "FullyConnectedOptions")
    path = tmp_path / "a.tflite"
    path.write_bytes(f.bytes(y))
    from subbyte.importers.tflite.model import read_model
    from subbyte.importers.tflite.translate import translate

    found = translate(read_model(path.read_bytes()), real=False)
    assert found.graph is None
    assert "its constants have more than" in str(found.problems[0])


def test_a_vector_of_constants_is_no_huge_matrix(tmp_path: Path) -> None:
    f = File((1, *SHAPE))
    y = f.op("FULLY_CONNECTED", [f.input, f.normal(5000, 216), -1], (1, 5000), "FullyConnectedOptions")
    y = f.op("RELU", [y], (1, 5000))
    y = f.op("ADD", [y, f.constant(np.ones(5000))], (1, 5000), "AddOptions")
    assert "only of up to 4096 numbers" in attempt(tmp_path / "a.tflite", f.bytes(y))


def seeds() -> list[tuple[bytes, tuple[int, int, int]]]:
    f, y = small()
    normalized(f, [127.5], [127.5])
    other = File((1, 8, 9, 4))
    return [(f.bytes(y), SHAPE), (other.bytes(head(other)), (8, 9, 4)), (file_of_codes("int8")[1], (9, 8, 3))]


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """A few bytes, or an aligned number, replaced by random or extreme ones; or the end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(changed) - 8))
        match int(rng.integers(0, 4)):
            case 0:
                changed[at] = int(rng.integers(0, 256))
            case 1:
                number = int(
                    rng.choice([0, 1, -1, 1 << 31, 0x7FFFFFFF, 0xFFFF, len(changed), len(changed) - 4])
                )
                struct.pack_into("<I", changed, at & ~3, number & 0xFFFFFFFF)
            case 2:
                struct.pack_into("<H", changed, at & ~1, int(rng.integers(0, 1 << 16)))
            case _:
                changed[at : at + 4] = changed[-4:] if rng.random() < 0.9 else b""
    return bytes(changed if rng.random() < 0.95 else changed[: int(rng.integers(0, len(changed)))])


def test_mutants(tmp_path: Path) -> None:
    """Each is imported or one SubbyteError; both occur."""
    rng, texts = np.random.default_rng(11), set()
    material = seeds()
    for number in range(MUTANTS):
        data, shape = material[number % len(material)]
        texts.add(attempt(tmp_path / "a.tflite", mutate(rng, data), shape))
    assert "" in texts
    assert len(texts) > 20

"""Damaged and hostile files: one error of this package each, and no memory that a file only claims."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.errors import InputError, SubbyteError
from tests.unit.importers.onnx.network import SHAPE, Net, imported, onnx
from tests.unit.importers.onnx.test_quantized import Quantized

MUTANTS = 300


def model() -> Any:
    net = Net()
    net.op("Relu", net.conv(4, 8))
    return net.model()


def written(folder: Path, proto: Any) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def refused(folder: Path, proto: Any, text: str, error: type[SubbyteError] = SubbyteError) -> None:
    with pytest.raises(error, match=text):
        imported(written(folder, proto))


def external(tensor: Any, location: str, offset: int = 0, length: int | None = None) -> None:
    """Makes a tensor one whose bytes lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    pairs = {"location": location, "offset": str(offset)} | (
        {} if length is None else {"length": str(length)}
    )
    for key, value in pairs.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def test_external_data_in_the_folder(tmp_path: Path) -> None:
    proto = model()
    expected = imported(written(tmp_path, proto)).graph.nodes[0].params["weight"]
    weight = proto.graph.initializer[0]
    (tmp_path / "data.bin").write_bytes(bytes(16) + weight.raw_data)
    external(weight, "data.bin", 16)
    got = imported(written(tmp_path, proto)).graph.nodes[0].params["weight"]
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_external_data_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(1 << 12))
    (folder / "link.bin").symlink_to(secret)
    (folder / "door").symlink_to(tmp_path)
    for location in (
        "../secret.bin",
        str(secret),
        "link.bin",
        "door/secret.bin",
        "sub/../../secret.bin",
        "/dev/zero",
    ):
        proto = model()
        external(proto.graph.initializer[0], location)
        refused(folder, proto, "outside of the model's folder", InputError)
    for location, text in (
        ("none.bin", "which is no file"),
        ("pipe", "which is no file"),
        ("", "no file that holds"),
    ):
        if location == "pipe":
            os.mkfifo(folder / location)
        proto = model()
        external(proto.graph.initializer[0], location)
        refused(folder, proto, text, InputError)


@pytest.mark.parametrize(("offset", "length"), [(1, None), (0, 8), (-4, None), (1 << 62, None), (0, 1 << 40)])
def test_external_data_that_is_not_there(tmp_path: Path, offset: int, length: int | None) -> None:
    proto = model()
    weight = proto.graph.initializer[0]
    (tmp_path / "data.bin").write_bytes(weight.raw_data)
    external(weight, "data.bin", offset, length)
    refused(tmp_path, proto, "does not have where it says|can be read", InputError)


def no_bytes(proto: Any) -> None:
    proto.graph.initializer[0].raw_data = b""


def negative(proto: Any) -> None:
    proto.graph.initializer[0].dims[0] = -8


def huge(proto: Any) -> None:
    proto.graph.initializer[0].dims[0] = 1 << 40


def large(proto: Any) -> None:
    proto.graph.initializer[0].dims[0] = 1 << 20


def packed(proto: Any) -> None:
    """4-bit codes that are unpacked to what the shape says."""
    tensor = proto.graph.initializer[0]
    tensor.data_type, tensor.raw_data = onnx.TensorProto.INT4, b"\x11"
    del tensor.dims[:]
    tensor.dims.extend([1 << 26, 1, 1, 1])


def words(proto: Any) -> None:
    proto.graph.initializer[0].data_type = onnx.TensorProto.STRING


def cycle(proto: Any) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[1].output[0]


def missing(proto: Any) -> None:
    proto.graph.node[1].input[0] = "nothing"


def twice(proto: Any) -> None:
    proto.graph.node[1].output[0] = proto.graph.node[0].output[0]


def same_tensors(proto: Any) -> None:
    proto.graph.initializer.add().CopyFrom(proto.graph.initializer[0])


def nan(proto: Any) -> None:
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan
    proto.graph.initializer[0].raw_data = weight.tobytes()


def no_output(proto: Any) -> None:
    del proto.graph.output[:]


def other_output(proto: Any) -> None:
    proto.graph.output[0].name = "other"


def two_inputs(proto: Any) -> None:
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    proto.graph.input[1].name = "y"


def no_opset(proto: Any) -> None:
    del proto.opset_import[:]


def strides(proto: Any) -> None:
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("strides", [0, 1]))


def pads(proto: Any) -> None:
    proto.graph.node[0].attribute[0].ints[0] = 1 << 62


def branch(proto: Any) -> None:
    inner = onnx.helper.make_graph([], "g", [], [])
    proto.graph.node[1].op_type = "If"
    proto.graph.node[1].attribute.append(onnx.helper.make_attribute("then_branch", inner))


DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "no bytes": (no_bytes, "can be read"),
    "a negative size": (negative, r"has the shape \[-8"),
    "a huge size": (huge, "numbers in tensors"),
    "a large size": (large, "more than the .* bytes there can hold"),
    "packed codes": (packed, "more than the .* bytes there can hold"),
    "words": (words, "is STRING, which is not read"),
    "a cycle": (cycle, "which nothing before it makes"),
    "a missing input": (missing, "reads 'nothing', which nothing before it makes"),
    "a value made twice": (twice, "is there already|can be read"),
    "two tensors of a name": (same_tensors, "two tensors of the name"),
    "NaN": (nan, "holds NaN or infinity"),
    "no output": (no_output, "needs at least one output"),
    "another output": (other_output, "nothing makes the output 'other'|can be read"),
    "two inputs": (two_inputs, "has 2 inputs"),
    "no opset": (no_opset, "has opset 0"),
    "strides of zero": (strides, "its strides or dilations"),
    "huge pads": (pads, "is not supported"),
    "a branch": (branch, "the graph has no branches and loops"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(tmp_path: Path, case: str) -> None:
    damage, text = DAMAGE[case]
    proto = model()
    damage(proto)
    tracemalloc.start()
    try:
        refused(tmp_path, proto, text)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_constants_cannot_grow(tmp_path: Path) -> None:
    growing: dict[str, list[Any]] = {
        "ConstantOfShape": [np.array([1 << 20, 1 << 20])],
        "Expand": [np.zeros(1, np.float32), np.array([1 << 20, 1 << 20])],
        "Tile": [np.zeros((1, 1), np.float32), np.array([1 << 20, 1 << 20])],
        "Range": [np.array(0), np.array(1 << 40), np.array(1)],
        "Add": [np.zeros((1 << 15, 1), np.float32), np.zeros((1, 1 << 15), np.float32)],
        "Gather": [np.zeros((1, 1 << 15), np.float32), np.zeros(1 << 15, np.int64)],
    }
    for kind, inputs in growing.items():
        net = Net()
        net.op("Add", net.op(kind, *inputs), "x")
        refused(tmp_path, net.model(), "it makes a constant of")


def test_constants_cannot_pile_up(tmp_path: Path) -> None:
    net = Net()
    for _ in range(40):
        net.op("ConstantOfShape", np.array([1 << 20]))
    net.op("Relu", "x")
    refused(tmp_path, net.model(), "larger constants than it has tensors for", InputError)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"PK\x03\x04", bytes(range(256))])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, "net.onnx", InputError)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        imported(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="there is no file"):
        imported(tmp_path / "folder.onnx")


def seeds() -> list[bytes]:
    """A float file and a quantized one, to be damaged."""
    net = Net(shape=SHAPE)
    x = net.conv(4, 8)
    x = net.op("Mul", x, net.op("Sigmoid", net.op("GlobalAveragePool", x)))
    shape = net.op(
        "Concat",
        net.op("Slice", net.op("Shape", x), *(np.array([i]) for i in (0, 1))),
        np.array([-1]),
        axis=0,
    )
    net.op("Gemm", net.op("Reshape", net.op("MaxPool", x, kernel_shape=[9, 7]), shape), net.normal(8, 5))
    codes = Quantized(1)
    image = codes.round(-4, 4, "x")
    codes.round(-2, 2, codes.op("Relu", codes.layer(image, codes.grid(-4, 4)[0], 4, 8)))
    codes.op("Flatten", codes.round(-1, 1, codes.op("GlobalAveragePool")))
    return [net.model().SerializeToString(), codes.model().SerializeToString()]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, cut out, repeated, or lost at the end."""
    array = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, kind = int(rng.integers(len(array))), int(rng.integers(5))
        size = int(rng.integers(1, 9))
        if kind < 2:
            array[at] = int(rng.integers(256))
        elif kind == 2:
            array[at] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            del array[at : at + size]
        else:
            array[at:at] = array[at : at + size]
        if not array:
            return b""
    return bytes(array[: int(rng.integers(len(array)))] if rng.random() < 0.05 else array)


def trial(path: Path, seed: int, sources: list[bytes]) -> bool:
    """Whether a mutant is read; if not, it has to be refused by an error of this package."""
    rng = np.random.default_rng(seed)
    path.write_bytes(mutated(sources[int(rng.integers(len(sources)))], rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a Softmax left out
        try:
            imported(path)
        except SubbyteError:
            return False
    return True


def test_mutants(tmp_path: Path) -> None:
    """More by `python -m tests.unit.importers.onnx.test_files COUNT`."""
    sources = seeds()
    read = [trial(tmp_path / "net.onnx", seed, sources) for seed in range(MUTANTS)]
    assert 10 < sum(read) < MUTANTS - 10


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sources = seeds()
        outcomes = []
        for seed in range(int(sys.argv[1])):
            outcomes.append(trial(Path(folder) / "net.onnx", seed, sources))
            if seed % 500 == 499:
                print(
                    f"{seed + 1} mutants, {sum(outcomes)} read, {len(outcomes) - sum(outcomes)} refused",
                    flush=True,
                )

"""Small ONNX files by hand, and what ONNX Runtime computes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.importers import Imported, import_model
from subbyte.preprocess import Preprocessing

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx_ir")

SHAPE = (9, 7, 4)


def preprocessing(shape: tuple[int, int, int] = SHAPE) -> Preprocessing:
    height, width, channels = shape
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return Preprocessing(height, width, zeros, ones, crop_mode="squash", crop_fraction=1.0)


class Net:
    """Grows a file. `last`: the newest tensor."""

    def __init__(self, seed: int = 0, shape: tuple[int, int, int] = SHAPE, opset: int = 20) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.opset, self.last = shape, opset, "x"
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.domains = {"": opset}

    def normal(self, *shape: int) -> np.ndarray:
        """Weights that keep variances near 1."""
        fan = max(1, int(np.prod(shape[1:])))
        return (self.rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32)

    def constant(self, array: np.ndarray | Any, kind: int | None = None) -> str:
        """An initializer; `kind`: another type of the file than the array's."""
        name = f"c{len(self.tensors)}"
        if kind is None:
            self.tensors.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        else:
            values = np.asarray(array)
            self.tensors.append(
                onnx.helper.make_tensor(name, kind, values.shape, values.reshape(-1).tolist())
            )
        return name

    def op(self, kind: str, *inputs: str | np.ndarray, domain: str = "", **attrs: Any) -> str:
        """A node of these inputs, arrays being constants, or of the last tensor."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs or (self.last,)]
        self.last = f"t{len(self.nodes)}"
        self.domains.setdefault(domain, 1)
        node = onnx.helper.make_node(
            kind, names, [self.last], name=f"n{len(self.nodes)}", domain=domain, **attrs
        )
        self.nodes.append(node)
        return self.last

    def conv(self, inputs: int, outputs: int, kernel: int = 3, x: str | None = None, **attrs: Any) -> str:
        attrs = {"pads": [kernel // 2] * 4, **attrs}
        weight = self.normal(outputs, inputs // attrs.get("group", 1), kernel, kernel)
        return self.op("Conv", x or self.last, weight, self.normal(outputs), **attrs)

    def model(self, *outputs: str, kind: int = 1, **sizes: Any) -> Any:
        height, width, channels = self.shape
        shape = sizes.get("input", ["N", channels, height, width])
        graph = onnx.helper.make_graph(
            self.nodes,
            "g",
            [onnx.helper.make_tensor_value_info("x", kind, shape)],
            [onnx.helper.make_tensor_value_info(name, 1, None) for name in outputs or (self.last,)],
            self.tensors,
        )
        opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="hand")

    def file(self, folder: Path, *outputs: str, **sizes: Any) -> Path:
        path = folder / "net.onnx"
        path.write_bytes(self.model(*outputs, **sizes).SerializeToString())
        return path

    def images(self, count: int = 2) -> np.ndarray:
        return self.rng.normal(size=(count, *self.shape)).astype(np.float32)


def imported(path: Path, shape: tuple[int, int, int] = SHAPE) -> Imported:
    return import_model(path, preprocessing=preprocessing(shape))


def saturates() -> bool:
    """Whether ONNX Runtime's 8-bit products overflow here: on CPUs without VNNI it adds two in 16 bits, where
    2 x 255 x 127 becomes 32767."""
    ones, sides = np.full((16, 16), 127, np.int8), [16, 16]
    weight = onnx.helper.make_tensor("b", onnx.TensorProto.INT8, sides, ones.tobytes(), raw=True)
    x = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, sides)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, sides)
    node = onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = onnx.helper.make_graph([node], "products", [x], [y], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.full(sides, 255, np.uint8)})
    return bool((found != 16 * 255 * 127).any())


def runtime(path: Path, x: np.ndarray, optimized: bool = False) -> list[np.ndarray]:
    """What ONNX Runtime makes of float32 [N, H, W, C], image by image; maps as [N, H, W, C]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options)
    (taken,) = session.get_inputs()
    channels_last = list(taken.shape)[1:] == list(x.shape[1:]) and x.shape[1] != x.shape[3]
    images = x if channels_last else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    results = [session.run(None, {taken.name: image[None]}) for image in images]
    joined = [np.concatenate(parts) for parts in zip(*results, strict=True)]
    return [array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in joined]

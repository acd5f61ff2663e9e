"""What a model is collected in, while the rows of the operations add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from subbyte.exporters.onnx.activations import ACTIVATIONS
from subbyte.ir import Graph, Node
from subbyte.ir.activations import parse_activation
from subbyte.quant import QTensor


class Writer:
    """Collects ONNX nodes and initializers. `reserved` names stay free for the graph's values."""

    def __init__(self, onnx: Any, reserved: Iterable[str]) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._taken = set(reserved)

    def fresh(self, base: str) -> str:
        """`base`, or `base` with a number if something is called that already."""
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        node = self._onnx.helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attrs)
        self.nodes.append(node)
        return output

    def tensor(self, name: str, array: np.ndarray) -> str:
        """Adds an initializer and returns its name."""
        unique = self.fresh(name)
        self.tensors.append(self._onnx.numpy_helper.from_array(array, unique))
        return unique

    def number(self, name: str, value: float) -> str:
        return self.tensor(name, np.array(value, np.float32))

    def activation(self, act: str, x: str, output: str) -> str:
        row, parameters = parse_activation(act)
        return ACTIVATIONS[row.name](self, x, output, *parameters)


#: Adds what makes a node's output.
Row = Callable[[Writer, Graph, Node], None]


def float_array(node: Node, role: str) -> np.ndarray:
    """A parameter, float32."""
    param = node.params[role]
    assert not isinstance(param, QTensor)
    return param.astype(np.float32)


def plain(kind: str, **attrs: Any) -> Row:
    """One ONNX operator of the same inputs."""

    def export(writer: Writer, graph: Graph, node: Node) -> None:
        writer.op(kind, node.inputs, node.output, **attrs)

    return export


def pads(node: Node) -> list[int]:
    """A node's padding in ONNX's order: all beginnings, then all ends."""
    top, bottom, left, right = node.attrs["pad"]
    return [top, left, bottom, right]

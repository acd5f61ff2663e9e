"""From a graph whose values are quantized and dequantized again around float layers to integer layers.

A layer becomes one of integers where its inputs are on grids, its result goes to one, and the rules of
docs/spec/numerics.md allow it; every other stays a float32 layer between dequantize and quantize. Either way
the network is the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from subbyte.errors import GraphError
from subbyte.importers.onnx.translate import Translated
from subbyte.importers.onnx.values import Stored
from subbyte.ir import OPS, Graph, Kind, Node, Value, is_weighted, verify
from subbyte.ir.activations import CLAMP_ACTIVATIONS, activation_function, parse_activation
from subbyte.ir.graph import producers, rebuild
from subbyte.ir.ops import is_plain
from subbyte.passes import drop_dead_nodes
from subbyte.passes.dataflow import only_consumers
from subbyte.passes.fold_batch_norm import fold_batch_norm
from subbyte.passes.fuse_residual import fuse_residual
from subbyte.passes.fuse_table import fuse_table
from subbyte.quant import QParams, QTensor, activation_table, quantize_bias
from subbyte.quant.format import INT8, WEIGHT_FORMATS

Function = Callable[[np.ndarray], np.ndarray]


def integers(translated: Translated) -> Graph:
    """The verified graph with integer layers; as it is if nothing in it is quantized."""
    graph, notes = translated.graph, translated.notes
    if all(value.q is None for value in graph.values.values()):
        return graph
    graph = _without_implied_clamps(drop_dead_nodes(graph))
    graph = fuse_residual(fold_batch_norm(graph))
    graph = _Rewriter(graph, notes.stored, notes.functions).run()
    return verify(fuse_table(graph))


def _without_implied_clamps(graph: Graph) -> Graph:
    """Without activations that clamp to a range which the grid behind them clamps to anyway."""
    only, moved = only_consumers(graph), dict[str, str]()
    nodes = []
    for node in graph.nodes:
        inputs = tuple(moved.get(name, name) for name in node.inputs)
        reader = only.get(node.output)
        behind = graph.value(reader.output).q if reader is not None and reader.op == "quantize" else None
        if node.op == "activation" and behind is not None and _implied(node.attrs["act"], behind):
            moved[node.output] = inputs[0]
            continue
        nodes.append(node.with_(inputs=inputs))
    return rebuild(graph, nodes)


def _implied(act: str, q: QParams) -> bool:
    row, parameters = parse_activation(act)
    bounds = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "clip": parameters}.get(row.name)
    if bounds is None:
        return False
    low, high = np.rint(np.asarray(bounds) / q.scale) + q.zero_point
    return bool(low <= 0 and high >= q.qmax)


@dataclass
class _Rewriter:
    """codes: by a value of the graph, the value that holds its codes, where it was dequantized. same: codes
    that are those of another value."""

    graph: Graph
    stored: dict[str, Stored]
    functions: dict[str, Function]
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    def run(self) -> Graph:
        self.made, self.only = producers(self.graph), only_consumers(self.graph)
        self.names = {node.name for node in self.graph.nodes}
        self.values.update(self.graph.values)
        for original in self.graph.nodes:
            node = original.with_(inputs=tuple(self.same.get(name, name) for name in original.inputs))
            if node.op == "quantize":
                self._quantize(node)
            elif node.op == "dequantize":
                self.codes[node.output] = node.inputs[0]
                self.nodes.append(node)
            elif self.values[node.output].q is None and OPS[node.op].keeps_grid and self._moves(node):
                continue
            else:
                self.nodes.append(self._to_float(node) or node)
        graph = replace(self.graph, nodes=tuple(self.nodes), values=self.values)
        return drop_dead_nodes(graph)

    def _moves(self, node: Node) -> bool:
        """An operation that keeps its inputs' grid is done on codes, which become float32 behind it."""
        sources = [self.codes.get(name) for name in node.inputs]
        grids = {self.values[source].q for source in sources if source is not None}
        if None in sources or len(grids) != 1:
            return False
        inner, behind = f"{node.output}.codes", f"{node.name}.dequantize"
        if inner in self.values or behind in self.names:
            return False
        self.values[inner] = replace(self.values[node.output], name=inner, q=grids.pop())
        inputs = tuple(source for source in sources if source is not None)
        self.nodes.append(node.with_(inputs=inputs, output=inner))
        self.nodes.append(Node(behind, "dequantize", (inner,), node.output))
        self.codes[node.output] = inner
        return True

    def _to_float(self, node: Node) -> Node | None:
        """A plain layer of codes whose accumulators become float32 at once."""
        if not is_plain(node) or node.inputs[0] not in self.codes:
            return None
        return self._layer(node, self.values[node.output], "none", None)

    def _quantize(self, node: Node) -> None:
        before = self.codes.get(node.inputs[0])
        if before is not None and self.values[before].q == self.values[node.output].q:
            self.same[node.output] = before
            return
        made = self._integer(node, node.inputs[0])
        self.nodes += made if made else [node]

    def _integer(self, quantize: Node, source: str) -> list[Node] | None:
        """The nodes that make the codes without the float32 value before them."""
        output = self.values[quantize.output]
        if source in self.codes:
            return [self._table(quantize.name, self.codes[source], output, "none", None)]
        node = self.made.get(source)
        if node is None or source not in self.only:
            return None
        if node.op == "activation":
            return self._activated(node, output)
        if is_weighted(node):
            residual = self.codes.get(node.inputs[1]) if len(node.inputs) == 2 else None
            if residual is None and len(node.inputs) == 2:
                return None
            layer = self._layer(node, output, "none", residual)
            return None if layer is None else [layer]
        if node.op == "concat":
            return self._concat(node, output)
        if node.op == "mul":
            node = self._with_channel_scale(node)
        inputs = [self.codes.get(name) for name in node.inputs]
        op = OPS[node.op]
        if None in inputs or not op.quantizable or op.keeps_grid or op.kind is Kind.GRID:
            return None
        return _checked(self, node.with_(inputs=tuple(name for name in inputs if name), output=output.name))

    def _with_channel_scale(self, node: Node) -> Node:
        """A gate of codes that is multiplied by a factor for each channel has these as its parameter."""
        scaling = self.made.get(node.inputs[1])
        if scaling is None or scaling.op != "conv2d" or not is_plain(scaling):  # as a batch_norm is folded
            return node
        weight, bias = scaling.params["weight"], scaling.params["bias"]
        if not isinstance(weight, np.ndarray) or not isinstance(bias, np.ndarray):
            return node
        if weight.shape != (scaling.attrs["groups"], 1, 1, 1) or bias.any():
            return node
        scale = {"channel_scale": weight.reshape(-1)}
        return node.with_(inputs=(node.inputs[0], scaling.inputs[0]), params=scale)

    def _activated(self, node: Node, output: Value) -> list[Node] | None:
        x, act = node.inputs[0], node.attrs["act"]
        if x in self.codes:
            return [self._table(node.name, self.codes[x], output, act, self.functions.get(node.name))]
        layer = self.made.get(x)
        if act in CLAMP_ACTIVATIONS and layer is not None and is_plain(layer) and x in self.only:
            fused = self._layer(layer, output, act, None)
            return [fused] if fused else None
        return None

    def _table(self, name: str, x: str, output: Value, act: str, function: Function | None) -> Node:
        """From codes to codes: each of the 256 is dequantized, and rounded behind the function."""
        table = activation_table(function or activation_function(act), self.values[x].grid, output.grid)
        return Node(name, "activation", (x,), output.name, {"act": act}, {"table": table})

    def _concat(self, node: Node, output: Value) -> list[Node] | None:
        """Each part on the grid of the whole."""
        nodes, parts = [], []
        for number, name in enumerate(node.inputs):
            source = self.codes.get(name)
            if source is None:
                return None
            if self.values[source].q != output.q:
                part = f"{node.name}.part{number}"
                if part in self.values:
                    return None
                self.values[part] = Value(part, self.values[source].shape, output.q)
                nodes.append(self._table(part, source, self.values[part], "none", None))
                source = part
            parts.append(source)
        return [*nodes, node.with_(inputs=tuple(parts), output=output.name)]

    def _layer(self, node: Node, output: Value, act: str, residual: str | None) -> Node | None:
        """The layer in integers; None if its weights are not stored so, or the rules do not allow it."""
        stored, x = self.stored.get(node.name), self.codes.get(node.inputs[0])
        weight = node.params["weight"]
        if stored is None or x is None or isinstance(weight, QTensor):
            return None
        tensor = _codes(weight, stored)
        if tensor is None:
            return None
        grid = self.values[x].grid
        try:
            bias = _bias(node, stored, grid, tensor)
        except GraphError:
            return None
        inputs = (x,) if residual is None else (x, residual)
        made = node.with_(
            inputs=inputs,
            output=output.name,
            attrs={**node.attrs, "act": act},
            params={"weight": tensor, "bias": bias},
        )
        checked = _checked(self, made)
        return checked[0] if checked else None


def _checked(rewriter: _Rewriter, node: Node) -> list[Node] | None:
    """The node, if grids and numbers keep the rules of its operation."""
    inputs = [rewriter.values[name] for name in node.inputs]
    try:
        OPS[node.op].rule(node, inputs, rewriter.values[node.output])
    except GraphError:
        return None
    return [node]


def _codes(weight: np.ndarray, stored: Stored) -> QTensor | None:
    """The weights as they are stored: codes that give exactly these numbers. None if there are no such."""
    scale = stored.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if len(stored.scale) != len(weight):
        return None
    numbers = np.rint(weight.astype(np.float64) / scale)
    if not np.array_equal((numbers * scale).astype(np.float32), weight):
        return None  # a batch_norm was folded into them
    declared = WEIGHT_FORMATS.get(f"int{stored.bits}", INT8)
    for format in dict.fromkeys((declared, INT8)):
        half = 1 << (format.bits - 1)
        if -half <= numbers.min() and numbers.max() < half:
            return QTensor.from_values(numbers.astype(np.int16), stored.scale, format)
    return None  # unsigned weights whose zero point is not in the middle


def _bias(node: Node, stored: Stored, x: QParams, weight: QTensor) -> np.ndarray:
    """The stored bias where the layer's has not changed since, else the real one rounded."""
    real = np.asarray(node.params["bias"], np.float32)
    if stored.bias is not None:
        unit = np.float64(x.scale) * weight.scale.astype(np.float64)
        kept = stored.bias.astype(np.float64) * unit
        # the file's own scale of the bias is a float32 rounding of this unit, and so is the real number
        if (np.abs(kept - real) <= 2.0**-22 * np.abs(kept)).all():
            return stored.bias
    return quantize_bias(real, x, weight.scale)

"""A quantized graph as float operations between changes of grid: what formats with Q and DQ nodes hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from subbyte.exporters.grids import Ranges, residual_grid
from subbyte.ir import Graph, Node, Param, Value, is_weighted
from subbyte.ir.graph import pre_activation
from subbyte.quant import QParams


def explicit(
    graph: Graph, *, rounded_sums: bool, ranges: Ranges | None = None, rounded_gates: bool = False
) -> tuple[Graph, tuple[str, ...]]:
    """The graph whose operations compute in real numbers, each behind `dequantize` and before `quantize`.

    Values keep their names and grids. New ones are called after the value that they lead to: "y/real" is y
    dequantized, "y/raw" what is rounded to y, "y/pre" the codes on a table's pre-activation grid, "y/sum" the
    sums of a layer with a table or a residual. Outputs are real numbers, "y/real" of codes. Layers keep
    quantized weights and int32 biases; their sums are of real numbers. A table becomes its function, or stays
    an `activation` of codes where it makes levels. With it the names of the "y/codes", on grids
    that the graph lacks.

    rounded_sums: a layer's sums are rounded to 8 bits, "y/codes", before its residual is added (else the sum
    of both is rounded, once); ranges: as `residual_grid` takes them. rounded_gates: a `mul` has the
    attributes "step", in whose multiples its definition rounds the gate, and "tie": its products are
    multiples of 1/256 of a code, and half of that makes ties round up.

    The result is for exporters: the verifier would refuse quantized weights behind real inputs.
    """
    made = _Explicit(graph, rounded_sums, ranges or {}, rounded_gates)
    for node in graph.nodes:
        made.put(node)
    outputs = [name if graph.value(name).q is None else made.real(name) for name in graph.outputs]
    return Graph(graph.input, tuple(outputs), made.values, tuple(made.nodes)), tuple(made.added)


class _Explicit:
    """The growing graph."""

    def __init__(self, graph: Graph, rounded_sums: bool, ranges: Ranges, rounded_gates: bool) -> None:
        self.graph, self.rounded_sums, self.ranges = graph, rounded_sums, ranges
        self.rounded_gates = rounded_gates
        self.values = dict(graph.values)
        self.nodes: list[Node] = []
        self.added: list[str] = []
        self._real: dict[str, str] = {}

    def put(self, node: Node) -> None:
        """Appends what stands for a node."""
        y = self.graph.value(node.output)
        if (y.q is None and (node.op == "dequantize" or not is_weighted(node))) or self.graph.value(
            node.inputs[0]
        ).q is None:
            self.nodes.append(node)
        elif is_weighted(node):
            self._layer(node, y)
        elif node.op == "activation":
            self._activation(node, node.inputs[0], y)
        else:
            inputs = [self.real(name) for name in node.inputs]
            attrs = dict(node.attrs)
            if node.op == "mul" and self.rounded_gates:
                unit = y.grid.scale / 256
                attrs |= {"step": unit / self.graph.value(node.inputs[0]).grid.scale, "tie": unit / 2}
            raw = self.add(node.op, inputs, f"{y.name}/raw", y, attrs=attrs, params=node.params)
            self.quantize(raw, y)

    def _layer(self, node: Node, y: Value) -> None:
        has_table, residual = "table" in node.params, node.inputs[1:]
        attrs = {key: value for key, value in node.attrs.items() if not key.startswith("pre_")}
        attrs["act"] = "none" if has_table else node.attrs["act"]
        params = {role: node.params[role] for role in ("weight", "bias")}
        name = f"{y.name}/sum" if has_table or residual else f"{y.name}/raw"
        layer = node.with_(
            inputs=(self.real(node.inputs[0]),),
            output=y.name if y.q is None else self._value(name, y),
            attrs=attrs,
            params=params,
        )
        self.nodes.append(layer)
        sums = layer.output
        if has_table:
            self._activation(node, self._codes(sums, f"{y.name}/pre", y, pre_activation(node, y)), y)
        elif residual:
            if self.rounded_sums:
                codes = self._codes(sums, f"{y.name}/codes", y, residual_grid(self.graph, node, self.ranges))
                self.added.append(codes)
                sums = self.real(codes)
            self.quantize(self.add("add", [sums, self.real(residual[0])], f"{y.name}/raw", y), y)
        elif y.q is not None:
            self.quantize(sums, y)

    def _activation(self, node: Node, codes: str, y: Value) -> None:
        """A table from codes to y."""
        if y.grid.levels is not None:
            table = {"table": node.params["table"]}
            self.nodes.append(Node(y.name, "activation", (codes,), y.name, {"act": node.attrs["act"]}, table))
        elif node.attrs["act"] == "none":
            self.quantize(self.real(codes), y)
        else:
            act = {"act": node.attrs["act"]}
            self.quantize(self.add("activation", [self.real(codes)], f"{y.name}/raw", y, attrs=act), y)

    def real(self, name: str) -> str:
        """The real numbers of codes, dequantized once."""
        if name not in self._real:
            self._real[name] = self.add("dequantize", [name], f"{name}/real", self.values[name])
        return self._real[name]

    def quantize(self, raw: str, y: Value) -> None:
        """Rounds to a value of the graph."""
        self.nodes.append(Node(y.name, "quantize", (raw,), y.name))

    def _codes(self, raw: str, name: str, y: Value, q: QParams | None) -> str:
        codes = self._value(name, y, q)
        self.nodes.append(Node(codes, "quantize", (raw,), codes))
        return codes

    def add(
        self,
        op: str,
        inputs: Iterable[str],
        name: str,
        y: Value,
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Param] | None = None,
    ) -> str:
        """Appends an operation that makes real numbers of y's shape, in a new value called like `name`."""
        output = self._value(name, y)
        self.nodes.append(Node(output, op, tuple(inputs), output, attrs or {}, params or {}))
        return output

    def _value(self, base: str, y: Value, q: QParams | None = None) -> str:
        name, count = base, 0
        while name in self.values:
            count += 1
            name = f"{base}_{count}"
        self.values[name] = Value(name, y.shape, q)
        return name

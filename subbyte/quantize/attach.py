"""Rewrites a float graph into a quantized one, given formats and grids: round to nearest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from subbyte.errors import RecipeError
from subbyte.execute.reference import activation_function
from subbyte.ir import OPS, Graph, Node, Value, is_weighted, verify
from subbyte.ir.graph import consumers
from subbyte.ir.ops import is_plain
from subbyte.quant import Format, QParams, QTensor, activation_table, quantize_bias
from subbyte.quant.format import FP16, FP32
from subbyte.quantize.assignment import Assignment
from subbyte.quantize.balance import fitting_gates
from subbyte.quantize.grids import needs_table, pre_activation_grid, value_grids
from subbyte.quantize.histogram import Histogram
from subbyte.quantize.weights import quantized_weight
from subbyte.recipes import Recipe

#: A float layer, the grid of its input, and a format: the layer's weights on a grid of their own.
Rounding = Callable[[Node, QParams, Format], QTensor]


def attach(
    graph: Graph,
    assignments: Mapping[str, Assignment],
    recipe: Recipe,
    seen: Mapping[str, Histogram],
    rounding: Rounding | None = None,
) -> Graph:
    """The quantized graph, verified. `graph` and `assignments` come from split_for_integers.

    Node and output names stay; a value that exists in a second form has `.codes` or `.real` added.
    rounding: how weights become codes; by default to the nearest, with scales as the recipe says.
    Raises RecipeError if a layer would execute in another format than the recipe asks for.
    """
    integers = any(assignment.quantized for assignment in assignments.values())
    grids = fitting_gates(graph, value_grids(graph, assignments, recipe, seen)) if integers else {}
    rewriter = _Rewriter(graph, assignments, recipe, seen, grids, rounding or to_nearest(recipe))
    return verify(check_executed(rewriter.run(), assignments))


def to_nearest(recipe: Recipe, scales: Mapping[str, np.ndarray] | None = None) -> Rounding:
    """Rounding to nearest, with the recipe's scales, or those given, float32 [O], by name of a layer."""

    def rounded(node: Node, x: QParams, format: Format) -> QTensor:
        weight, bias = (np.asarray(node.params[role], np.float32) for role in ("weight", "bias"))
        return quantized_weight(weight, bias, x, format, recipe.weights, (scales or {}).get(node.name))

    return rounded


@dataclass
class _Rewriter:
    graph: Graph
    assignments: Mapping[str, Assignment]
    recipe: Recipe
    seen: Mapping[str, Histogram]
    grids: Mapping[str, QParams]
    rounding: Rounding
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)  # original value to its float32 form
    codes: dict[str, str] = field(default_factory=dict)  # original value to its quantized form

    def run(self) -> Graph:
        self._define(self.graph.input, None)
        for node in self.graph.nodes:
            if self.assignments[node.name].quantized:
                self._integer(node)
            else:
                self._float(node)
        for name in self.graph.outputs:
            self._as_real(name)
        return replace(self.graph, values=self.values, nodes=tuple(self.nodes))

    def _define(self, name: str, q: QParams | None) -> str:
        """Declares the form of an original value and returns its name in the new graph."""
        table = self.real if q is None else self.codes
        keeps_name = name not in self.real and name not in self.codes and not (q and self._is_output(name))
        new = name if keeps_name or (q is None and self._is_output(name)) else self._suffixed(name, q)
        table[name] = new
        self.values[new] = Value(new, self.graph.value(name).shape, q)
        return new

    def _is_output(self, name: str) -> bool:
        return name in self.graph.outputs

    @staticmethod
    def _suffixed(name: str, q: QParams | None) -> str:
        return f"{name}.real" if q is None else f"{name}.codes"

    def _as_real(self, name: str) -> str:
        if name not in self.real:
            source = self.codes[name]
            self.nodes.append(Node(f"{name}.dequantize", "dequantize", (source,), self._define(name, None)))
        return self.real[name]

    def _as_codes(self, name: str) -> str:
        if name not in self.codes:
            source = self.real[name]
            output = self._define(name, self.grids[name])
            self.nodes.append(Node(f"{name}.quantize", "quantize", (source,), output))
        return self.codes[name]

    def _float(self, node: Node) -> None:
        inputs = tuple(self._as_real(name) for name in node.inputs)
        params = dict(node.params)
        if self.assignments[node.name].weights == FP16 and is_weighted(node):
            params["weight"] = _half(node)
        self.nodes.append(node.with_(inputs=inputs, params=params, output=self._define(node.output, None)))

    def _integer(self, node: Node) -> None:
        inputs = tuple(self._as_codes(name) for name in node.inputs)
        real = self._makes_real(node)
        output = self._define(node.output, None if real else self.grids[node.output])
        attrs, params = dict(node.attrs), dict(node.params)
        if is_weighted(node):
            params = self._weights(node)
            if needs_table(node, None if real else self.grids[node.output]):
                pre = pre_activation_grid(node, self.recipe, self.seen)
                attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
                params["table"] = self._table(node, pre)
        elif "table" in OPS[node.op].optional:
            params["table"] = self._table(node, self.grids[node.inputs[0]])
        self.nodes.append(node.with_(inputs=inputs, output=output, attrs=attrs, params=params))

    def _weights(self, node: Node) -> dict[str, np.ndarray | QTensor]:
        x = self.grids[node.inputs[0]]
        quantized = self.rounding(node, x, self.assignments[node.name].weights)
        bias = np.asarray(node.params["bias"], np.float32)
        return {"weight": quantized, "bias": quantize_bias(bias, x, quantized.scale)}

    def _table(self, node: Node, source: QParams) -> np.ndarray:
        return activation_table(activation_function(node.attrs["act"]), source, self.grids[node.output])

    def _makes_real(self, node: Node) -> bool:
        """Whether the accumulator becomes float32 at once: nobody reads the output's codes."""
        readers = consumers(self.graph)[node.output]
        return is_plain(node) and not any(self.assignments[reader.name].quantized for reader in readers)


def _half(node: Node) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = np.asarray(node.params["weight"]).astype(np.float16)
    if not np.isfinite(half).all():
        raise RecipeError(f"layer {node.name!r} has weights beyond float16; use fp32 for it")
    return half


def check_executed(graph: Graph, assignments: Mapping[str, Assignment]) -> Graph:
    """Returns the graph, or raises RecipeError naming a layer that would not run as it was asked to."""
    for node in graph.nodes:
        asked = assignments.get(node.name)
        if asked is None:
            continue
        quantized = graph.value(node.inputs[0]).q is not None
        if quantized != asked.quantized:
            raise RecipeError(f"layer {node.name!r} cannot run in {asked.weights}")
        weight, output = node.params.get("weight"), graph.value(node.output).q
        if isinstance(weight, QTensor) and weight.format.plain != asked.weights:
            raise RecipeError(f"layer {node.name!r} would have {weight.format} weights, not {asked.weights}")
        made = FP32 if output is None else output.format
        # what a float layer makes is rounded where it is read
        if asked.asked and asked.quantized and made.plain != asked.activations:
            raise RecipeError(
                f"layer {node.name!r} is to make {asked.activations} activations, but makes {made} ones"
            )
    return graph

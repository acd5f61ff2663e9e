"""Which layers tolerate low bit-widths: one change at a time to a network of 8 bits, against float32.

Every layer's weights, and everything a layer makes, are brought to each narrower width alone; the
degradation is read off the outputs (native engine, all images) and off the output of the block
around the layer (torch executor, a few images). A float format of weights leaves the layer in
floating point, which shows what the network gains if this layer is not quantized.

Biases are corrected, as recipes with narrow weights do it, those of the 8-bit network and that of a
layer whose weights change: without that one would measure mostly shifts of the mean, which compression
removes. Corrections come from a few images and are shrunk by what these leave uncertain, which
stands for the many that compression has. They are not made anew for activations that change.

Walks through the network once; what lies before the changed layer is computed once for all its
widths.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.analysis.components import components
from subbyte.analysis.degradation import Meter
from subbyte.analysis.table import EIGHT_BITS, Kind, Row, Sensitivity, key_of, read_sensitivity
from subbyte.artifact.digest import graph_digest
from subbyte.errors import GraphError, InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.ops import OPS
from subbyte.execute.torch.steady import environment, fixed_threads, kept_memory
from subbyte.execute.torch.step import Step, step_of
from subbyte.ir import Graph, Node, verify
from subbyte.ir.graph import producers
from subbyte.quant import Format, QTensor
from subbyte.quant.bias import LARGEST_TRAINED
from subbyte.quant.format import ACTIVATION_FORMATS, WEIGHT_FORMATS
from subbyte.quant.pattern import DENSE
from subbyte.quantize.calibrate import Progress
from subbyte.quantize.prepare import exposed, pre_value
from subbyte.quantize.variants import Variants
from subbyte.steps.bias_correction import Walk, correct_biases, corrected
from subbyte.steps.blocks import Block, blocks
from subbyte.tasks.table import kept_name

#: Images that biases are corrected on, and those of them that the output of a block is measured on.
CORRECTION_IMAGES = 32
BLOCK_IMAGES = 8


def sensitivity(
    variants: Variants,
    images: np.ndarray,
    *,
    model: str = "",
    weights: Sequence[Format] = tuple(WEIGHT_FORMATS.values()),
    activations: Sequence[Format] = tuple(ACTIVATION_FORMATS.values()),
    output: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    task: str | None = None,
) -> Sensitivity:
    """The table of all layers and formats.

    variants: calibrated on `images` here. images: float32 [N, H, W, C]. task: None finds it from the graph.
    model: a name for people. weights, activations: the formats to try. output: a file that the table
    is kept in as it grows; one that holds rows of the same analysis is continued. threads: of torch
    and the engine.

    A format that the graph's rules refuse for some activation has no row.
    Raises InputError: the outputs do not fit the task, or `output` belongs to another analysis.
    """
    report = progress or (lambda stage, done: None)
    key = analysis_key(variants, images, threads, task)
    table = _kept(output, key)
    with fixed_threads(threads), kept_memory(), torch.no_grad(), torch_executor.exact_convolutions():
        if not variants.seen:
            variants.calibrate([images], report)
        analysis = _Analysis(variants, images, tuple(weights), tuple(activations), threads, task)
        if table is None:
            base, network = analysis.meter.of(analysis.base), graph_digest(variants.graph)
            table = Sensitivity(key=key, network=network, model=model, images=len(images), base=base)
        for rows in analysis.run(table):
            table.rows.extend(rows)
            if output is not None:
                table.save(output)
            report("sensitivity", len(table.rows))
    return table


def analysis_key(variants: Variants, images: np.ndarray, threads: int, task: str | None = None) -> str:
    """What `Sensitivity.key` is for this network and these images."""
    settings: dict[str, object] = {
        "correction": CORRECTION_IMAGES,
        "block": BLOCK_IMAGES,
        "corrected": "all",
        **environment(threads),
        **kept_name(task),
    }
    return key_of(variants.graph, variants.recipe, images, settings)


def _kept(output: Path | None, key: str) -> Sensitivity | None:
    if output is None or not output.exists():
        return None
    table = read_sensitivity(output)
    if table.key != key:
        raise InputError(
            f"{output} holds the analysis of another network, other images or another recipe, or of "
            "another version of subbyte or torch; remove it or choose another file"
        )
    return table


@dataclass(frozen=True)
class _Change:
    """One format of one thing. nodes: the first is where the network begins to differ."""

    kind: Kind
    nodes: tuple[str, ...]
    format: Format


class _Analysis:
    def __init__(
        self,
        variants: Variants,
        images: np.ndarray,
        weights: tuple[Format, ...],
        activations: tuple[Format, ...],
        threads: int,
        task: str | None,
    ) -> None:
        self.variants, self.split = variants, variants.float_graph
        few = images[np.linspace(0, len(images) - 1, min(CORRECTION_IMAGES, len(images))).astype(int)]
        self.plain = variants.quantized()
        self.base = correct_biases(self.plain, self.split, few, lambda stage, done: None, shrink=True)
        self.meter = Meter(variants.graph, images, threads, task)
        self.components = components(variants.graph)
        self.changes = self._by_first_node(weights, activations)
        self.images = torch_executor.nchw(few[:BLOCK_IMAGES])
        self.walk = Walk(self.base, few)
        self.sums = Walk(exposed(self.split), few)
        self.ahead = Walk(self.split, few[:BLOCK_IMAGES])

    def _by_first_node(
        self, weights: tuple[Format, ...], activations: tuple[Format, ...]
    ) -> dict[str, list[_Change]]:
        result: dict[str, list[_Change]] = {node.name: [] for node in self.base.nodes}
        for name in self.variants.layers():
            dense = name in self.variants.depthwise
            own = [format for format in _wide_first(weights) if format.pattern == DENSE or not dense]
            result[name] += [_Change("weights", (name,), format) for format in own]
        for group in (shared.nodes for shared in self.variants.activations()):
            result[group[0]] += [_Change("activations", group, format) for format in _wide_first(activations)]
        return result

    def run(self, table: Sensitivity) -> Iterator[list[Row]]:
        """New rows, a list per node; those that `table` has are left out."""
        done = {(row.kind, row.nodes, row.format) for row in table.rows}
        for block in blocks(self.base):
            exact: Tensor | None = None
            for position, name in enumerate(block.nodes):
                node = self.base.node(name)
                wanted = None
                if isinstance(node.params.get("weight"), QTensor):
                    wanted = self.sums.until(pre_value(self.split.node(name)))
                missing = [c for c in self.changes[name] if (c.kind, c.nodes, c.format) not in done]
                if missing:
                    if exact is None:
                        exact = self._float_output(block)
                    rest = block.nodes[position:]
                    base = _sqnr(exact, self._until_end(self.base, rest))
                    made = [self._row(change, table, wanted, rest, exact, base) for change in missing]
                    yield [row for row in made if row is not None]
                self.walk.execute(node)

    def _float_output(self, block: Block) -> Tensor:
        """The block's output in the float network."""
        made = {node.output for node in self.split.nodes}
        name = block.output if block.output in made else block.output.rpartition(".")[0]
        return self.ahead.until(name)

    def _row(
        self,
        change: _Change,
        table: Sensitivity,
        wanted: Tensor | None,
        rest: tuple[str, ...],
        exact: Tensor,
        base: float,
    ) -> Row | None:
        name = change.nodes[0]
        if change.format == EIGHT_BITS[change.kind]:
            degradation, sqnr = table.base, base
        else:
            try:
                graph = self._changed(change, wanted)
            except GraphError:
                return None
            degradation, sqnr = self.meter.of(graph), _sqnr(exact, self._until_end(graph, rest))
        component = self.components[name]
        return Row(
            kind=change.kind,
            nodes=change.nodes,
            format=change.format,
            component=component.kind,
            stage=component.stage,
            elements=self._elements(change),
            degradation=degradation,
            block_sqnr=sqnr,
        )

    def _elements(self, change: _Change) -> int:
        nodes = [self.variants.graph.node(name) for name in change.nodes]
        if change.kind == "weights":
            return int(np.prod(nodes[0].params["weight"].shape))
        return sum(math.prod(self.variants.graph.value(node.output).shape) for node in nodes)

    def _changed(self, change: _Change, wanted: Tensor | None) -> Graph:
        formats = dict.fromkeys(change.nodes, change.format)
        if change.kind == "activations":
            return self._with_corrections(self.variants.quantized(activations=formats))
        plain = self.variants.quantized(weights=formats)
        graph = self._with_corrections(plain)
        if change.format.is_float:
            return graph
        node = plain.node(change.nodes[0])  # its own correction begins where it was rounded
        assert wanted is not None
        better = corrected(_step(plain, node.name), self.walk.live[node.inputs[0]], wanted, shrink=True)
        return verify(replace(graph, nodes=tuple(better if n.name == node.name else n for n in graph.nodes)))

    def _with_corrections(self, graph: Graph) -> Graph:
        """The graph with the shifts of the base's biases, as real numbers the same."""
        nodes = []
        for node in graph.nodes:
            if isinstance(node.params.get("weight"), QTensor):
                plain, base = self.plain.node(node.name), self.base.node(node.name)
                units = _unit(self.plain, plain) / _unit(graph, node)
                shift = (
                    np.asarray(base.params["bias"], np.float64) - np.asarray(plain.params["bias"])
                ) * units
                bias = np.asarray(node.params["bias"]) + np.rint(shift)
                bounded = np.clip(bias, -LARGEST_TRAINED, LARGEST_TRAINED).astype(np.int32)
                node = node.with_(params={**node.params, "bias": bounded})
            nodes.append(node)
        return replace(graph, nodes=tuple(nodes))

    def _until_end(self, graph: Graph, names: tuple[str, ...]) -> Tensor:
        """The output of the last of these nodes of the base, made by `graph` from where the walk is, as real
        numbers."""
        output = graph.value(self.base.node(names[-1]).output)
        live = {graph.input: self.images, **self.walk.live}
        nodes = _needed(graph, output.name, live)
        state = torch_executor.state_of(replace(graph, nodes=tuple(nodes)))
        for node in nodes:
            step = step_of(graph, node, state)
            arrays = [live[v][:BLOCK_IMAGES].float() for v in node.inputs]
            live[node.output] = OPS[node.op].run(step, arrays)
        result = live[output.name]
        return result if output.q is None else (result - output.q.zero_point) * output.q.scale


def _needed(graph: Graph, value: str, live: Collection[str]) -> list[Node]:
    """The nodes that make a value from those that are there."""
    made, needed, pending = producers(graph), set(), [value]
    while pending:
        if (name := pending.pop()) not in live and name not in needed:
            needed.add(name)
            pending.extend(made[name].inputs)
    return [node for node in graph.nodes if node.output in needed]


def _wide_first(formats: tuple[Format, ...]) -> list[Format]:
    return sorted(formats, key=lambda format: -format.width)


def _step(graph: Graph, name: str) -> Step:
    node = graph.node(name)
    return step_of(graph, node, torch_executor.state_of(replace(graph, nodes=(node,))))


def _unit(graph: Graph, node: Node) -> np.ndarray:
    """float64 [O]: what one unit of the layer's bias stands for."""
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    scale = np.float64(graph.value(node.inputs[0]).grid.scale)
    unit: np.ndarray = scale * weight.scale.astype(np.float64)
    return unit


def _sqnr(exact: Tensor, actual: Tensor) -> float:
    """Signal over noise, dB; 200 where there is no noise."""
    noise = float((actual - exact).double().square().sum())
    signal = float(exact.double().square().sum())
    return 200.0 if noise == 0.0 else 10.0 * math.log10(max(signal, 1e-300) / noise)

"""Splits fused float nodes where quantized arithmetic or calibration needs the parts."""

from __future__ import annotations

from dataclasses import replace

from subbyte.ir import Graph, Node, Value, is_weighted
from subbyte.ir.graph import consumers
from subbyte.quant.format import FP32, UINT8
from subbyte.quantize.assignment import Assignment


def split_for_integers(
    graph: Graph, assignments: dict[str, Assignment]
) -> tuple[Graph, dict[str, Assignment]]:
    """A float graph of equal meaning whose quantized nodes all have a quantized form.

    A residual behind an activation becomes an add; an activation that makes an output of the
    network becomes a float32 node behind a float32 accumulator. The new nodes' assignments are added.
    """
    nodes, values, asked = [], dict(graph.values), dict(assignments)
    read = consumers(graph)
    for node in graph.nodes:
        plain = not is_weighted(node) or node.attrs["act"] == "none" or not asked[node.name].quantized
        if plain:
            nodes.append(node)
        elif len(node.inputs) == 2:
            inner = replace(values[node.output], name=f"{node.output}.activated")
            values[inner.name] = inner
            nodes.append(node.with_(inputs=node.inputs[:1], output=inner.name))
            add = Node(f"{node.name}.add", "add", (inner.name, node.inputs[1]), node.output)
            asked[add.name] = asked[node.name]
            nodes.append(add)
        elif node.output in graph.outputs and not read[node.output]:
            inner = replace(values[node.output], name=f"{node.output}.linear")
            values[inner.name] = inner
            nodes.append(node.with_(output=inner.name, attrs={**node.attrs, "act": "none"}))
            act = Node(
                f"{node.name}.act", "activation", (inner.name,), node.output, {"act": node.attrs["act"]}
            )
            asked[act.name] = Assignment(FP32, UINT8)
            nodes.append(act)
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), values=values), asked


def pre_value(node: Node) -> str:
    """The value that holds a conv2d's or linear's Σ x·w + bias in the graph of `exposed`."""
    fused = node.attrs["act"] != "none" or len(node.inputs) == 2
    return f"{node.output}:sum" if fused else node.output


def exposed(graph: Graph) -> Graph:
    """The float graph with every activation and residual of a conv2d or linear as its own node.

    Values keep their names; `pre_value` names what lies before activation and residual.
    """
    nodes: list[Node] = []
    values = dict(graph.values)
    for node in graph.nodes:
        if not is_weighted(node) or pre_value(node) == node.output:
            nodes.append(node)
            continue
        shape, act = values[node.output].shape, node.attrs["act"]
        current = pre_value(node)
        values[current] = Value(current, shape)
        nodes.append(node.with_(inputs=node.inputs[:1], output=current, attrs={**node.attrs, "act": "none"}))
        if act != "none":
            output = node.output if len(node.inputs) == 1 else f"{node.output}:activated"
            values[output] = Value(output, shape)
            nodes.append(Node(f"{node.name}:act", "activation", (current,), output, {"act": act}))
            current = output
        if len(node.inputs) == 2:
            nodes.append(Node(f"{node.name}:add", "add", (current, node.inputs[1]), node.output))
    return replace(graph, nodes=tuple(nodes), values=values)

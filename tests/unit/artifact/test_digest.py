"""The digest of a graph: everything in it counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from subbyte.artifact.digest import graph_digest
from subbyte.ir import Graph
from subbyte.quant import QTensor
from tests.fuzz.graphs import seeds


def changed_params(graph: Graph) -> dict[tuple[str, str], Graph]:
    """By node and role: the graph with one number of that parameter changed, if only a little."""
    result = {}
    for node in graph.nodes:
        for role, param in node.params.items():
            if isinstance(param, QTensor):
                scale = param.scale.copy()
                scale[-1] = np.nextafter(scale[-1], np.float32(np.inf))
                other: np.ndarray | QTensor = replace(param, scale=scale)
            else:
                other = array = param.copy()
                flat = array.reshape(-1)
                plus = (
                    np.nextafter(flat[-1], array.dtype.type(9)) if array.dtype.kind == "f" else flat[-1] ^ 1
                )
                flat[-1] = plus
            new = node.with_(params={**node.params, role: other})
            nodes = tuple(new if n is node else n for n in graph.nodes)
            result[node.name, role] = replace(graph, nodes=nodes)
    return result


def test_everything_counts() -> None:
    graph = seeds()["mixed"].graph
    digests: dict[tuple[str, ...], str] = {(): graph_digest(graph)}
    assert graph_digest(seeds()["mixed"].graph) == digests[()]
    for key, other in changed_params(graph).items():
        digests[key] = graph_digest(other)
    name, value = next((n, v) for n, v in graph.values.items() if v.q is not None)
    assert value.q is not None
    moved = replace(value, q=replace(value.q, zero_point=value.q.zero_point ^ 1))
    digests["grid",] = graph_digest(replace(graph, values={**graph.values, name: moved}))
    node = next(n for n in graph.nodes if n.op == "conv2d")
    new = node.with_(attrs={**node.attrs, "groups": 99})
    digests["attrs",] = graph_digest(
        replace(graph, nodes=tuple(new if n is node else n for n in graph.nodes))
    )
    assert {role for key in digests if len(key) == 2 for role in key[1:]} >= {"weight", "bias", "table"}
    assert len(set(digests.values())) == len(digests)

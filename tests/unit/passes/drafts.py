"""Random graphs, their equality, and the check that a pass keeps their meaning."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from subbyte.execute.reference.bounds import float_error_bound
from subbyte.execute.reference.executor import run_node
from subbyte.ir import OPS, Graph, Node, Value, verify
from subbyte.ir.graph import Param

ACTS = ("relu", "relu6", "silu", "hard_swish", "sigmoid", "gelu")


CheckPass = Callable[..., Graph]  # (pass, graph, seed)
Equal = Callable[[Graph, Graph], bool]
RandomGraph = Callable[[int], Graph]


class Draft:
    """Builds a graph line by line; values are called v0, v1, … and nodes after their value."""

    def __init__(self, shape: tuple[int, ...] = (5, 4, 3), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.values = {"x": Value("x", shape)}
        self.nodes: list[Node] = []

    def emit(
        self,
        op: str,
        inputs: Iterable[str],
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Param] | None = None,
    ) -> str:
        name = f"v{len(self.nodes)}"
        node = Node(f"node_{name}", op, tuple(inputs), name, attrs or {}, params or {})
        self.values[name] = Value(name, OPS[op].shape(node, [self.values[v].shape for v in inputs]))
        self.nodes.append(node)
        return name

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def conv(
        self,
        x: str,
        out: int = 3,
        kernel: int = 1,
        act: str = "none",
        depthwise: bool = False,
        residual: str | None = None,
    ) -> str:
        channels = self.values[x].shape[2]
        out, groups = (channels, channels) if depthwise else (out, 1)
        per_group = channels // groups
        side = kernel // 2
        weight = self.normal(out, kernel, kernel, per_group) / np.float32(
            (kernel * kernel * per_group) ** 0.5
        )
        attrs = {"stride": [1, 1], "pad": [side] * 4, "groups": groups, "act": act}
        inputs = [x] if residual is None else [x, residual]
        return self.emit("conv2d", inputs, attrs, {"weight": weight, "bias": self.normal(out)})

    def linear(self, x: str, out: int = 3) -> str:
        size = self.values[x].shape[0]
        weight = self.normal(out, size) / np.float32(size**0.5)
        return self.emit("linear", [x], {"act": "none"}, {"weight": weight, "bias": self.normal(out)})

    def batch_norm(self, x: str) -> str:
        size = self.values[x].shape[-1]
        params = {role: self.normal(size) for role in ("weight", "bias", "mean")}
        return self.emit("batch_norm", [x], {"eps": 1e-3}, {**params, "var": 0.5 + np.abs(self.normal(size))})

    def activation(self, x: str, act: str = "relu") -> str:
        return self.emit("activation", [x], {"act": act})

    def add(self, x: str, y: str) -> str:
        return self.emit("add", [x, y])

    def squeeze_excite(self, x: str, act: str = "silu", gate: str = "sigmoid") -> str:
        pooled = self.emit("global_avg_pool", [x])
        squeezed = self.activation(self.conv(pooled, 2), act)
        return self.emit("mul", [x, self.activation(self.conv(squeezed, self.values[x].shape[2]), gate)])

    def graph(self, *outputs: str) -> Graph:
        return verify(Graph("x", outputs or (self.nodes[-1].output,), self.values, tuple(self.nodes)))


def random_graph(seed: int) -> Graph:
    """Twelve random operations on (5, 4, 3) maps, two outputs; every data flow the passes look at occurs."""
    draft = Draft(seed=seed)
    maps = ["x"]
    for _ in range(12):
        recent = maps[-3:]  # mostly chains, sometimes forks
        a, b = (recent[draft.rng.integers(len(recent))] for _ in range(2))
        kind = draft.rng.integers(7)
        act = ACTS[draft.rng.integers(len(ACTS))]
        makers: list[Callable[[], str]] = [
            partial(draft.conv, maps[-1]),
            partial(draft.conv, a, kernel=3, depthwise=True),
            partial(draft.batch_norm, maps[-1]),
            partial(draft.batch_norm, a),
            partial(draft.activation, maps[-1], act),
            partial(draft.add, a, b),
            partial(draft.squeeze_excite, a),
        ]
        maps.append(makers[kind]())
    pooled = draft.emit("flatten", [draft.emit("global_avg_pool", [maps[-1]])])
    vector = draft.activation(draft.batch_norm(draft.linear(pooled)), "silu")
    return draft.graph(vector, maps[-1 - int(draft.rng.integers(3))])


def equal(a: Graph, b: Graph) -> bool:
    def rows(graph: Graph) -> list[tuple[object, ...]]:
        return [
            (
                n.name,
                n.op,
                n.inputs,
                n.output,
                dict(n.attrs),
                {k: np.asarray(v).tobytes() for k, v in n.params.items()},
            )
            for n in graph.nodes
        ]

    return (a.input, a.outputs, dict(a.values), rows(a)) == (b.input, b.outputs, dict(b.values), rows(b))


def _renamed(graph: Graph, seed: int) -> tuple[Graph, Callable[[str], str]]:
    """The graph under shuffled, meaningless names, and the renaming."""
    rng = np.random.default_rng(seed)
    names = sorted({n.name for n in graph.nodes} | set(graph.values))
    new = dict(zip(names, (f"q{i}" for i in rng.permutation(len(names))), strict=True))

    def rename(name: str) -> str:
        return new[name]

    return _apply_names(graph, rename), rename


def _apply_names(graph: Graph, rename: Callable[[str], str]) -> Graph:
    nodes = tuple(
        n.with_(name=rename(n.name), inputs=tuple(map(rename, n.inputs)), output=rename(n.output))
        for n in graph.nodes
    )
    values = {rename(k): replace(v, name=rename(k)) for k, v in graph.values.items()}
    return Graph(rename(graph.input), tuple(map(rename, graph.outputs)), values, nodes)


def _run_between(
    graph: Graph, x: np.ndarray, kept: set[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every value, and its bound counted from the last values in `kept`."""
    values, errors, bounds = {graph.input: x}, {graph.input: np.zeros(x.shape)}, {}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        bound = float_error_bound(graph, node, inputs, [errors[name] for name in node.inputs])
        values[node.output], bounds[node.output] = run_node(graph, node, inputs), bound
        errors[node.output] = np.zeros(bound.shape) if node.output in kept else bound
    return values, bounds


def check_pass(transform: Callable[[Graph], Graph], graph: Graph, seed: int = 0) -> Graph:
    """Asserts that `transform` keeps the meaning, is idempotent and blind to names; returns its result.

    Values keep their names, so every node of the result is compared from equal inputs with the
    nodes it stands for. Both compute the same function of reals (folded weights are rounded once,
    which counts as one more term), so they differ by no more than the sum of their float32 bounds.
    """
    result = verify(transform(graph))
    shape = graph.value(graph.input).shape
    x = np.random.default_rng(seed).standard_normal((2, *shape)).astype(np.float32)
    before, bounds = _run_between(graph, x, set(result.values))
    assert result.outputs == graph.outputs
    for node in result.nodes:
        inputs = [before[name] for name in node.inputs]
        bound = bounds[node.output] + float_error_bound(result, node, inputs)
        expected, got = before[node.output].astype(np.float64), run_node(result, node, inputs)
        assert (np.abs(expected - got) <= bound).all(), node.name
        scale = max(np.abs(array).max() for array in (expected, *inputs))
        assert bound.max() <= 1e-4 * scale, "the bound is too loose to prove anything"
    assert equal(transform(result), result)
    renamed, rename = _renamed(graph, seed)
    assert equal(transform(renamed), _apply_names(result, rename))
    return result

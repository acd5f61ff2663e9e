"""Small float32 graphs with seeded weights for the tests of compression."""

from __future__ import annotations

import numpy as np

from subbyte.ir import Graph, Node, Value, verify


class FloatNetwork:
    """Grows a float graph; every method appends a node and returns the name of its value.

    Layers are called as told, other nodes by their op and position; values are called `<node>:out`.
    """

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        print(f"seed {seed}")
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.values = {"image": Value("image", shape)}

    def emit(self, op: str, inputs: tuple[str, ...], shape: tuple[int, ...], name: str = "", **fields) -> str:  # type: ignore[no-untyped-def]
        name = name or f"{op}{len(self.nodes)}"
        output = f"{name}:out"
        self.values[output] = Value(output, shape)
        self.nodes.append(Node(name, op, inputs, output, fields.get("attrs", {}), fields.get("params", {})))
        return output

    def weights(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        weight = self.rng.standard_t(5, size=shape) / np.sqrt(np.prod(shape[1:]))
        bias = self.rng.normal(size=shape[0]) * 0.3
        return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}

    def conv(  # type: ignore[no-untyped-def]
        self,
        name: str,
        x: str,
        outputs: int,
        kernel: int = 1,
        act: str = "none",
        groups: int = 1,
        residual=None,
    ) -> str:
        h, w, c = self.values[x].shape
        pad = kernel // 2
        attrs = {"stride": (1, 1), "pad": (pad,) * 4, "groups": groups, "act": act}
        inputs = (x,) if residual is None else (x, residual)
        params = self.weights((outputs, kernel, kernel, c // groups))
        return self.emit("conv2d", inputs, (h, w, outputs), name, attrs=attrs, params=params)

    def linear(self, name: str, x: str, outputs: int, act: str = "none") -> str:
        (c,) = self.values[x].shape
        return self.emit(
            "linear", (x,), (outputs,), name, attrs={"act": act}, params=self.weights((outputs, c))
        )

    def pool(self, x: str) -> str:
        return self.emit("global_avg_pool", (x,), (1, 1, self.values[x].shape[2]))

    def same(self, op: str, *inputs: str, **attrs: object) -> str:
        return self.emit(op, inputs, self.values[inputs[0]].shape, attrs=attrs)

    def flatten(self, x: str) -> str:
        return self.emit("flatten", (x,), (int(np.prod(self.values[x].shape)),))

    def graph(self, *outputs: str) -> Graph:
        return verify(Graph("image", outputs, self.values, tuple(self.nodes)))


def efficientnet_like(seed: int = 0) -> Graph:
    """Stem, an MBConv with squeeze-and-excitation and residual, head, classifier: every usual role."""
    net = FloatNetwork((8, 8, 3), seed)
    x = net.conv("stem", "image", 8, 3, "silu")
    y = net.conv("expand", x, 16, 1, "silu")
    y = net.conv("depthwise", y, 16, 3, "silu", groups=16)
    gate = net.conv("squeeze", net.pool(y), 4, 1, "silu")
    gate = net.conv("excite", gate, 16, 1, "sigmoid")
    y = net.same("mul", y, gate)
    x = net.conv("project", y, 8, residual=x)
    x = net.conv("head", x, 24, 1, "relu6")
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 10))


def random_images(graph: Graph, count: int, seed: int = 1) -> np.ndarray:
    """Smooth noise, float32 [count, H, W, C]."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, *graph.value(graph.input).shape))
    return (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)).astype(np.float32)

"""What part of an EfficientNet each layer is, and in which stage: by data flow, never by names.

MBConv (arXiv 1801.04381) is expansion, depthwise, projection; Fused-MBConv (arXiv 2104.00298) puts a
dense convolution in place of the first two.
"""

from __future__ import annotations

from dataclasses import dataclass

from subbyte.ir import Graph, Node, is_weighted
from subbyte.ir.graph import consumers, producers
from subbyte.passes import squeeze_excite
from subbyte.quantize.assignment import roles

#: Kinds of layers, in the order in which tables list them.
KINDS = {
    "stem": "stem",
    "fused_conv": "Fused-MBConv, one convolution",
    "fused_expand": "Fused-MBConv expansion",
    "fused_project": "Fused-MBConv projection",
    "expand": "MBConv expansion",
    "depthwise": "depthwise",
    "project": "MBConv projection",
    "se_reduce": "squeeze-excite reduction",
    "se_expand": "squeeze-excite expansion",
    "head": "head convolution",
    "classifier": "classifier",
    "other": "other",
}


@dataclass(frozen=True)
class Component:
    """kind: a key of KINDS. stage: "stem", "1", "2", … or "head"."""

    kind: str
    stage: str


def components(graph: Graph) -> dict[str, Component]:
    """Node name to component, for all nodes of an optimized float graph.

    A stage is a run of blocks that end in the same shape (H, W, C). Nodes without weights count to
    the layer whose output they work on; theirs is also its kind.
    """
    flow = _Flow(graph)
    kinds, ends = flow.classify()
    stages: dict[str, str] = {}
    shape, number = None, 0
    for node in graph.nodes:
        if node.name not in kinds:
            continue
        if kinds[node.name] in ("head", "classifier"):
            stages[node.name] = "head"
        elif kinds[node.name] == "stem":
            stages[node.name] = "stem"
        else:
            closing = graph.value(graph.node(ends.get(node.name, node.name)).output).shape
            number += closing != shape
            shape = closing
            stages[node.name] = str(number)
    result: dict[str, Component] = {}
    for node in graph.nodes:
        layer = node if node.name in kinds else flow.before(node.inputs[0])
        known = layer is not None and layer.name in kinds
        result[node.name] = (
            Component(kinds[layer.name], stages[layer.name])  # type: ignore[union-attr]
            if known
            else Component("other", "stem")
        )
    return result


class _Flow:
    """Questions about which layer feeds which."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.roles = graph, roles(graph)
        self.made, self.read = producers(graph), consumers(graph)

    def before(self, value: str) -> Node | None:
        """The layer with weights that `value` comes from, along first inputs."""
        node = self.made.get(value)
        while node is not None and not is_weighted(node):
            node = self.made.get(node.inputs[0])
        return node

    def after(self, node: Node) -> Node | None:
        """The first layer that reads what `node` makes, gated or activated on the way, but not pooled."""
        for reader in self.read[node.output]:
            if is_weighted(reader) and reader.inputs[0] == node.output:
                return reader
            passes = reader.op == "activation" or (reader.op == "mul" and reader.inputs[0] == node.output)
            if passes and (found := self.after(reader)) is not None:
                return found
        return None

    def classify(self) -> tuple[dict[str, str], dict[str, str]]:
        """Kind of each layer with weights, and the layer that ends the block it belongs to."""
        kinds: dict[str, str] = {}
        ends: dict[str, str] = {}
        layers = [node for node in self.graph.nodes if is_weighted(node)]
        for node in layers:
            if "last" in self.roles[node.name]:
                kinds[node.name] = "classifier"
            elif "first" in self.roles[node.name]:
                kinds[node.name] = "stem"
        for node in layers:
            if "depthwise" in self.roles[node.name]:
                self._mbconv(node, kinds, ends)
        for node in layers:
            if "spatial" in self.roles[node.name] and node.name not in kinds:
                self._fused(node, kinds, ends)
        for block in squeeze_excite(self.graph):
            outer = self.before(block.input)
            for name, kind in ((block.reduce, "se_reduce"), (block.expand, "se_expand")):
                kinds[name] = kind
                if outer is not None:
                    ends[name] = ends.get(outer.name, outer.name)
        heads = {self._name_before(node) for node in layers if kinds.get(node.name) == "classifier"}
        for node in layers:
            kinds.setdefault(node.name, "head" if node.name in heads else "other")
        return kinds, ends

    def _name_before(self, node: Node) -> str | None:
        found = self.before(node.inputs[0])
        return None if found is None else found.name

    def _mbconv(self, depthwise: Node, kinds: dict[str, str], ends: dict[str, str]) -> None:
        kinds[depthwise.name] = "depthwise"
        project = self.after(depthwise)
        if project is None or "pointwise" not in self.roles[project.name]:
            return
        kinds.setdefault(project.name, "project")
        ends[depthwise.name] = project.name
        expand = self.before(depthwise.inputs[0])
        if expand is not None and "pointwise" in self.roles[expand.name] and _widens(expand):
            kinds.setdefault(expand.name, "expand")
            ends[expand.name] = project.name

    def _fused(self, node: Node, kinds: dict[str, str], ends: dict[str, str]) -> None:
        project = self.after(node)
        if project is None or project.name in kinds or "pointwise" not in self.roles[project.name]:
            kinds[node.name] = "fused_conv"
            return
        if project.attrs["act"] != "none" or not _widens(node):
            kinds[node.name] = "fused_conv"
            return
        kinds[node.name], kinds[project.name] = "fused_expand", "fused_project"
        ends[node.name] = project.name


def _widens(node: Node) -> bool:
    """Whether the layer makes more channels than it reads."""
    weight = node.params["weight"].shape
    groups: int = node.attrs["groups"]
    return weight[0] > weight[-1] * groups

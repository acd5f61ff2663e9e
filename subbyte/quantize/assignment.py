"""What a recipe asks of every node of a graph: formats, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from subbyte.errors import RecipeError
from subbyte.ir import OPS, Graph, Node, is_weighted
from subbyte.ir.graph import consumers, producers
from subbyte.ir.ops import adds_residual
from subbyte.passes import squeeze_excite
from subbyte.quant.format import FLOAT_FORMATS, Format
from subbyte.recipes import Override, Recipe


@dataclass(frozen=True)
class Assignment:
    """Of one node. `asked` says whether an override set `activations`.

    weights: of its weights, of FLOAT_FORMATS where the node runs in float32 (fp16 is a way to store them);
    without a code book. activations: of its output, where that is quantized.
    """

    weights: Format
    activations: Format
    asked: bool = False

    @property
    def quantized(self) -> bool:
        """Whether the node computes on codes."""
        return not self.weights.is_float


def roles(graph: Graph) -> dict[str, set[str]]:
    """Node name to its roles (see recipes.Role), by data flow."""
    found: dict[str, set[str]] = {node.name: _shape_roles(node) for node in graph.nodes}
    for block in squeeze_excite(graph):
        for name in (block.pool, block.reduce, block.expand):
            found[name].add("squeeze_excite")
    fed: set[str] = set()  # weighted nodes that feed another
    behind: dict[str, set[str]] = {graph.input: set()}  # value: the weighted nodes nearest before it
    for node in graph.nodes:
        nearest = set().union(*(behind[name] for name in node.inputs))
        if is_weighted(node):
            if not nearest:
                found[node.name].add("first")
            fed |= nearest
            nearest = {node.name}
        behind[node.output] = nearest
    for node in graph.nodes:
        if is_weighted(node) and node.name not in fed:
            found[node.name].add("last")
    return found


def _shape_roles(node: Node) -> set[str]:
    result = set()
    if node.op == "linear":
        result.add("linear")
    if node.op == "conv2d":
        weight, groups = node.params["weight"].shape, node.attrs["groups"]
        if groups > 1 and groups == weight[0] and weight[3] == 1:
            result.add("depthwise")
        else:
            result.add("pointwise" if weight[1:3] == (1, 1) else "spatial")
    if node.op == "add" or adds_residual(node):
        result.add("residual")
    return result


def assignments(graph: Graph, recipe: Recipe) -> dict[str, Assignment]:
    """Node name to what the recipe asks of it.

    Raises RecipeError if an override matches nothing, or asks for what its nodes do not have.
    """
    role_of = roles(graph)
    result = {node.name: _group(recipe, role_of[node.name]) for node in graph.nodes}
    for name in _feeding_last(graph, role_of):
        result[name] = replace(result[name], activations=recipe.last.activations)
    precision: dict[str, str] = dict.fromkeys(result, recipe.precision)
    for rule in recipe.override:
        _apply(graph, rule, role_of, result, precision)
    for name in real_by_nature(graph):
        precision[name] = "fp32"
    return {
        name: replace(found, weights=FLOAT_FORMATS.get(precision[name], found.weights))
        for name, found in result.items()
    }


def real_by_nature(graph: Graph) -> set[str]:
    """The nodes that compute in float32 whatever a recipe asks: operations that have no arithmetic on codes,
    and what only moves elements between such operations."""
    made, read = producers(graph), consumers(graph)
    lacking = {node.name for node in graph.nodes if not OPS[node.op].quantizable}
    found = lacking | {node.name for node in graph.nodes if OPS[node.op].keeps_grid}
    while True:
        left = {
            node.name
            for node in graph.nodes
            if node.name in found - lacking
            and not (
                all(name in made and made[name].name in found for name in node.inputs)
                and node.output not in graph.outputs
                and all(reader.name in found for reader in read[node.output])
            )
        }
        if not left:
            return found
        found -= left


def _group(recipe: Recipe, node_roles: set[str]) -> Assignment:
    weights, activations = recipe.weights.bits, recipe.activations.bits
    if "squeeze_excite" in node_roles:
        weights, activations = recipe.squeeze_excite.weights, recipe.squeeze_excite.activations
    if "first" in node_roles:
        weights = recipe.first.weights
    if "last" in node_roles:
        weights = recipe.last.weights
    return Assignment(weights, activations)


def _feeding_last(graph: Graph, role_of: Mapping[str, set[str]]) -> set[str]:
    """The nodes that make what the last layers read, looking through ops that keep their grid."""
    made, result = producers(graph), set()
    pending = [n.inputs[0] for n in graph.nodes if "last" in role_of[n.name]]
    while pending:
        node = made.get(pending.pop())
        if node is not None and OPS[node.op].keeps_grid:
            pending.extend(node.inputs)
        elif node is not None:
            result.add(node.name)
    return result


def _apply(
    graph: Graph,
    rule: Override,
    role_of: Mapping[str, set[str]],
    result: dict[str, Assignment],
    precision: dict[str, str],
) -> None:
    nodes = [
        node
        for node in graph.nodes
        if (rule.match is None or fnmatchcase(node.name, rule.match))
        and (rule.role is None or rule.role in role_of[node.name])
    ]
    if not nodes and rule.match is not None:
        raise RecipeError(f"the override for {rule.match!r} fits no layer; {_some_names(graph)}")
    if nodes and rule.weights is not None and not any(is_weighted(n) for n in nodes):
        raise RecipeError(f"the override for {rule.match!r} sets weights, but fits no layer with weights")
    for node in nodes:
        changed = result[node.name]
        if rule.precision is not None:
            precision[node.name] = rule.precision
        if rule.weights is not None:
            changed = replace(changed, weights=rule.weights)
        if rule.activations is not None:
            changed = replace(changed, activations=rule.activations, asked=True)
        if precision[node.name] in FLOAT_FORMATS and (rule.weights or rule.activations):
            raise RecipeError(
                f"layer {node.name!r} is to run in {precision[node.name]} and with quantized bits; "
                "drop one of the two overrides"
            )
        result[node.name] = changed


def _some_names(graph: Graph) -> str:
    names = [node.name for node in graph.nodes if is_weighted(node)]
    return f"its layers are called {', '.join(names[:3])}, …"

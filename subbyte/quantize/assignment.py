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
from subbyte.quant.format import FLOAT_FORMATS, INT8, UINT8, Format, pattern_named
from subbyte.quant.pattern import DENSE, Pattern
from subbyte.quantize.spared import spared_activations, spared_weights
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
    """Node name to what the recipe asks of it. Depthwise layers are dense, whatever pattern it asks for.

    Raises RecipeError if an override matches nothing, or asks for what its nodes do not have.
    """
    role_of = roles(graph)
    result = {node.name: _group(recipe, role_of[node.name]) for node in graph.nodes}
    feeding_last = _feeding_last(graph, role_of)
    for name in feeding_last:
        result[name] = replace(result[name], activations=recipe.last.activations)
    _spare(graph, recipe, role_of, feeding_last, result)
    precision: dict[str, str] = dict.fromkeys(result, recipe.precision)
    for rule in recipe.override:
        _apply(graph, rule, role_of, result, precision)
    for name in real_by_nature(graph):
        precision[name] = "fp32"
    for name, found in result.items():
        weights = found.weights.dense if "depthwise" in role_of[name] else found.weights
        result[name] = replace(found, weights=FLOAT_FORMATS.get(precision[name], weights))
    return result


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
    weights, activations = recipe.weights.format, recipe.activations.bits
    if "squeeze_excite" in node_roles:
        weights, activations = recipe.squeeze_excite.format, recipe.squeeze_excite.activations
    if "first" in node_roles:
        weights = recipe.first.format
    if "last" in node_roles:
        weights = recipe.last.format
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


def _spare(
    graph: Graph,
    recipe: Recipe,
    role_of: Mapping[str, set[str]],
    feeding_last: set[str],
    result: dict[str, Assignment],
) -> None:
    """Gives 8 bits, and no pattern, to what the recipe spares of what no other rule of it sets."""
    free = {name for name in result if "squeeze_excite" not in role_of[name]}
    ruled = {kind: _ruled(graph, recipe, role_of, kind) for kind in ("weights", "activations")}
    if recipe.weights.spare and recipe.weights.format != INT8:
        middle = {name for name in free if not role_of[name] & {"first", "last"}}
        for name in spared_weights(graph, recipe.weights.spare, middle - ruled["weights"]):
            result[name] = replace(result[name], weights=INT8)
    if recipe.activations.spare and recipe.activations.bits.bits < 8:
        makers = free - feeding_last - ruled["activations"] - real_by_nature(graph)
        for name in spared_activations(graph, recipe.activations.spare, makers):
            result[name] = replace(result[name], activations=UINT8)


def _ruled(graph: Graph, recipe: Recipe, role_of: Mapping[str, set[str]], kind: str) -> set[str]:
    """The nodes whose weights or activations an override sets."""
    rules = [rule for rule in recipe.override if getattr(rule, kind) or rule.precision]
    return {node.name for rule in rules for node in _fitting(graph, rule, role_of)}


def _fitting(graph: Graph, rule: Override, role_of: Mapping[str, set[str]]) -> list[Node]:
    return [
        node
        for node in graph.nodes
        if (rule.match is None or fnmatchcase(node.name, rule.match))
        and (rule.role is None or rule.role in role_of[node.name])
    ]


def _apply(
    graph: Graph,
    rule: Override,
    role_of: Mapping[str, set[str]],
    result: dict[str, Assignment],
    precision: dict[str, str],
) -> None:
    nodes = _fitting(graph, rule, role_of)
    if not nodes and rule.match is not None:
        raise RecipeError(f"the override for {rule.match!r} fits no layer; {_some_names(graph)}")
    weighted = [node for node in nodes if is_weighted(node)]
    if nodes and not weighted and (rule.weights is not None or rule.pattern is not None):
        raise RecipeError(f"the override for {rule.match!r} sets weights, but fits no layer with weights")
    pattern = _pattern_of(rule)
    depthwise = weighted and all("depthwise" in role_of[node.name] for node in weighted)
    if depthwise and pattern is not None and pattern != DENSE:
        raise RecipeError(
            f"the override for {rule.match or rule.role!r} asks for the pattern {pattern.name}, but fits "
            "depthwise layers only, which are always dense; drop it"
        )
    for node in nodes:
        changed = result[node.name]
        if rule.precision is not None:
            precision[node.name] = rule.precision
        if rule.weights is not None:
            changed = replace(changed, weights=replace(rule.weights, pattern=changed.weights.pattern))
        if pattern is not None:
            changed = replace(changed, weights=replace(changed.weights, pattern=pattern))
        if rule.activations is not None:
            changed = replace(changed, activations=rule.activations, asked=True)
        if precision[node.name] in FLOAT_FORMATS and (rule.weights or rule.activations or pattern):
            raise RecipeError(
                f"layer {node.name!r} is to run in {precision[node.name]} and with quantized bits; "
                "drop one of the two overrides"
            )
        result[node.name] = changed


def _pattern_of(rule: Override) -> Pattern | None:
    """The pattern that a rule asks for, None if it says nothing of patterns."""
    if rule.pattern is not None:
        return pattern_named(rule.pattern)
    return rule.weights.pattern if rule.weights is not None and rule.weights.pattern != DENSE else None


def _some_names(graph: Graph) -> str:
    names = [node.name for node in graph.nodes if is_weighted(node)]
    return f"its layers are called {', '.join(names[:3])}, …"

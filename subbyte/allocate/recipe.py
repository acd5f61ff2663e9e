"""Formats of every layer as the rules of a recipe: as few as describe them, for they go into the file."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Mapping

from subbyte.ir import Graph, is_weighted
from subbyte.ir.shares import Shares, share_text
from subbyte.quant import Format
from subbyte.quant.format import INT8, UINT8
from subbyte.quantize.assignment import Assignment, assignments, roles
from subbyte.quantize.variants import eight_bits
from subbyte.recipes import Layers, Override, Recipe

#: Roles that rules are tried for, the widest first: later rules win.
ROLES = ("pointwise", "spatial", "linear", "squeeze_excite", "depthwise")


def with_formats(
    recipe: Recipe,
    graph: Graph,
    weights: Mapping[str, Format],
    activations: Mapping[str, Format],
    name: str,
    description: str = "",
) -> Recipe:
    """The recipe with these formats instead of its own; its ranges, steps and float layers stay.

    weights: by layer, for all layers with quantized weights; float formats for those that are to stay in
    floating point. activations: of what nodes make; 8 bits where none is given, unless most have fewer: then
    of all nodes that make codes. The image has 8 bits.
    """
    quantized = {name: format for name, format in weights.items() if not format.is_float}
    common = _most_common(list(quantized.values()), INT8)
    made = _most_common([activations.get(node.name, UINT8) for node in graph.nodes], UINT8)
    plain = eight_bits(recipe)
    rules = _role_rules(graph, quantized, common)
    group = Layers(weights=common, activations=made)
    changed = plain.model_copy(
        update={
            "name": name,
            "description": description,
            "weights": plain.weights.model_copy(update={"bits": common}),
            "activations": plain.activations.model_copy(update={"bits": made}),
            "first": Layers(weights=common),
            "last": group,
            "squeeze_excite": group,
            "override": (*rules, *plain.override),
        }
    )
    so_far = assignments(graph, changed)
    single = _exceptions(graph, so_far, weights, activations)
    return Recipe.model_validate(
        changed.model_copy(update={"override": (*rules, *single, *plain.override)}).model_dump()
    )


def described(found: Shares, purpose: str = "") -> str:
    """A recipe's description: "Weights: 74 % of 4 bits, 26 % of 8 bits; activations of 8 bits. Chosen for a
    file of at most ...". purpose: what the formats were chosen for.
    """
    plain: Counter[Format] = Counter()
    for format, count in found.weights.items():
        plain[format.plain] += count
    total, numbers = sum(plain.values()), sum(found.activations.values())
    weights = ", ".join(f"{100 * count / total:.0f} % of {f.words}" for f, count in plain.most_common())
    made = found.activations.items()
    activations = ", ".join(f"{share_text(count, numbers)} of {f.words}" for f, count in made)
    if set(found.activations) <= {UINT8}:
        activations = "of 8 bits"
    end = f" Chosen for {purpose}." if purpose else ""
    return f"Weights: {weights or 'none quantized'}; activations {activations}.{end}"


def _most_common(values: list[Format], default: Format) -> Format:
    return Counter(values).most_common(1)[0][0] if values else default


def _role_rules(graph: Graph, weights: Mapping[str, Format], common: Format) -> list[Override]:
    """A rule for each role most of whose layers have another format than `common`, if it saves any."""
    role_of = roles(graph)
    rules = []
    for role in ROLES:
        found = Counter(format for name, format in weights.items() if role in role_of[name])
        if found and (usual := found.most_common(1)[0][0]) != common and found[usual] > found[common] + 1:
            pattern = {} if usual.pattern == common.pattern else {"pattern": usual.pattern.name}
            rules.append(Override.model_validate({"role": role, "weights": usual.dense, **pattern}))
    return rules


def _exceptions(
    graph: Graph,
    so_far: Mapping[str, Assignment],
    weights: Mapping[str, Format],
    activations: Mapping[str, Format],
) -> list[Override]:
    result = []
    for node in graph.nodes:
        assignment = so_far[node.name]
        fields: dict[str, object] = {}
        wanted = weights.get(node.name, assignment.weights)
        match = glob.escape(node.name)
        if is_weighted(node) and not wanted.is_float:
            if wanted.dense != assignment.weights.dense:
                fields["weights"] = wanted.dense
            if wanted.pattern != assignment.weights.pattern:
                fields["pattern"] = wanted.pattern.name
        if activations.get(node.name, assignment.activations) != assignment.activations:
            fields["activations"] = activations[node.name]
        if fields:
            result.append(Override.model_validate({"match": match, **fields}))
        if wanted.is_float and wanted != assignment.weights:
            result.append(Override.model_validate({"match": match, "precision": str(wanted)}))
    return result


def to_toml(recipe: Recipe) -> str:
    """The text of a file that load_recipe reads as an equal recipe."""
    plain = recipe.model_dump(mode="json", exclude_none=True)
    tables = {key: value for key, value in plain.items() if isinstance(value, dict)}
    overrides = plain.pop("override")
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items() if key not in tables]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
    for rule in overrides:
        lines += ["", "[[override]]", *(f"{name} = {_toml(value)}" for name, value in rule.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Text, numbers and lists of them, whose JSON is TOML."""
    return json.dumps(value, ensure_ascii=False)

"""`subbyte check`: whether a network can be compressed, or everything that stops it."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from subbyte.cli.console import show, show_json, styled
from subbyte.cli.options import Channels, InputSize, Json, Model, OwnInput, Traceback, Weights
from subbyte.cli.source import load_model
from subbyte.errors import InputError, RecipeError, SubbyteError, UnsupportedOperatorError
from subbyte.importers import importer_of
from subbyte.importers.table import is_quantized, known_operators
from subbyte.ir import Graph, macs
from subbyte.passes.dequantize import dequantize_graph

if TYPE_CHECKING:
    from subbyte.importers.rules.problems import Problem

SHOWN = 4  # modules of one problem, the rest is counted


def check(
    model: Model,
    weights: Weights = None,
    input_size: InputSize = None,
    channels: Channels = None,
    traceback: Traceback = False,
    json: Json = False,
) -> None:
    """Whether a network can be compressed: what it costs, or every operator that stops it.

    Needs neither weights (they are random then) nor images. Exit status 1 if something stops it.
    """
    chosen = weights or ("random" if importer_of(model).weights == "needed" else None)
    try:
        graph = load_model(model, chosen, OwnInput(input_size, channels)).graph
    except UnsupportedOperatorError as error:
        (show_json if json else _show_problems)(_stopped(model, error.problems))
        raise typer.Exit(1) from None
    except InputError:
        raise
    except SubbyteError as error:
        if not json:
            raise
        show_json({"model": model, "supported": False, "problems": [{"reason": str(error)}]})
        raise typer.Exit(1) from None
    (show_json if json else _show_facts)(_facts(model, graph))


def _stopped(model: str, problems: tuple[Problem, ...]) -> dict[str, Any]:
    """Equal problems of several modules are one entry; `modules` names one of each time it occurs."""
    entries: dict[tuple[str, str, str], dict[str, Any]] = {}
    for problem in problems:
        site = problem.site
        key = (site.operator, site.kind, problem.reason)
        names = dict(zip(("operator", "class", "reason"), key, strict=True))
        entry = entries.setdefault(key, {**names, "modules": [], "lines": []})
        entry["modules"].append(site.module)
        if site.line and site.line not in entry["lines"]:
            entry["lines"].append(site.line)
    found = [entry | {"count": len(entry["modules"])} for entry in entries.values()]
    return {"model": model, "supported": False, "problems": found}


def _show_problems(stopped: dict[str, Any]) -> None:
    table = Table("operator", "times", "module", "why, and what to do", box=None)
    for entry in stopped["problems"]:
        kind = f" ({entry['class']})" if entry["class"] else ""
        names = list(dict.fromkeys(name or "the model's own forward" for name in entry["modules"]))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        places = (", ".join(names[:SHOWN]) + more + kind, *entry["lines"][:SHOWN])
        where = Text("\n  ").join(styled(place, "") for place in places)
        table.add_row(entry["operator"], str(entry["count"]), where, entry["reason"])
    count = sum(entry["count"] for entry in stopped["problems"])
    show(
        f"{stopped['model']} cannot be compressed: {count} unsupported operator{'s' * (count > 1)}",
        "",
        table,
        "",
        f"Supported operators: {', '.join(known_operators(stopped['model']))}",
    )


def _facts(model: str, graph: Graph) -> dict[str, Any]:
    return {
        "model": model,
        "supported": True,
        "input": list(graph.value(graph.input).shape),
        "outputs": {name: list(graph.value(name).shape) for name in graph.outputs},
        "layers": dict(Counter(node.op for node in graph.nodes)),
        "macs": sum(macs(graph).values()),
        "parameters": sum(prod(param.shape) for node in graph.nodes for param in node.params.values()),
        "quantized": is_quantized(graph),
        "recipes": _recipes(dequantize_graph(graph) if is_quantized(graph) else graph),
    }


def _recipes(graph: Graph) -> dict[str, str | None]:
    """Name to None, or to what speaks against the recipe."""
    from subbyte.quantize.assignment import assignments
    from subbyte.quantize.grids import shared_formats
    from subbyte.quantize.prepare import split_for_integers
    from subbyte.recipes import list_recipes, load_recipe

    result: dict[str, str | None] = {}
    for name in list_recipes():
        recipe = load_recipe(name)
        try:
            split, asked = split_for_integers(graph, assignments(graph, recipe))
            if any(assignment.quantized for assignment in asked.values()):
                shared_formats(split, asked, recipe)
            result[name] = None
        except RecipeError as error:
            result[name] = str(error)
    return result


def _show_facts(facts: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("input", " x ".join(map(str, facts["input"])))
    for name, shape in facts["outputs"].items():
        table.add_row("output", f"{name} {' x '.join(map(str, shape))}")
    table.add_row("layers", ", ".join(f"{count} {op}" for op, count in facts["layers"].items()))
    table.add_row("multiply-accumulates", f"{facts['macs']:,} an image")
    table.add_row("parameters", f"{facts['parameters']:,}")
    table.add_row("recipes", ", ".join(name for name, against in facts["recipes"].items() if against is None))
    for name, against in facts["recipes"].items():
        if against is not None:
            table.add_row(f"not {name}", against)
    stays = "; it is quantized already, and stays so without a recipe" if facts["quantized"] else ""
    show(f"{facts['model']} can be compressed{stays}", "", table)

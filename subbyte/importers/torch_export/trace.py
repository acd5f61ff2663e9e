"""capture: a torch module to a Graph, operator by operator."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from subbyte.errors import GraphError, InputError, UnsupportedOperatorError
from subbyte.importers.rules.arguments import Rule
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand
from subbyte.importers.rules.problems import Problem, Site, advice
from subbyte.importers.torch_export.export import export, functionalized
from subbyte.importers.torch_export.operators import RULES, VIEWS
from subbyte.importers.torch_export.same import identity
from subbyte.importers.torch_export.sites import Call, sites
from subbyte.ir import Graph

#: To an Operand; to a tensor that does not depend on the image; to None, of which nothing is known:
#: behind a problem, where no stand-in has the shape.
Environment = dict[fx.Node, Any]
#: By the operator that was called, which may be repeated in the program; or by the number of an output.
Problems = dict[Call | int, Problem]


@dataclass(frozen=True)
class Survey:
    """The graph, or everything that stops the network from having one."""

    graph: Graph | None
    problems: tuple[Problem, ...]


def capture(module: nn.Module, shape: tuple[int, int, int]) -> Graph:
    """The float32 graph of `module`, traced in evaluation mode on one image.

    module: takes float32 [N, C, H, W]; gives one tensor or a tuple, list or dict of them.
    shape: (H, W, C) of the image.

    Nodes are named after the module that ran them (`blocks.3.0.conv_pw`; operators of a module
    with children get their own name behind its path), values after their node. Maps are (H, W, C),
    weights [O, kh, kw, I/groups]. Nothing is folded or fused: see subbyte.passes.optimize.

    Raises InputError for a bad shape, UnsupportedOperatorError for an operator outside the table
    (the first, and how many more there are: `survey` tells all), SubbyteError if torch.export cannot
    trace the module.
    """
    return _graph(survey(module, shape))


def capture_program(program: torch.export.ExportedProgram, shape: tuple[int, int, int]) -> Graph:
    """The float32 graph of a program that torch.export made, on one image of `shape` (H, W, C).

    Raises InputError if the program takes something else, and GraphError and UnsupportedOperatorError as
    `capture` does.
    """
    height, width, channels = _checked(shape)
    names = program.graph_signature.user_inputs
    taken = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in names]
    if taken != [(1, channels, height, width)]:
        raise InputError(
            f"the program takes {' and '.join(str(list(one)) for one in taken) or 'nothing'}, not one image "
            f"[1, {channels}, {height}, {width}]; export it with such an example"
        )
    functional = functionalized(program)
    return _graph(_surveyed(functional, program, shape, frozenset()))


def _graph(result: Survey) -> Graph:
    if result.graph is None:
        first, *others = result.problems
        more = f"; and {len(others)} more, which `subbyte check` lists" if others else ""
        raise UnsupportedOperatorError(f"{first}{more}", result.problems)
    return result.graph


def _checked(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise InputError(f"shape must be three positive integers (H, W, C), not {shape!r}")
    return shape


def survey(module: nn.Module, shape: tuple[int, int, int]) -> Survey:
    """Like `capture`, but an unsupported operator is noted, and the operators behind it looked at.

    Of those that only read what an unsupported operator made, nothing is said unless they are
    unsupported themselves. Raises InputError, GraphError and SubbyteError as `capture` does.
    """
    program, traced = export(module, _checked(shape))
    containers = frozenset(
        name for name, child in module.named_modules(remove_duplicate=False) if any(child.children())
    )
    return _surveyed(program, traced, shape, containers)


def _surveyed(
    program: torch.export.ExportedProgram,
    traced: torch.export.ExportedProgram,
    shape: tuple[int, int, int],
    containers: frozenset[str],
) -> Survey:
    """The functional program that `traced` became, operator by operator."""
    builder = Builder(shape, containers)
    where = sites(traced.graph, program.graph)
    env: Environment = {}
    problems: Problems = {}
    outputs: Sequence[str] = []
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "placeholder":
                env[node] = _placeholder(program, node, builder)
            elif node.op == "output":
                outputs = _outputs(builder, _user_outputs(program, node), env, problems)
            elif node.op == "call_function":
                env[node] = _step(builder, node, env, *where[node], problems)
            else:
                env[node] = None  # a subgraph, refused where it is called
    if problems:
        return Survey(None, tuple(problems.values()))
    return Survey(builder.finish(outputs), ())


def _placeholder(program: torch.export.ExportedProgram, node: fx.Node, builder: Builder) -> Any:
    signature = program.graph_signature
    for targets in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        if node.name in targets:
            target = targets[node.name]
            return program.state_dict[target] if target in program.state_dict else program.constants[target]
    if node.name in signature.inputs_to_lifted_tensor_constants:
        return program.constants[signature.inputs_to_lifted_tensor_constants[node.name]]
    return builder.made(builder.input, tuple(node.meta["val"].shape))


def _user_outputs(program: torch.export.ExportedProgram, node: fx.Node) -> list[fx.Node | None]:
    names = program.graph_signature.user_outputs
    by_name = {arg.name: arg for arg in node.args[0] if isinstance(arg, fx.Node)}  # type: ignore[union-attr]
    return [by_name.get(name) if isinstance(name, str) else None for name in names]


def _outputs(
    builder: Builder, nodes: list[fx.Node | None], env: Environment, problems: Problems
) -> list[str]:
    builder.path = "output"
    values = []
    for i, node in enumerate(nodes):
        x = None if node is None else env[node]
        if node is not None and x is None:
            continue  # behind a problem
        try:
            values.append(_output(builder, x))
        except Rejected as reason:  # an output is named itself, not the view that it is
            problems[i] = Problem(Site(f"output {i}", "", ""), str(reason))
    return values


def _output(builder: Builder, x: Any) -> str:
    if not isinstance(x, Operand):
        raise Rejected("it does not depend on the image; leave it out")
    if len(x.shape) < 2 or x.shape[0] != 1:
        raise Rejected(f"an output must have the batch as its first axis, not be {list(x.shape)}")
    if len(x.shape) == 4:
        value = builder.map(x)
    else:
        value = builder.vector(x) if len(x.shape) == 2 else builder.rows(x)
    if value == builder.input:
        raise Rejected("it is the image itself; leave it out")
    return value


def _step(
    builder: Builder, node: fx.Node, env: Environment, called: Call, site: Site, problems: Problems
) -> Any:
    """The node's result. A refusal becomes a problem of what was `called`, and the result a stand-in."""
    builder.path = site.module
    try:
        if all(env[n] is not None for n in node.all_input_nodes):
            return _translate(builder, node, env, site)
        if _makes_tensors(node):
            _rule(node)
    except Rejected as reason:
        text = str(reason) if reason.origin is None else f"{site} reads its result; {reason}"
        problems.setdefault(called, Problem(reason.origin or site, text))
    except GraphError as error:
        problems.setdefault(called, Problem(site, _without_node(str(error))))
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)):
        return tuple(_stand_in(builder, item) for item in value)
    return _stand_in(builder, value)


def _without_node(text: str) -> str:
    """A GraphError's text without the node that it names: the site does."""
    return re.sub(r"^node .*?\): ", "", text)


def _makes_tensors(node: fx.Node) -> bool:
    """Unlike arithmetic and assertions on sizes, which torch adds behind shapes that depend on values."""
    return isinstance(node.meta.get("val"), (torch.Tensor, tuple, list))


def _stand_in(builder: Builder, value: Any) -> Operand | None:
    return builder.stand_in(tuple(value.shape)) if isinstance(value, torch.Tensor) else None


def _translate(builder: Builder, node: fx.Node, env: Environment, site: Site) -> Any:
    args: Any = fx.map_arg(node.args, env.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    if node.target is operator.getitem:
        return _first(*args) if isinstance(args[0], Operand) else args[0][args[1]]
    overload = isinstance(node.target, torch._ops.OpOverload)
    if overload and not any(isinstance(env[n], Operand) for n in node.all_input_nodes):
        return _constant(node.target, args, kwargs)
    made = node.meta.get("val")
    if isinstance(made, torch.Tensor) and any(isinstance(n, int) and n == 0 for n in made.shape):
        # such as the tokens of a network that has none
        return torch.zeros(made.shape)
    rule = _rule(node)
    named = _by_schema_name(node.target, args, kwargs)
    result: Any = rule(builder, map_aggregate(named, _as_array), _shape(node))
    if isinstance(result, np.ndarray):
        return torch.from_numpy(result)
    return replace(result, origin=site) if rule in VIEWS and isinstance(result, Operand) else result


def _as_array(x: Any) -> Any:
    """A tensor as rules take constants: an array; of 16-bit numbers in float32."""
    if not isinstance(x, torch.Tensor):
        return x
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return wide.detach().cpu().numpy()


def _rule(node: fx.Node) -> Rule:
    """What translates the node, unless it is a getitem. Raises Rejected if nothing does."""
    if node.target is operator.getitem:
        return identity
    if not isinstance(node.target, torch._ops.OpOverload):
        raise Rejected("the graph has no branches and loops; decide what runs when the model is built")
    name = node.target._schema.name.rpartition("::")[2]
    if name not in RULES:
        raise Rejected(advice(name))
    return RULES[name]


def _first(result: Operand, index: int) -> Operand:
    if index != 0:
        raise Rejected(f"only its first result is known, not number {index}")
    return result


def _constant(target: Any, args: Any, kwargs: Any) -> Any:
    """Evaluates an operator that does not depend on the image (weight normalization, ...)."""
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise Rejected("it is random")
    return target(*args, **kwargs)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """torch's shape of the (first) result; () for an operator without one, such as an assertion."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) else value
    return () if value is None else tuple(value.shape)


def _by_schema_name(target: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    arguments = target._schema.arguments
    named: dict[str, Any] = {a.name: a.default_value for a in arguments}
    named.update(zip((a.name for a in arguments), args, strict=False))
    return {**named, **kwargs}

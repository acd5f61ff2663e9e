"""capture: a torch module to a Graph, operator by operator."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from subbyte.capture.builder import Builder, Operand, Rejected
from subbyte.capture.export import export
from subbyte.capture.operators import RULES
from subbyte.errors import GraphError, InputError, SubbyteError, UnsupportedOperatorError
from subbyte.ir import Graph

Environment = dict[fx.Node, Any]  # to an Operand, or to a tensor that does not depend on the image


def capture(module: nn.Module, shape: tuple[int, int, int]) -> Graph:
    """The float32 graph of `module`, traced in evaluation mode on one image.

    module: takes float32 [N, C, H, W]; gives one tensor or a tuple, list or dict of them.
    shape: (H, W, C) of the image.

    Nodes are named after the module that ran them (`blocks.3.0.conv_pw`; operators of a module
    with children get their own name behind its path), values after their node. Maps are (H, W, C),
    weights [O, kh, kw, I/groups]. Nothing is folded or fused: see subbyte.passes.optimize.

    Raises InputError for a bad shape, UnsupportedOperatorError for an operator outside the table,
    SubbyteError if torch.export cannot trace the module.
    """
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise InputError(f"shape must be three positive integers (H, W, C), not {shape!r}")
    program = export(module, shape)
    containers = frozenset(
        name for name, child in module.named_modules(remove_duplicate=False) if any(child.children())
    )
    builder = Builder(shape, containers)
    env: Environment = {}
    results: list[Any] = []
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "placeholder":
                env[node] = _placeholder(program, node, builder)
            elif node.op == "output":
                results = _user_outputs(program, node)
            elif node.op == "call_function":
                env[node] = _translate(builder, node, env)
            else:
                env[node] = None  # a subgraph, refused where it is called
    return builder.finish([_output(builder, env.get(node), i) for i, node in enumerate(results)])


def _placeholder(program: torch.export.ExportedProgram, node: fx.Node, builder: Builder) -> Any:
    signature = program.graph_signature
    for targets in (signature.inputs_to_parameters, signature.inputs_to_buffers):
        if node.name in targets:
            target = targets[node.name]
            return program.state_dict[target] if target in program.state_dict else program.constants[target]
    if node.name in signature.inputs_to_lifted_tensor_constants:
        return program.constants[signature.inputs_to_lifted_tensor_constants[node.name]]
    return Operand(builder.input, tuple(node.meta["val"].shape))


def _user_outputs(program: torch.export.ExportedProgram, node: fx.Node) -> list[Any]:
    names = program.graph_signature.user_outputs
    by_name = {arg.name: arg for arg in node.args[0] if isinstance(arg, fx.Node)}  # type: ignore[union-attr]
    return [by_name.get(name) if isinstance(name, str) else None for name in names]


def _output(builder: Builder, x: Any, index: int) -> str:
    builder.path = "output"
    if not isinstance(x, Operand):
        raise SubbyteError(f"output {index} of the model does not depend on the image; leave it out")
    if x.value == builder.input:
        raise SubbyteError(f"output {index} of the model is the image itself; leave it out")
    try:
        return builder.map(x) if len(x.shape) == 4 else builder.vector(x)
    except Rejected as reason:
        raise UnsupportedOperatorError(
            f"output {index} of the model cannot be a graph output: {reason}"
        ) from None


def _translate(builder: Builder, node: fx.Node, env: Environment) -> Any:
    args: Any = fx.map_arg(node.args, env.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    if node.target is operator.getitem:
        return _first(node, *args) if isinstance(args[0], Operand) else args[0][args[1]]
    path, kind = _module_of(node)
    builder.path = path
    try:
        if not isinstance(node.target, torch._ops.OpOverload):  # a subgraph: torch.cond and its like
            raise Rejected("")
        if not any(isinstance(env[n], Operand) for n in node.all_input_nodes):
            return _constant(node.target, args, kwargs)
        rule = RULES.get(node.target._schema.name.removeprefix("aten::"))
        if rule is None:
            raise Rejected("")
        return rule(builder, _by_schema_name(node.target, args, kwargs), _shape(node))
    except (Rejected, GraphError) as reason:
        raise UnsupportedOperatorError(_explain(node, path, kind, str(reason))) from None


def _first(node: fx.Node, result: Operand, index: int) -> Operand:
    if index != 0:
        raise UnsupportedOperatorError(
            f"only the first result of {node.args[0]} is supported, not number {index}"
        )
    return result


def _constant(target: torch._ops.OpOverload, args: Any, kwargs: Any) -> Any:
    """Evaluates an operator that does not depend on the image (weight normalization, ...)."""
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise Rejected("it is random")
    return target(*args, **kwargs)


def _shape(node: fx.Node) -> tuple[int, ...]:
    """torch's shape of the (first) result; () for an operator without one, such as an assertion."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) else value
    return () if value is None else tuple(value.shape)


def _by_schema_name(target: torch._ops.OpOverload, args: Any, kwargs: Any) -> dict[str, Any]:
    arguments = target._schema.arguments
    named = {a.name: a.default_value for a in arguments}
    named.update(zip((a.name for a in arguments), args, strict=False))
    return named | kwargs


def _module_of(node: fx.Node) -> tuple[str, str]:
    """Path and class name of the innermost module that ran the node ("", "" unknown)."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return path.split("@")[0], kind.rsplit(".", 1)[-1]


def _explain(node: fx.Node, path: str, kind: str, reason: str) -> str:
    where = f"module {path!r}" if path else "the model's own forward"
    where += f" ({kind})" if kind else ""
    why = f": {reason}" if reason else ""
    return f"operator {node.target} in {where} is not supported{why}; supported operators: {', '.join(RULES)}"

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
    containers = frozenset(name for name, child in module.named_modules() if any(child.children()))
    builder = Builder(shape, containers)
    env: Environment = {}
    results: list[Any] = []
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "placeholder":
                env[node] = _placeholder(program, node, builder)
            elif node.op == "output":
                results = _user_outputs(program, node)
            else:
                env[node] = _translate(builder, node, env)
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
    if not isinstance(x, Operand) or x.value == builder.input:
        raise SubbyteError(
            f"output {index} of the model is not computed from the image; return only tensors that are"
        )
    try:
        return builder.map(x) if len(x.shape) == 4 else builder.vector(x)
    except Rejected as reason:
        raise UnsupportedOperatorError(
            f"output {index} of the model cannot be a graph output: {reason}"
        ) from None


def _translate(builder: Builder, node: fx.Node, env: Environment) -> Any:
    args = fx.map_arg(node.args, env.__getitem__)
    kwargs = fx.map_arg(node.kwargs, env.__getitem__)
    if node.target is operator.getitem:
        return args[0][args[1]] if isinstance(args[0], (tuple, list)) else _first(node, *args)
    path, kind = _module_of(node)
    builder.path = path
    name = node.target._overloadpacket.__name__  # type: ignore[union-attr]
    try:
        if not any(isinstance(env.get(n), Operand) for n in node.all_input_nodes):
            return _constant(node, args, kwargs)
        if name not in RULES or node.target.namespace != "aten":  # type: ignore[union-attr]
            raise Rejected("")
        arguments = _by_schema_name(node, args, kwargs)
        return RULES[name](builder, arguments, _shape(node))
    except Rejected as reason:
        raise UnsupportedOperatorError(_explain(node, path, kind, str(reason))) from None
    except GraphError as reason:
        raise UnsupportedOperatorError(_explain(node, path, kind, str(reason))) from None


def _first(node: fx.Node, result: Operand, index: int) -> Operand:
    if index != 0:
        raise UnsupportedOperatorError(
            f"only the first result of {node.args[0]} is supported, not number {index}"
        )
    return result


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """Evaluates an operator that does not depend on the image (weight normalization, ...)."""
    if torch.Tag.nondeterministic_seeded in node.target.tags:  # type: ignore[union-attr]
        raise Rejected("it is random")
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _shape(node: fx.Node) -> tuple[int, ...]:
    value = node.meta["val"]
    return tuple((value[0] if isinstance(value, (tuple, list)) else value).shape)


def _by_schema_name(node: fx.Node, args: Any, kwargs: Any) -> dict[str, Any]:
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    named = {a.name: a.default_value for a in arguments}
    named.update(zip((a.name for a in arguments), args))
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

"""Which module, and which line of the user's, ran each operator of an exported program."""

from __future__ import annotations

import operator
import re
import sysconfig
from pathlib import Path

import torch
from torch import fx

from subbyte.importers.rules.problems import Site

#: Frames of this package, of torch and of Python's library are not the user's.
_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<")
_LIBRARY = sysconfig.get_path("stdlib")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def is_users(file: str) -> bool:
    """Whether a source file is the user's, neither torch's nor of this package or Python."""
    return not file.startswith(_NOT_THEIRS) and (not file.startswith(_LIBRARY) or "site-packages" in file)


Call = tuple[str, str]  # an operator of the traced program by name, and what it became


def sites(traced: fx.Graph, functional: fx.Graph) -> dict[fx.Node, tuple[Call, Site]]:
    """Which call of the traced program each operator of the functional one comes from, and its site.

    Making a program functional repeats the views of what was changed in place, wherever they are read
    next, as if whoever reads them had called them; here they come from who did.
    """
    before = {node.name: node for node in traced.nodes}
    nodes = [node for node in functional.nodes if node.op == "call_function"]
    sources = {node: before.get(_source(node), node) for node in nodes}
    whole = {source for node, source in sources.items() if _name(node) == _name(source)}
    result: dict[fx.Node, tuple[Call, Site]] = {}
    for node, source in sources.items():
        if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
            result[node] = result[node.args[0]]
            continue
        if source in whole and _name(node) != _name(source) and _is_view(node):
            source = _view_before(source) or source
        result[node] = (source.name, _name(node)), _site(source, str(node.target))
    return result


def _view_before(node: fx.Node) -> fx.Node | None:
    """The nearest operator, among those that the node's inputs come from, that makes a view."""
    pending, seen = list(node.all_input_nodes), {node}
    while pending:
        found = pending.pop(0)
        if _is_view(found):
            return found
        if found not in seen:
            seen.add(found)
            pending.extend(found.all_input_nodes)
    return None


def _is_view(node: fx.Node) -> bool:
    """Whether the result shares memory with an input that is not written to."""
    returns = node.target._schema.returns if isinstance(node.target, torch._ops.OpOverload) else ()
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _source(node: fx.Node) -> str:
    """The name of the operator of the traced program that this one comes from."""
    origins = node.meta.get("from_node") or [None]
    return str(getattr(origins[0], "name", ""))


def _name(node: fx.Node) -> str:
    return _bare(str(node.target))


def _bare(target: str) -> str:
    """relu of aten.relu_.default: namespace, overload and the mark of working in place do not count."""
    return target.removeprefix("aten.").partition(".")[0].rstrip("_")


def _site(node: fx.Node, called: str) -> Site:
    line = _users_line(node.meta.get("stack_trace") or "")
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return Site(called, "", "", line)
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return Site(called, path.split("@")[0], kind.rsplit(".", 1)[-1], line)


def _users_line(stack_trace: str) -> str:
    """`file:line` of the innermost frame of a printed stack trace that is the user's, or ""."""
    theirs = [match for match in _FRAME.findall(stack_trace) if is_users(match[0])]
    return ":".join(theirs[-1]) if theirs else ""

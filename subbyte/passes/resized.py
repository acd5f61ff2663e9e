"""A network on images of another size than it was made for: the same weights, other maps."""

from __future__ import annotations

from dataclasses import replace

from subbyte.errors import GraphError, InputError
from subbyte.ir import OPS, Graph, verify


def resized(graph: Graph, height: int, width: int) -> Graph:
    """The graph, verified, on images of this size; work falls with their area, and no weight changes.

    Maps shrink or grow as the layers' windows say. Numbers that mean pixels of the input stay what they
    were, pixels of the old one. A network has to be trained on for the new size: what it has learned of
    sizes holds for the old one (arXiv 1906.06423).

    Raises InputError where the outputs would get other shapes, a layer reads a whole map, or an operation
    makes maps of a size of its own, and where the maps become smaller than a window.
    """
    channels = graph.value(graph.input).shape[-1]
    shapes: dict[str, tuple[int, ...]] = {graph.input: (height, width, channels)}
    for node in graph.nodes:
        if "size" in node.attrs:
            raise InputError(f"{node.op} {node.name!r} makes maps of a size of its own, whatever the input's")
        try:
            shapes[node.output] = OPS[node.op].shape(node, [shapes[name] for name in node.inputs])
        except GraphError as error:
            raise InputError(f"the network does not fit images of {height} x {width}: {error}") from None
    for name in graph.outputs:
        if shapes[name] != graph.value(name).shape:
            raise InputError(
                f"output {name!r} would have the shape {shapes[name]} in place of {graph.value(name).shape}"
            )
    values = {name: replace(value, shape=shapes[name]) for name, value in graph.values.items()}
    return verify(replace(graph, values=values))

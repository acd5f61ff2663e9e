"""What candidates cost on a device, and what they may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from subbyte.artifact import Artifact
from subbyte.device import Target, artifact_bytes, layers
from subbyte.device.target import reads
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.search.graph import quantized_graph, recipe_of
from subbyte.search.space import Candidate, Space


@dataclass(frozen=True)
class Costs:
    """Of a network, for one image. latency: ms. energy: mJ, None if the device does not know it. size: bytes
    of the file. memory: bytes of activations. macs: multiply-accumulate operations."""

    latency: float
    energy: float | None
    size: int
    memory: int
    macs: int

    def to_json(self) -> dict[str, float | int | None]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """The most that a network may cost, in the units of Costs; None: anything."""

    latency: float | None = None
    energy: float | None = None
    size: int | None = None
    memory: int | None = None

    def violations(self, costs: Costs) -> tuple[float, ...]:
        """By how much of each limit costs are above it; below, 0 or less.

        Raises InputError for a limit on what the device does not know.
        """
        found = []
        for one in fields(self):
            limit, cost = getattr(self, one.name), getattr(costs, one.name)
            if limit is not None:
                found.append(_known(one.name, cost) / limit - 1.0)
        return tuple(found)


def _known(name: str, cost: float | None) -> float:
    if cost is None:
        raise InputError(f"the device does not say what {name} layers need; choose another --target")
    return cost


def cost_of(costs: Costs, name: str) -> float:
    """One of them by name. Raises InputError if the device does not know it."""
    return _known(name, getattr(costs, name))


def costs_of(space: Space, candidates: Sequence[Candidate], outputs: int, target: Target) -> list[Costs]:
    """Of networks of the space with so many outputs, in the formats of their stages.

    Raises InputError if the device does not run a layer in its format.
    """
    graphs = {str(i): quantized_graph(candidate, outputs) for i, candidate in enumerate(candidates)}
    target.prepare(graphs)
    pairs = zip(graphs.values(), candidates, strict=True)
    return [_costs(graph, space, candidate, target) for graph, candidate in pairs]


def _costs(graph: Graph, space: Space, candidate: Candidate, target: Target) -> Costs:
    latency, energy, macs = 0.0, 0.0, 0
    known = True
    for name, layer in layers(graph).items():
        node = graph.node(name)
        weights, activations = weights_of(node), reads(graph, node)
        if not target.supports(layer, weights, activations):
            raise InputError(
                f"{target.name} does not run {layer.signature} with weights of {weights or 'no format'}; "
                f"take what asks for it out of the space {space.name}"
            )
        cost = target.cost(layer, weights, activations)
        latency, macs = latency + cost.time, macs + layer.macs
        known = known and cost.energy is not None
        energy += cost.energy or 0.0
    way, recipe = space.input(candidate.resolution), recipe_of(candidate).model_dump(mode="json")
    size = artifact_bytes(Artifact(graph, recipe, way, None, {}))
    return Costs(latency, energy if known else None, size, target.memory(graph).activations, macs)

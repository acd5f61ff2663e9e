"""Who takes part in a benchmark: artifacts on this package's engine, and peers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subbyte.artifact import Artifact, load, save
from subbyte.benchmark.engine_file import EngineFile
from subbyte.benchmark.peer import Peer
from subbyte.errors import InputError
from subbyte.execute.reference import run as reference_run
from subbyte.ir import Graph, is_weighted
from subbyte.metrics.output_check import Check, check
from subbyte.quant import QTensor
from subbyte.system.version import __version__

Outputs = tuple[np.ndarray, ...]

#: Least correlation with the float network, below which a peer computes something else. Post-training
#: INT8 of an untrained network can be poor; a network with its layout mixed up is near 0.
LEAST_CORRELATION = {"fp32": 0.9999, "bf16": 0.9, "int8": 0.5}
#: The same for an artifact with float32 layers, beside its own reference: roundings may move codes.
#: Without such layers it has to be equal.
LEAST_SELF_CORRELATION = 0.999


@dataclass(frozen=True)
class Candidate:
    """A loaded network that can be verified and timed.

    run: float32 [batch, H, W, C] to its outputs, channels last.
    bind: the same input to the function that is timed; it is in the candidate's own layout by then.
    layout: the input to that layout. write: puts the network's file into a folder unless it is one.
    graph: what an artifact stands for in the reference (None for a peer, which runs the float network).
    executed: multiply-accumulates of an image, without those that the engine skips (None for a peer).
    """

    name: str
    precision: str
    version: str
    file_bytes: int
    run: Callable[[np.ndarray], Outputs]
    bind: Callable[[np.ndarray], Callable[[], object]]
    layout: Callable[[np.ndarray], np.ndarray]
    write: Callable[[Path], EngineFile]
    graph: Graph | None = None
    isa: str | None = None
    sha256: str | None = None
    executed: int | None = None

    @property
    def label(self) -> str:
        """Name and precision, "openvino-int8"."""
        return f"{self.name}-{self.precision}"


def from_peer(peer: Peer) -> Candidate:
    """A peer as a candidate; the transposition to its layout is not timed."""

    def bind(x: np.ndarray) -> Callable[[], object]:
        own = peer.layout(x)
        return lambda: peer.run(own)

    return Candidate(
        peer.name,
        peer.precision,
        peer.version,
        peer.file_bytes,
        lambda x: _tuple(peer(x)),
        bind,
        peer.layout,
        lambda folder: EngineFile(peer.name, peer.precision, str(peer.write(folder))),
    )


def from_artifact(source: str | Path | Artifact, *, threads: int = 1, isa: str | None = None) -> Candidate:
    """An artifact on the native engine; its precision is the recipe's name, if it has one.

    Raises ArtifactError for a damaged file, InputError for threads or an isa that cannot be had.
    """
    from subbyte.execute.native import Session
    from subbyte.execute.native.executed import executed_macs

    artifact = source if isinstance(source, Artifact) else load(source)
    data = None if isinstance(source, Artifact) else Path(source).read_bytes()
    session = Session(artifact, threads=threads, isa=isa)
    precision = artifact.recipe.get("name") or weight_precision(artifact.graph)

    def write(folder: Path) -> EngineFile:
        path = folder / "model.subbyte" if isinstance(source, Artifact) else Path(source)
        if isinstance(source, Artifact):
            save(path, source)
        return EngineFile("subbyte", precision, str(path), session.isa)

    return Candidate(
        "subbyte",
        precision,
        __version__,
        0 if data is None else len(data),
        lambda x: _tuple(session.run(x)),
        lambda x: lambda: session.run(x),
        lambda x: x,
        write,
        graph=artifact.graph,
        isa=session.isa,
        sha256=None if data is None else hashlib.sha256(data).hexdigest(),
        executed=sum(executed_macs(step) for step in session.plan()),
    )


def weight_precision(graph: Graph) -> str:
    """The width that most weights have, and that of most activations behind them: "w4a8", "fp32".

    "w4a4+levels": there are activations that are levels, each in a byte.
    """
    sizes: dict[str, int] = {}
    for node in graph.nodes:
        if not is_weighted(node):
            continue
        weight = node.params["weight"]
        q = graph.value(node.inputs[0]).q
        label = f"w{weight.bits}a{q.bits}" if isinstance(weight, QTensor) and q is not None else "fp32"
        sizes[label] = sizes.get(label, 0) + int(np.prod(weight.shape))
    levels = any(value.q is not None and value.q.levels is not None for value in graph.values.values())
    return max(sizes, key=lambda label: sizes[label]) + "+levels" * levels if sizes else "fp32"


@dataclass(frozen=True)
class Verified:
    """A candidate's outputs beside its own definition, and beside the float network's. fault: why a peer
    is not worth timing, None if it is."""

    own: Check
    fidelity: Check
    fault: str | None = None


def verify_candidates(
    candidates: Sequence[Candidate], real: Graph, x: np.ndarray, batch: int
) -> list[Verified]:
    """Runs every candidate on x, float32 [N, H, W, C] with N a multiple of batch.

    A peer that computes something else than its network has a fault. Raises InputError for the first
    artifact that does.
    """
    expected = _reference(real, x)
    results = []
    for candidate in candidates:
        actual = _in_batches(candidate.run, x, batch)
        fidelity = check(actual, expected)
        own = fidelity if candidate.graph is None else check(actual, _reference(candidate.graph, x))
        fault = _fault(candidate, own)
        if fault is not None and candidate.graph is not None:
            raise InputError(f"{candidate.name} {candidate.precision} {fault}; nothing was timed")
        results.append(Verified(own, fidelity, fault))
    return results


def _fault(candidate: Candidate, own: Check) -> str | None:
    if candidate.graph is not None and is_exact(candidate.graph):
        if own.equal:
            return None
        return f"differs from the reference that it should equal (correlation {own.correlation:.6f})"
    least = LEAST_CORRELATION[candidate.precision] if candidate.graph is None else LEAST_SELF_CORRELATION
    if own.correlation >= least:
        return None
    return (
        f"computes something else than its network (correlation {own.correlation:.4f}, at least {least} "
        f"expected; the same best class on {own.top1} of {own.images} images)"
    )


def is_exact(graph: Graph) -> bool:
    """Whether docs/spec/numerics.md leaves an executor no freedom: nothing reads float32 values
    but the quantization of the image."""
    return all(
        graph.value(name).q is not None
        for node in graph.nodes
        if node.op != "quantize"
        for name in node.inputs
    )


def _reference(graph: Graph, x: np.ndarray) -> Outputs:
    """One image at a time, which bounds the memory that the reference's windows take."""
    return _in_batches(lambda part: tuple(reference_run(graph, part)[n] for n in graph.outputs), x, 1)


def _in_batches(run: Callable[[np.ndarray], Outputs], x: np.ndarray, batch: int) -> Outputs:
    parts = [run(x[i : i + batch]) for i in range(0, len(x), batch)]
    return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))


def _tuple(outputs: np.ndarray | Outputs) -> Outputs:
    return outputs if isinstance(outputs, tuple) else (outputs,)

"""Where a network's time goes, layer by layer, against the engine's measured dot-product peak.

    python -m bench.roofline                       # EfficientNetV2-S at 300 x 300, w8a8
    python -m bench.roofline v2_b0-224 --recipe w4a8 --output build --name v2b0
    python -m bench.roofline model.subbyte --output build --name mine

Writes performance.md and roofline-NAME.svg. The roofline model: Williams, Waterman and Patterson,
Communications of the ACM 52 (2009). The roof here is the peak of the dot-product instruction alone: a
memory bandwidth is not measured, so a layer far below the roof may wait for memory or for other work.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import networks, svg
from bench.page import TOLERATED_LOAD
from subbyte import _native
from subbyte.artifact import load
from subbyte.benchmark.machine import Machine, commit, describe_machine
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError, SubbyteError
from subbyte.execute.native import Session
from subbyte.execute.native.executed import executed_macs
from subbyte.ir import Graph, Node
from subbyte.ir.graph import producers
from subbyte.system.cpus import choose_cpus, pinned

KINDS = ("k × k", "1 × 1", "depthwise", "squeeze-excite", "classifier", "other")
WARM_UP_RUNS = 5
TABLE_HEAD = (
    "| stage | kind | layers | MMAC | MAC/byte | µs | floor, µs | % of peak | share, % |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|",
)
PEAK_SECONDS = 0.2


@dataclass(frozen=True)
class Layer:
    """A step of the plan. macs: executed, without blocks of zeros that are skipped. moved: bytes of weights,
    inputs and output, each once. seconds: the least."""

    name: str
    kind: str
    macs: int
    moved: int
    seconds: float

    @property
    def stage(self) -> str:
        """blocks.3.1.conv_dw is of stage "blocks.3"; other names are kept up to the first dot."""
        parts = self.name.split(".")
        return ".".join(parts[:2]) if parts[0] == "blocks" and len(parts) > 2 else parts[0]


@dataclass(frozen=True)
class Profile:
    """All steps on one thread. run_seconds: of the fastest whole run. peak: GMAC/s of one core."""

    title: str
    isa: str
    runs: int
    layers: tuple[Layer, ...]
    run_seconds: float
    peak: float
    host: Machine
    commit: str | None


@dataclass
class Group:
    """Layers of one stage and kind; seconds at the peak are the floor."""

    stage: str
    kind: str
    peak: float
    layers: list[Layer] = field(default_factory=list)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def moved(self) -> int:
        return sum(layer.moved for layer in self.layers)

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers)

    @property
    def floor(self) -> float:
        return self.macs / (self.peak * 1e9)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", nargs="?", default="v2_s-300", help="part of a label, or an artifact")
    parser.add_argument("--recipe", default="w8a8", help="where no artifact is given")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--name", default="v2s", help="of the plot's file")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="see networks.py")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    try:
        title, path = find(options.network, options.recipe, options.work)
        result = measure(path, title, options.runs)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    image = options.output / f"roofline-{options.name}.svg"
    image.write_text(plot(result))
    (options.output / "performance.md").write_text(render(result, image.name))
    print(f"{title}: {result.run_seconds * 1e3:.2f} ms -> {options.output / 'performance.md'}, {image}")
    return 0


def find(network: str, recipe: str, work: Path) -> tuple[str, Path]:
    if network.endswith(".subbyte"):
        return Path(network).name, Path(network)
    for known in networks.NETWORKS:
        if network in known.label:
            return f"{known.label} {recipe}", networks.build(known, recipe, "random:0", work)
    labels = ", ".join(known.label for known in networks.NETWORKS)
    raise InputError(f"{network!r} is neither an artifact (*.subbyte) nor a part of {labels}")


def measure(source: Path | Graph, title: str, runs: int) -> Profile:
    """Profiles a network with 8-bit activations on one pinned thread; images are synthetic.

    Each step's time is the least of `runs`, which other programs disturb least. Raises InputError for
    runs < 1, ArtifactError for a damaged file.
    """
    if runs < 1:
        raise InputError(f"runs must be at least 1, got {runs}")
    with pinned(choose_cpus(1)):
        graph = load(source).graph if isinstance(source, Path) else source
        session = Session(graph)
        x = synthetic_images(session.graph.value(session.graph.input).shape, 1)
        session.profile(x, WARM_UP_RUNS)
        host, peak = describe_machine(), _peak(session.isa)
        times = np.array([session.profile(x, 1) for _ in range(runs)])
        peak = max(peak, _peak(session.isa))
    layers = tuple(layers_of(session, graph, times.min(axis=0)))
    fastest = min(math.fsum(run) for run in times)
    return Profile(title, session.isa, runs, layers, fastest, peak, host, commit())


def _peak(isa: str) -> float:
    return float(_native.peak_dot_gmacs(isa, PEAK_SECONDS))


def layers_of(session: Session, graph: Graph, seconds: Sequence[float] | np.ndarray) -> Iterator[Layer]:
    """The plan's steps with what they move; nodes that a step absorbed (gates) are looked through."""
    plan = session.plan()
    nodes = {node.name: node for node in graph.nodes}
    made_by = producers(graph)
    executed = {step["name"] for step in plan}
    gates = {name for node in graph.nodes if node.op == "mul" for name in _gate_branch(node, made_by)}

    def read(node: Node) -> Iterator[str]:
        for name in node.inputs:
            if name in made_by and made_by[name].name not in executed:
                yield from read(made_by[name])
            else:
                yield name

    for step, time in zip(plan, seconds, strict=True):
        node = nodes[step["name"]]
        moved = [*dict.fromkeys(read(node)), node.output]
        bytes_moved = sum(_bytes(graph, name) for name in moved) + step["weight_bytes"]
        kind = "squeeze-excite" if node.name in gates else kind_of(node)
        yield Layer(node.name, kind, executed_macs(step), bytes_moved, float(time))


def _gate_branch(node: Node, made_by: dict[str, Node]) -> Iterator[str]:
    """Names of the nodes from a gate back to its pooling."""
    name = node.inputs[1]
    while name in made_by and made_by[name].op in ("conv2d", "linear", "activation", "global_avg_pool"):
        yield made_by[name].name
        if made_by[name].op == "global_avg_pool":
            return
        name = made_by[name].inputs[0]


def kind_of(node: Node) -> str:
    """One of KINDS, from the operation and the weight's shape [O, kh, kw, I / groups]."""
    if node.op == "linear":
        return "classifier"
    if node.op != "conv2d":
        return "other"
    outputs, height, width, _ = node.params["weight"].shape
    if node.attrs["groups"] == outputs > 1:
        return "depthwise"
    return "1 × 1" if height == width == 1 else "k × k"


def _bytes(graph: Graph, name: str) -> int:
    value = graph.value(name)
    return math.prod(value.shape) * (4 if value.q is None else 1)


def groups_of(layers: Sequence[Layer], peak: float) -> list[Group]:
    """By stage and kind, in order of first appearance."""
    found: dict[tuple[str, str], Group] = {}
    for layer in layers:
        key = (layer.stage, layer.kind)
        found.setdefault(key, Group(*key, peak)).layers.append(layer)
    return list(found.values())


def render(profile: Profile, image: str) -> str:
    """The page."""
    groups = groups_of(profile.layers, profile.peak)
    kinds = [Group("all", kind, profile.peak) for kind in KINDS]
    for layer in profile.layers:
        kinds[KINDS.index(layer.kind)].layers.append(layer)
    whole = Group("all", "all", profile.peak, list(profile.layers))
    rows = [*groups, *(kind for kind in kinds if kind.layers), whole]
    lines = [_row(group, whole.seconds) for group in rows]
    host = profile.host
    parts = [
        "# Where the time goes",
        f"{profile.title}, one thread, {profile.isa}. Made by `python -m bench.roofline`; do not edit.",
        "The floor is the time that the multiply-accumulates take at the measured peak of the dot-product "
        f"instruction, {profile.peak:.0f} GMAC/s. All layers together take {whole.seconds * 1e3:.2f} ms "
        f"(each layer's least of {profile.runs} runs; the fastest whole run took "
        f"{profile.run_seconds * 1e3:.2f} ms), the floor is {whole.floor * 1e3:.2f} ms: "
        f"{100 * whole.floor / whole.seconds:.0f} % of the peak.",
        "Most time above the floor: " + _losses(groups) + ".",
        f"![roofline]({image})",
        "A dot is a layer, its area the layer's time, the line the peak. *MAC/byte* counts the weights, as "
        "they lie in memory, the inputs and the output once each, wherever they come from. *Share* is of the "
        "time. The last rows add up kinds and everything.",
        "\n".join([*TABLE_HEAD, *lines]),
        f"Host: {host.cpu}, {host.cpus} CPUs, {host.system}, Python {host.python}; load average "
        f"{host.load_before:.1f} at the start; commit {profile.commit or 'unknown'}. The image is "
        "synthetic; speed does not depend on it.",
    ]
    if host.load_before > 1 + TOLERATED_LOAD:
        parts.append("Disturbed: other programs were running, so whole runs took longer than they need to.")
    return "\n\n".join(parts) + "\n"


def _losses(groups: Sequence[Group], count: int = 3) -> str:
    worst = sorted(groups, key=lambda group: group.floor - group.seconds)[:count]
    return ", ".join(f"{g.stage} {g.kind} ({1e3 * (g.seconds - g.floor):.2f} ms)" for g in worst)


def _row(group: Group, total: float) -> str:
    cells = (
        group.stage,
        group.kind,
        str(len(group.layers)),
        f"{group.macs / 1e6:.1f}",
        f"{group.macs / group.moved:.1f}",
        f"{group.seconds * 1e6:.0f}",
        f"{group.floor * 1e6:.0f}",
        f"{100 * group.floor / group.seconds:.0f}",
        f"{100 * group.seconds / total:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def plot(profile: Profile) -> str:
    """GMAC/s over MAC per byte, both logarithmic, as SVG; layers without products are left out."""
    layers = [layer for layer in profile.layers if layer.macs and layer.seconds > 0]
    total = sum(layer.seconds for layer in profile.layers)
    rates = [layer.macs / layer.seconds / 1e9 for layer in layers]
    across = _axis([layer.macs / layer.moved for layer in layers], 70, 640)
    up = _axis([*rates, profile.peak], 440, 50)
    parts = [svg.text(70, 24, f"{profile.title}, {profile.isa}, one thread", size=14)]
    for tick, x in across.ticks:
        parts += [svg.line(x, 50, x, 440), svg.text(x, 457, f"{tick:g}", "middle")]
    for tick, y in up.ticks:
        parts += [svg.line(70, y, 640, y), svg.text(62, y + 4, f"{tick:g}", "end")]
    roof = up.place(profile.peak)
    parts += [
        svg.line(70, roof, 640, roof, svg.INK, 2),
        svg.text(74, roof - 6, f"measured peak {profile.peak:.0f} GMAC/s"),
        svg.text(355, 480, "multiply-accumulates per byte of weights, inputs and output", "middle"),
        svg.text(70, 42, "GMAC/s", "end"),
    ]
    for layer, rate in sorted(zip(layers, rates, strict=True), key=lambda pair: -pair[0].seconds):
        radius = 2 + 40 * math.sqrt(layer.seconds / total)
        label = f"{layer.name}: {layer.seconds * 1e6:.1f} µs, {rate:.0f} GMAC/s"
        colour = svg.COLOURS[KINDS.index(layer.kind)]
        x = across.place(layer.macs / layer.moved)
        parts.append(svg.dot(x, up.place(rate), radius, colour, label))
    return svg.page(800, 500, [*parts, *svg.legend(665, 70, KINDS)])


@dataclass(frozen=True)
class Axis:
    """place: a positive number to pixels, logarithmically; ticks: powers of ten and their places."""

    place: Callable[[float], float]
    ticks: list[tuple[float, float]]


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Whole decades around the values."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values)) + 0.05), low + 1)

    def place(value: float) -> float:
        return start + (end - start) * (math.log10(value) - low) / (high - low)

    return Axis(place, [(10.0**e, place(10.0**e)) for e in range(low, high + 1)])


if __name__ == "__main__":
    sys.exit(main())

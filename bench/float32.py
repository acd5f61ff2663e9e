"""float32 networks beside ONNX Runtime on one thread, and where their time goes.

    python -m bench.float32                       # EfficientNetV2-B0 and ResNet-50 at 224 x 224
    python -m bench.float32 --only resnet --seconds 5 --runs 20 --output build

Writes performance-float32.md. Weights are random and images synthetic: speed depends on neither.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import networks, roofline
from bench.page import TOLERATED_LOAD
from subbyte import _native
from subbyte.artifact import Artifact, load
from subbyte.benchmark.bench import bench
from subbyte.benchmark.result import BenchResult, Timing
from subbyte.errors import InputError, SubbyteError
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing

NETWORKS = ("tf_efficientnetv2_b0", "resnet50")
SIZE = 224
PEER = "onnxruntime-fp32"
SPEEDS = (
    "| network | MMAC | products at the peak, ms | ours, ms: least | CPU | ONNX Runtime, ms: least "
    "| CPU | ratio of least | ratio of CPU | ratio, median of rounds (10th to 90th percentile) |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)
KINDS = (
    "| network | kind | layers | MMAC | µs | at the peak, µs | % of peak | share, % |",
    "|---|---|---:|---:|---:|---:|---:|---:|",
)


@dataclass(frozen=True)
class Measured:
    """A network in turns with the peer, and layer by layer. The profile's peak: of float32 products."""

    result: BenchResult
    profile: roofline.Profile


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing per network")
    parser.add_argument("--runs", type=int, default=100, help="of the profile")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="see networks.py")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    try:
        chosen = [name for name in NETWORKS if options.only in name]
        if not chosen:
            raise InputError(f"--only {options.only} is no part of {', '.join(NETWORKS)}")
        measured = [measure(name, network(name, options.work), options) for name in chosen]
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    page = options.output / "performance-float32.md"
    page.write_text(render(measured))
    print("\n".join([*SPEEDS, *map(speed_row, measured), f"-> {page}"]))
    return 0


def network(name: str, work: Path) -> Graph:
    """The optimized float32 graph of one of NETWORKS."""
    if name != "resnet50":
        return load(networks.build(networks.Network(name, SIZE), "fp32", "random:0", work)).graph
    from bench.resnet50 import resnet50
    from subbyte.importers.torch_export import capture
    from subbyte.passes import optimize

    return optimize(capture(resnet50(), (SIZE, SIZE, 3)))


def measure(name: str, graph: Graph, options: argparse.Namespace) -> Measured:
    """Raises InputError for runs < 1, for a missing peer, and what else `bench` refuses."""
    artifact = Artifact(graph, {}, Preprocessing(SIZE, SIZE, (0.5,) * 3, (0.5,) * 3), None, {"model": name})
    result = bench(artifact, [PEER], seconds=options.seconds)
    profile = roofline.measure(graph, name, options.runs)
    return Measured(result, replace(profile, peak=float(_native.peak_real_gmacs(profile.isa, 0.2))))


def render(measured: Sequence[Measured]) -> str:
    """The page."""
    first = measured[0]
    host, peak = first.result.host, first.profile.peak
    parts = [
        "# float32 layers",
        f"One thread, {first.profile.isa}, in turns with ONNX Runtime. Made by `python -m bench.float32`; "
        "do not edit. Decision 0032 says how these layers are made.",
        "\n".join([*SPEEDS, *map(speed_row, measured)]),
        "*CPU* is the median of rounds of the time that the thread ran, which says more than the rest "
        f"on a busy machine. The peak, {peak:.1f} GMAC/s, is that of a tile of fused multiply-adds over "
        "1024 inputs. A network whose products all were made one by one could not be faster than the "
        "third column; 3 × 3 layers that Winograd's way makes with 16 products for 36 count as all 36 "
        "and may exceed 100 %.",
        "Where our time goes, each layer's least:",
        "\n".join([*KINDS, *(row for m in measured for row in kind_rows(m.profile))]),
        f"Host: {host.cpu}, {host.cpus} CPUs, {host.system}, Python {host.python}; load average "
        f"{host.load_before:.1f} at the start; commit {first.result.commit or 'unknown'}.",
    ]
    if host.load_before > 1 + TOLERATED_LOAD:
        parts.append(
            "Disturbed: other programs were running. Least times and ratios of rounds say most then."
        )
    return "\n\n".join(parts) + "\n"


def speed_row(m: Measured) -> str:
    ours, peer = timing(m.result, peer=False), timing(m.result, peer=True)
    assert ours.ratio is not None
    cells = (
        m.profile.title,
        f"{m.result.macs / 1e6:.0f}",
        f"{m.result.macs / m.profile.peak / 1e6:.2f}",
        f"{ours.ms.min:.2f}",
        f"{ours.cpu_ms.median:.2f}",
        f"{peer.ms.min:.2f}",
        f"{peer.cpu_ms.median:.2f}",
        f"{peer.ms.min / ours.ms.min:.2f}",
        f"{peer.cpu_ms.median / ours.cpu_ms.median:.2f}",
        f"{ours.ratio.median:.2f} ({ours.ratio.p10:.2f} to {ours.ratio.p90:.2f})",
    )
    return f"| {' | '.join(cells)} |"


def timing(result: BenchResult, peer: bool) -> Timing:
    """Raises InputError if the peer computed something else, so that there is none."""
    for t in result.timings:
        if t.peer == peer:
            return t
    raise InputError(f"there is no timing of {PEER}: {', '.join(s.reason for s in result.skipped)}")


def kind_rows(profile: roofline.Profile) -> list[str]:
    """A row for each kind of layers that there are, then all of them."""
    groups = [roofline.Group("", kind, profile.peak) for kind in roofline.KINDS]
    for layer in profile.layers:
        groups[roofline.KINDS.index(layer.kind)].layers.append(layer)
    whole = roofline.Group("", "all", profile.peak, list(profile.layers))
    return [_row(profile.title, g, whole.seconds) for g in (*groups, whole) if g.layers]


def _row(title: str, group: roofline.Group, total: float) -> str:
    cells = (
        title,
        group.kind,
        str(len(group.layers)),
        f"{group.macs / 1e6:.1f}",
        f"{group.seconds * 1e6:.0f}",
        f"{group.floor * 1e6:.0f}",
        f"{100 * group.floor / group.seconds:.0f}",
        f"{100 * group.seconds / total:.1f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

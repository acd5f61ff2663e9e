"""Speed of sparse weights: blocks of zeros against the same network without, in one run, in turns.

    python -m bench.sparse                                  # EfficientNetV2-S at 300 x 300, w8a8
    python -m bench.sparse v2_s-300 --recipe w4a8 --zeros 0,50,75
    python -m bench.sparse model.subbyte --block 4x32 --layers
    python -m bench.sparse --zeros 0,50,75 --peers litert-int8,openvino-int8,onnxruntime-int8

Blocks are chosen by chance (seed 0): speed does not depend on which. They are set to zero in all
convolutions of the quantized graph with ungrouped channels and more than one pixel, but the first and the
last, so that stem, head, squeeze-and-excitation and classifier stay dense. --layers adds, for each shape of
layer, how much faster it is than the dense one (each layer's least of all runs), and the blocks executed.
--peers are timed in the same turns; they run the dense network, as they do not skip. --narrow adds each share
with weights of so many bits, whose zeros are the same blocks. --page writes what is printed between
<!-- NAME --> and <!-- /NAME --> of a page.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.roofline import find
from subbyte import _native
from subbyte.artifact import load
from subbyte.benchmark.peer import Peer
from subbyte.benchmark.peers import load_peers
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError, SubbyteError
from subbyte.execute.native import Session
from subbyte.execute.native.executed import executed_macs
from subbyte.ir import Graph, Node
from subbyte.ir.ops import macs
from subbyte.passes.dequantize import dequantize_graph
from subbyte.quant import QTensor
from subbyte.quant.format import uniform_levels, weight_format
from subbyte.system.cpus import choose_cpus, pinned

WARM_UP_RUNS = 3
PEAK_SECONDS = 0.2
CALIBRATION_IMAGES = 8
#: Shares of a layer's dense time that count as faster.
FASTER = 0.98


@dataclass(frozen=True)
class Candidate:
    """A share of zero blocks (per cent), the plan that they lead to, and what was measured in each run. cpu:
    seconds of CPU time, which other programs do not add to. bits: of weights, None: as the network has
    them."""

    zeros: float
    plan: list[dict[str, object]]
    runs: np.ndarray  # seconds of whole runs
    cpu: np.ndarray
    layers: np.ndarray  # seconds, the least of each step
    bits: int | None = None

    @property
    def name(self) -> str:
        return f"{self.zeros:g}" if self.bits is None else f"{self.zeros:g}, int{self.bits}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("network", nargs="?", default="v2_s-300", help="part of a label, or an artifact")
    parser.add_argument("--recipe", default="w8a8", help="where no artifact is given")
    parser.add_argument("--zeros", default="0,25,50,62.5,75", help="per cent of blocks, comma-separated")
    parser.add_argument("--block", default="4x16", help="inputs x outputs")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--narrow", type=int, default=None, help="bits of weights, beside the network's own")
    parser.add_argument("--peers", default="", help="comma-separated, like litert-int8")
    parser.add_argument("--page", type=Path, default=None, help="a page to write to")
    parser.add_argument("--name", default="w8a8", help="of its marks")
    parser.add_argument("--isa", default=None, help="the engine's best one by default")
    parser.add_argument("--layers", action="store_true", help="print a table of layers, too")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="see networks.py")
    options = parser.parse_args(arguments)
    try:
        title, path = find(options.network, options.recipe, options.work)
        rows, columns = (int(side) for side in options.block.split("x"))
        shares = [0.0, *(float(text) for text in options.zeros.split(",") if float(text) > 0)]
        graph = load(path).graph
        rivals = peers_of(graph, options.peers, options.work)
        with pinned(choose_cpus(1)):
            results, times = measure(
                graph, shares, (rows, columns), options.runs, options.isa, rivals, options.narrow
            )
            isa = str(results[0].plan[0]["isa"])
            peak = float(_native.peak_dot_gmacs(isa, PEAK_SECONDS))
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    heading = f"{title}, {isa}, blocks of {options.block}, one thread, {options.runs} runs in turns"
    floor = sum(macs(graph).values()) / peak / 1e6
    lines = [f"{heading}; peak {peak:.0f} GMAC/s, at which the dense network would take {floor:.2f} ms.", ""]
    lines += network_table(results, peak)
    if times:
        lines += ["", *peer_table(results, times)]
    if options.layers:
        lines += ["", *layer_table(graph, results, peak)]
    print("\n".join(lines))
    if options.page is not None:
        options.page.write_text(placed(options.page.read_text(), options.name, lines))
    return 0


def peers_of(graph: Graph, names: str, work: Path) -> list[Peer]:
    """Other engines with the float network that the graph stands for; their INT8 files are kept in `work`."""
    wanted = [name for name in names.split(",") if name]
    if not wanted:
        return []
    real = dequantize_graph(graph)
    images = synthetic_images(real.value(real.input).shape, CALIBRATION_IMAGES, seed=1)
    return load_peers(real, wanted, calibration=[images], cache=work / "peers")


def placed(page: str, name: str, lines: Sequence[str]) -> str:
    """The page with these lines between the marks of that name. InputError if it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"the page has no {begin} ... {end}")
    return "\n".join([before + begin, *lines, end + after])


def with_zeros(graph: Graph, percent: float, block: tuple[int, int], seed: int = 0) -> Graph:
    """The graph with `percent` of the blocks (inputs, outputs) of each tap zero, of its `prunable` layers.

    Of all blocks of a layer the others are kept, their number rounded up. The smallest level of a code book
    without a zero becomes one. Raises InputError for a percentage outside 0 .. 100, or a layer that is not
    quantized.
    """
    if not 0 <= percent <= 100:
        raise InputError(f"a share of zeros must be 0 to 100 per cent, got {percent:g}")
    rng = np.random.default_rng(seed)
    chosen = {node.name for node in prunable(graph)} if percent > 0 else set()
    nodes = tuple(_pruned(node, percent, block, rng) if node.name in chosen else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def prunable(graph: Graph) -> list[Node]:
    """Ungrouped convolutions with more than one output pixel, but the first and the last of them."""
    found = [
        node
        for node in graph.nodes
        if node.op == "conv2d"
        and node.attrs["groups"] == 1
        and math.prod(graph.value(node.output).shape[:2]) > 1
    ]
    return found[1:-1]


def _pruned(node: Node, percent: float, block: tuple[int, int], rng: np.random.Generator) -> Node:
    weight = node.params["weight"]
    if not isinstance(weight, QTensor):
        raise InputError(f"{node.name}: its weights are not quantized")
    inputs, outputs = block
    o, h, w, i = weight.shape
    grid = (-(-o // outputs), h, w, -(-i // inputs))
    count = math.prod(grid)
    keep = np.zeros(count, bool)
    keep[rng.permutation(count)[: math.ceil(count * (100 - percent) / 100)]] = True
    mask = keep.reshape(grid).repeat(outputs, axis=0)[:o].repeat(inputs, axis=3)[..., :i]
    zero = np.uint8(np.abs(weight.levels.astype(np.int16)).argmin())
    levels = weight.levels.copy()
    levels[zero] = 0
    weight = replace(weight, codes=np.where(mask, weight.codes, zero), levels=levels)
    return replace(node, params={**node.params, "weight": weight})


def narrowed(graph: Graph, bits: int) -> Graph:
    """The graph whose `prunable` layers have codes of so many bits: the same zeros, other values."""
    chosen = {node.name for node in prunable(graph)}

    def narrow(node: Node) -> Node:
        weight = node.params["weight"]
        assert isinstance(weight, QTensor)
        most = (1 << (bits - 1)) - 1
        values = weight.values().astype(np.int32)
        signed = np.where(values == 0, 0, np.sign(values) * np.maximum(1, np.abs(values) * most // 128))
        codes = (signed & ((1 << bits) - 1)).astype(np.uint8)
        params = {
            **node.params,
            "weight": QTensor(codes, weight.scale, weight_format(bits), uniform_levels(bits)),
        }
        return replace(node, params=params)

    nodes = tuple(narrow(node) if node.name in chosen else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def measure(
    graph: Graph,
    shares: Sequence[float],
    block: tuple[int, int],
    runs: int,
    isa: str | None,
    rivals: Sequence[Peer] = (),
    narrow: int | None = None,
) -> tuple[list[Candidate], dict[str, np.ndarray]]:
    """A candidate for each share of zeros, and again with `narrow` bits; seconds of each peer by its label,
    of wall-clock and of CPU time, [2, runs]; all of them run in turns. InputError for runs < 1."""
    if runs < 1:
        raise InputError(f"runs must be at least 1, got {runs}")
    wanted: list[tuple[float, int | None]] = [(share, None) for share in shares]
    if narrow is not None:
        wanted += [(share, narrow) for share in shares]
    graphs = [with_zeros(graph, share, block) for share, _ in wanted]
    sessions = [
        Session(sparse if bits is None else narrowed(sparse, bits), isa=isa)
        for sparse, (_, bits) in zip(graphs, wanted, strict=True)
    ]
    x = synthetic_images(graph.value(graph.input).shape, 1)
    given = [peer.layout(x) for peer in rivals]
    for peer, own in zip(rivals, given, strict=True):
        for _ in range(WARM_UP_RUNS):
            peer.run(own)
    times = {peer.label: np.zeros((2, runs)) for peer in rivals}
    for session in sessions:
        session.profile(x, WARM_UP_RUNS)
    seconds = np.zeros((len(sessions), 2, runs))
    layers = [np.full(len(session.plan()), np.inf) for session in sessions]
    for run in range(runs):
        for i, session in enumerate(sessions):
            seconds[i, :, run] = _timed(lambda session=session: session.run(x))  # type: ignore[misc]
            layers[i] = np.minimum(layers[i], session.profile(x, 1))
        for peer, own in zip(rivals, given, strict=True):
            times[peer.label][:, run] = _timed(lambda peer=peer, own=own: peer.run(own))  # type: ignore[misc]
    candidates = [
        Candidate(share, session.plan(), seconds[i, 0], seconds[i, 1], layers[i], bits)
        for i, ((share, bits), session) in enumerate(zip(wanted, sessions, strict=True))
    ]
    return candidates, times


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall-clock and of CPU time of all threads."""
    start, before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - before


def network_table(results: Sequence[Candidate], peak: float) -> list[str]:
    """Rows of a table in Markdown: whole runs; ratios and per cent by the least CPU time."""
    lines = [
        "| zeros, % | median, ms | least, ms | least CPU, ms | dense over this | executed GMAC | % of peak "
        "| sparse layers |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for c in results:
        made = sum(executed_macs(step) for step in c.plan)
        cpu = float(c.cpu.min())
        ratio = float(results[0].cpu.min()) / cpu
        sparse = sum("+4x" in str(step["executed_weights"]) for step in c.plan)
        lines.append(
            f"| {c.name} | {1e3 * np.median(c.runs):.2f} | {1e3 * c.runs.min():.2f} | {1e3 * cpu:.2f} "
            f"| {ratio:.2f} | {made / 1e9:.2f} | {made / cpu / peak / 1e7:.0f} | {sparse} |"
        )
    return lines


def peer_table(results: Sequence[Candidate], times: dict[str, np.ndarray]) -> list[str]:
    """Rows of a table in Markdown: other engines, and how many times as much CPU time they take as each
    candidate, the least of all runs of both."""
    heads = "".join(f" over {c.name} % zeros |" for c in results)
    lines = [f"| engine | median, ms | least, ms | least CPU, ms |{heads}"]
    lines.append("|---|---:|---:|---:|" + "---:|" * len(results))
    for label, (seconds, cpu) in times.items():
        found = float(cpu.min())
        ratios = "".join(f" {found / c.cpu.min():.2f} |" for c in results)
        cells = f"{1e3 * np.median(seconds):.2f} | {1e3 * seconds.min():.2f} | {1e3 * found:.2f}"
        lines.append(f"| {label} | {cells} |{ratios}")
    return lines


def pays_from(zeros: Sequence[float], seconds: Sequence[float]) -> str:
    """The least share of zeros from which on the layer is faster than at the first, dense one."""
    slow = [i for i, each in enumerate(seconds) if each > FASTER * seconds[0]]
    first = slow[-1] + 1
    return f"{zeros[first]:g} %" if first < len(zeros) else "none"


def layer_table(graph: Graph, results: Sequence[Candidate], peak: float) -> list[str]:
    """Rows of a table in Markdown, for each shape of prunable layer: the least measured share of zeros from
    which on it is faster; dense over sparse, per cent of the peak in executed multiplications, and what is
    executed ("dense" where sparsity is not expected to pay). Of candidates with the network's own bits."""
    results = [c for c in results if c.bits is None]
    shapes: dict[str, list[str]] = {}
    for node in prunable(graph):
        o, h, w, i = node.params["weight"].shape
        height, width, _ = graph.value(node.output).shape
        shapes.setdefault(f"{h} × {w}, {i} → {o}, {height} × {width}", []).append(node.name)
    heads = "".join(f" {c.zeros:g} % zeros |" for c in results[1:])
    lines = [f"| layer | number | dense, µs each | faster from |{heads}"]
    lines.append("|---|---:|---:|---:|" + "---|" * (len(results) - 1))
    for shape, names in shapes.items():
        cells = []
        times = []
        for c in results:
            at = [k for k, step in enumerate(c.plan) if step["name"] in names]
            seconds = float(c.layers[at].sum())
            times.append(seconds)
            made = sum(executed_macs(c.plan[k]) for k in at)
            forms = {str(c.plan[k]["executed_weights"]).partition("+4x")[2].partition(":")[0] for k in at}
            form = ", ".join(sorted(f"4x{form}" if form else "dense" for form in forms))
            cells.append(f"{times[0] / seconds:.2f}, {made / seconds / peak / 1e7:.0f} %, {form}")
        lines.append(
            f"| {shape} | {len(names)} | {1e6 * times[0] / len(names):.0f} "
            f"| {pays_from([c.zeros for c in results], times)} | " + " | ".join(cells[1:]) + " |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())

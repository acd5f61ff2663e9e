"""Which networks of timm and torchvision are captured, and whether every executor then gives equal integers.

    python -m bench.architectures [NETWORK ...] [--again] [--page] [--captured]

Each network has random weights, is compressed to W8A8 with eight noise images and run on one more by the
reference, by torch and by the engine on every instruction set of this CPU. Networks that
bench/analyses/architectures.json already holds are left out unless they are named, or with --again; the
file is written after each one. --page only makes docs/architectures.md from it. --captured only captures
the networks of bench/analyses/captured.json, or those of them that are named, at the sides that stand there,
and writes what refuses them. Needs timm and torchvision.

A network with float32 operations inside cannot be compared for equality as a whole: there every layer is,
from the executor's own inputs; codes for equality, float32 numbers within the bounds of
docs/spec/numerics.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.accuracy import placed
from subbyte.benchmark.candidate import is_exact
from subbyte.compress import compress
from subbyte.errors import SubbyteError
from subbyte.execute import EXECUTORS, reference
from subbyte.execute.native import available_isas
from subbyte.execute.reference.bounds import float_error_bound
from subbyte.execute.reference.executor import run_node
from subbyte.importers.torch_export import survey
from subbyte.ir import Graph
from subbyte.passes import optimize
from subbyte.recipes import load_recipe
from subbyte.system.quiet import quiet
from subbyte.system.whole_file import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "analyses" / "architectures.json"
CAPTURED = ROOT / "bench" / "analyses" / "captured.json"
PAGE = ROOT / "docs" / "architectures.md"
BEGIN, END = "<!-- architectures -->", "<!-- /architectures -->"
#: tv: torchvision's classifiers, seg: its segmentation networks; all others are timm's.
_NAMES = """
densenet121 ghostnetv2_100 inception_v3 nfnet_l0 efficientformer_l1 resnet10t mixnet_s rexnet_100
cspdarknet53 skresnet18 dpn68 res2net50_26w_4s convnext_atto convnextv2_atto edgenext_xx_small
swin_tiny_patch4_window7_224 poolformerv2_s12 mambaout_femto tv:shufflenet_v2_x0_5
seg:deeplabv3_mobilenet_v3_large seg:lraspp_mobilenet_v3_large seg:fcn_resnet50 vit_tiny_patch16_224
levit_128s efficientvit_b0 mobilevit_xxs mobilenetv4_hybrid_medium gcresnext26ts tv:vgg11_bn tv:alexnet
hrnet_w18_small starnet_s1 fastvit_t8 ecaresnet26t mixer_s16_224 hgnetv2_b0 gc_efficientnetv2_rw_t resnet18
resnet50 mobilenetv2_100 mobilenetv3_small_050 mobilenetv3_large_100 efficientnet_b0 tf_efficientnet_lite0
tf_efficientnetv2_b0 mnasnet_small regnetx_002 regnety_002 repvgg_a0 mobileone_s0 semnasnet_075 fbnetc_100
spnasnet_100 tinynet_e lcnet_050 hardcorenas_a ghostnet_050 resnext50_32x4d seresnet18 wide_resnet50_2
xception41 dla34 selecsls42b tv:squeezenet1_1 tv:googlenet tv:mnasnet0_5 tv:resnet34 vovnet39a
ese_vovnet19b_dw tresnet_m resnest14d resnet26d botnet26t_256 eca_nfnet_l0 nf_resnet50 darknet53
repghostnet_050 mobilenetv4_conv_small efficientvit_m0 coatnet_nano_rw_224 repvit_m0_9 inception_next_atto
hiera_tiny_224 visformer_tiny mvitv2_tiny sam2_hiera_tiny
"""
NETWORKS = _NAMES.split()
#: Sides of images, where 64 is too small, or is not what the network was made for.
SIDES = {
    **{"inception_v3": 96, "efficientformer_l1": 224, "botnet26t_256": 256, "coatnet_nano_rw_224": 224},
    **{"hiera_tiny_224": 224, "visformer_tiny": 224},
}
#: Those that are made for another size when they are asked to be.
SIZED = ("vit_", "mixer_", "swin_", "levit_", "efficientvit_m")
CALIBRATION, SEED = 8, 0


def build(name: str, side: int | None = None) -> tuple[nn.Module, int]:
    """The network with random weights, in evaluation mode, and the side of its image, which may be given."""
    import timm
    import torchvision

    torch.manual_seed(SEED)
    side = side or SIDES.get(name, 64)
    kind, _, inner = name.rpartition(":")
    if kind == "tv":
        more = {"init_weights": True} if inner == "googlenet" else {}
        model = torchvision.models.get_model(inner, weights=None, **more)
    elif kind == "seg":
        model = _Main(torchvision.models.get_model(inner, weights=None, weights_backbone=None))
    else:
        sized: dict[str, Any] = {"img_size": side} if name.startswith(SIZED) else {}
        model = timm.create_model(name, pretrained=False, **sized)
    return randomize(model.eval()), side


class _Main(nn.Module):
    """A segmentation network's main output."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)["out"]
        return out


def randomize(model: nn.Module) -> nn.Module:
    """Noise in place of whatever initialization left constant: gains, statistics, tables of zeros."""
    generator = torch.Generator().manual_seed(SEED)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if (
            not tensor.is_floating_point()
            or tensor.numel() == 0
            or bool((tensor != tensor.flatten()[0]).any())
        ):
            continue
        positive = tensor.ndim <= 1 and not name.endswith(("bias", "mean", "beta"))
        with torch.no_grad():
            if positive:
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.1, generator=generator)
    return model


def tried(name: str) -> dict[str, Any]:
    """What became of a network: a row of the results."""
    start = time.monotonic()
    model, side = build(name)
    row: dict[str, Any] = {"input": [side, side, 3]}
    try:
        with quiet():
            found = survey(model, (side, side, 3))
    except SubbyteError as error:
        return row | {"refused": str(error)}
    if found.graph is None:
        return row | {"refused": str(found.problems[0]), "problems": len(found.problems)}
    graph = optimize(found.graph)
    rng = np.random.default_rng(SEED)
    images, x = (rng.standard_normal((n, side, side, 3)).astype(np.float32) for n in (CALIBRATION, 1))
    with torch.no_grad(), quiet():
        real = _channels_last(model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())))
        quantized = compress(graph, load_recipe("w8a8"), [images])
    compared = comparison(quantized, x)
    first = compared.pop("output")
    row |= compared | {"operations": len(quantized.nodes)}
    row["correlation"] = round(float(np.corrcoef(first.ravel(), real.ravel())[0, 1]), 4)
    return row | {"seconds": round(time.monotonic() - start)}


def refusal(name: str, side: int) -> str:
    """Why the network is not captured at images of this side; "" if it is."""
    model, _ = build(name, side)
    try:
        with quiet():
            found = survey(model, (side, side, 3))
    except SubbyteError as error:
        return str(error)
    return "" if found.graph is not None else str(found.problems[0])


def recapture(names: list[str]) -> int:
    """bench/analyses/captured.json anew, for all networks in it or those named."""
    rows = json.loads(CAPTURED.read_text("utf-8"))
    for name in names or list(rows):
        rows[name]["refused"] = refusal(name, rows[name]["side"])
        print(f"{name}: {rows[name]['refused'] or 'captured'}", flush=True)
        write_whole(CAPTURED, [(json.dumps(rows, indent=1) + "\n").encode()])
    print(f"{sum(not row['refused'] for row in rows.values())} of {len(rows)} networks are captured")
    return 0


def _channels_last(y: Any) -> np.ndarray:
    """The first output of a module."""
    y = y[0] if isinstance(y, (tuple, list)) else y
    array: np.ndarray = y.numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def comparison(graph: Graph, x: np.ndarray) -> dict[str, Any]:
    """`exact`, whether numerics.md leaves no freedom; `executors`, by name: "equal", "layers equal" where
    only each layer from the same inputs can be, or what differs; `output`, the first one's numbers."""
    exact = is_exact(graph)
    expected = reference.run(graph, x)
    prepared: list[tuple[str, str, dict[str, Any]]] = [("torch", "torch", {})]
    prepared += [(f"engine {isa}", "native", {"isa": isa}) for isa in available_isas()]
    executors = {}
    for label, executor, options in prepared:
        made = EXECUTORS[executor].prepare(graph, **options).run(x)
        if all(np.array_equal(made[name], expected[name]) for name in graph.outputs):
            executors[label] = "equal"
        else:
            executors[label] = "differs" if exact else layers(graph, x, executor, options)
    name = graph.outputs[0]
    q = graph.value(name).q
    return {
        "exact": exact,
        "executors": executors,
        "output": expected[name] if q is None else q.dequantize(expected[name]),
    }


def layers(graph: Graph, x: np.ndarray, executor: str, options: Mapping[str, Any]) -> str:
    """Every node beside the reference's, from the executor's own inputs."""
    whole = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    values = EXECUTORS[executor].prepare(whole, **options).run(x) | {graph.input: x}
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        wanted, made = run_node(graph, node, arrays), values[node.output]
        if np.array_equal(wanted, made):
            continue
        if any(graph.value(name).q is not None for name in (*node.inputs, node.output)):
            return f"differs at {node.name} ({node.op})"
        if not (np.abs(made - wanted.astype(np.float64)) <= float_error_bound(graph, node, arrays)).all():
            return f"beyond its bound at {node.name} ({node.op})"
    return "layers equal"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: how many were captured, and a row for each network."""
    captured = [row for row in results.values() if "refused" not in row]
    equal = [row for row in captured if set(row["executors"].values()) == {"equal"}]
    alike = [row for row in captured if set(row["executors"].values()) <= {"equal", "layers equal"}]
    lines = [
        f"{len(captured)} of {len(results)} networks tried are captured. Of these {len(equal)} give equal",
        "outputs in the reference, in torch and in the engine on every instruction set, and",
        f"{len(alike) - len(equal)} more, which have float32 operations inside, equal codes and float32",
        f"numbers within their bounds layer by layer; {len(captured) - len(alike)} differ.",
        "",
        "| network | input | operations | float32 inside | equal | correlation with float32 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results.items():
        size = "×".join(map(str, row["input"]))
        if "refused" in row:
            lines.append(f"| {name} | {size} | – | – | refused: {row['refused'].replace('|', ' ')} | – |")
            continue
        ways = sorted(set(row["executors"].values()))
        inside = "no" if row["exact"] else "yes"
        cells = [name, size, str(row["operations"]), inside, ", ".join(ways), f"{row['correlation']:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(results: Mapping[str, Mapping[str, Any]]) -> None:
    """docs/architectures.md with the table of these results."""
    PAGE.write_text(placed(PAGE.read_text("utf-8"), BEGIN, END, table(results)), "utf-8")


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="default: all of the list")
    parser.add_argument("--again", action="store_true", help="also those that have results")
    parser.add_argument("--page", action="store_true", help="only make the page")
    parser.add_argument("--captured", action="store_true", help="only capture those of captured.json")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.captured:
        return recapture(options.networks)
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    if not options.page:
        known = set() if options.networks or options.again else set(results)
        for name in [name for name in options.networks or NETWORKS if name not in known]:
            results[name] = tried(name)
            print(f"{name}: {results[name]}", flush=True)
            write_whole(RESULTS, [(json.dumps(results, indent=1) + "\n").encode()])
    write_page(results)
    print(f"{len(results)} networks -> {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

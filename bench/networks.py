"""Speed of whole networks against the peers: builds what is missing, then runs the protocol.

    python bench/networks.py                                # every network, one thread
    python bench/networks.py --only v2_b0 --threads 2 --peers openvino-int8,onnxruntime-int8
    python bench/networks.py --only lite0 --weights package # ImageNet weights instead of random ones

One JSON file per network goes to --results. Float graphs, artifacts and the peers' INT8 files are
kept in --work, under names that change with the sources of this package that made them.
Speed does not depend on the weights' values, so random ones (seed 0) and synthetic images do.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import subbyte
from subbyte.artifact import Artifact, load, save
from subbyte.benchmark.bench import bench
from subbyte.benchmark.result import BenchResult
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError, SubbyteError
from subbyte.preprocess import Preprocessing
from subbyte.recipes import load_recipe

CALIBRATION_IMAGES = 8
#: What an artifact depends on.
MAKERS = ("capture", "compress", "ir", "models", "passes", "quant", "recipes", "artifact")


@dataclass(frozen=True)
class Network:
    """A model of the catalog, or one of timm's, at a square input of `size` pixels."""

    model: str
    size: int
    timm: bool = False

    @property
    def label(self) -> str:
        return f"{self.model}-{self.size}"


NETWORKS = (
    Network("tf_efficientnetv2_b0", 224),
    Network("tf_efficientnet_lite0", 224),
    Network("efficientnet_es", 224),
    Network("tf_efficientnetv2_s", 300),
    Network("tf_efficientnetv2_s", 384),
    Network("tf_efficientnetv2_m", 384),
    Network("tf_efficientnetv2_l", 384),
    Network("efficientnet_b0", 224),
    Network("resnet50", 224, timm=True),
    Network("mobilenetv3_large_100", 224, timm=True),
    Network("convnext_atto", 224, timm=True),
)


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    chosen = [n for n in NETWORKS if any(part in n.label for part in options.only.split(","))]
    if not chosen:
        print(
            f"error: --only {options.only} fits none of {', '.join(n.label for n in NETWORKS)}",
            file=sys.stderr,
        )
        return 1
    options.results.mkdir(parents=True, exist_ok=True)
    try:
        for network in chosen:
            result = measure(network, options)
            batch = f"-b{options.batch}" if options.batch > 1 else ""
            path = options.results / f"{network.label}-t{options.threads}{batch}.json"
            result.save(path)
            print(f"\n{network.label}, {options.threads} thread(s) -> {path}\n{table(result)}", flush=True)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="parts of labels such as v2_s-300, comma-separated")
    parser.add_argument("--recipes", default="w8a8,w4a8,w2a8", help="comma-separated")
    parser.add_argument("--peers", default="onnxruntime,openvino,litert", help="empty for none")
    parser.add_argument("--weights", default="random:0", help="see subbyte.models.load")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images per call")
    parser.add_argument(
        "--streams", type=int, default=0, help="callers at a time for the throughput; 0: none"
    )
    parser.add_argument("--memory", action="store_true", help="measure load times and memory, too")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing per network")
    parser.add_argument("--isa", default=None, help="of our engine; its best one by default")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for what is built")
    parser.add_argument("--results", type=Path, default=Path("bench/results"))
    return parser.parse_args(arguments)


def measure(network: Network, options: argparse.Namespace) -> BenchResult:
    """Builds the network's files where they are missing, and runs the protocol."""
    real = build(network, "fp32", options.weights, options.work)
    recipes = [name for name in options.recipes.split(",") if name]
    return bench(
        [build(network, name, options.weights, options.work) for name in recipes],
        [name for name in options.peers.split(",") if name],
        threads=options.threads,
        seconds=options.seconds,
        batch=options.batch,
        footprints=options.memory,
        streams=options.streams,
        isa=options.isa,
        float_graph=load(real).graph,
        cache=options.work / "peers",
        notify=lambda text: print(f"{network.label}: {text}", file=sys.stderr, flush=True),
    )


def build(network: Network, recipe: str, weights: str, folder: Path) -> Path:
    """The artifact of a network by a recipe ("fp32": the float graph), made on first use."""
    path = folder / f"{network.label}-{recipe}-{_key(weights)}.subbyte"
    if path.exists():
        return path
    print(f"{network.label}: making {path.name}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = load_recipe(recipe)
    if recipe == "fp32":
        artifact = _float_artifact(network, weights)
    else:
        from subbyte.compress import compress

        artifact = load(build(network, "fp32", weights, folder))
        images = synthetic_images((network.size, network.size, 3), CALIBRATION_IMAGES, seed=1)
        artifact = replace(artifact, graph=compress(artifact.graph, chosen, [p[None] for p in images]))
    save(path, replace(artifact, recipe=chosen.model_dump(mode="json")))
    return path


def _float_artifact(network: Network, weights: str) -> Artifact:
    from subbyte import models
    from subbyte.importers.torch_export import capture
    from subbyte.passes import optimize

    shape = (network.size, network.size, 3)
    if network.timm:
        from bench.architectures import build as timm_module

        try:
            module, _ = timm_module(network.model)
        except (ImportError, RuntimeError) as error:  # a torchvision without its operators raises the latter
            raise InputError(
                f"{network.label} is one of timm's networks, which does not import: {error}"
            ) from None
        graph = optimize(capture(module, shape))
        half = (0.5,) * 3
        return Artifact(graph, {}, Preprocessing(*shape[:2], half, half), None, {"model": network.model})
    loaded = models.load(network.model, weights)
    graph = optimize(capture(loaded.module, shape))
    preprocessing = replace(loaded.preprocessing, height=network.size, width=network.size)
    return Artifact(graph, {}, preprocessing, None, {"model": network.model, **loaded.provenance})


@functools.cache
def _key(weights: str) -> str:
    """12 hex digits that change with the weights' source and with the sources of what compresses."""
    digest = hashlib.sha256(weights.encode())
    root = Path(subbyte.__file__).parent
    for maker in MAKERS:
        for path in sorted((root / maker).rglob("*")):
            if path.suffix in (".py", ".toml"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def table(result: BenchResult) -> str:
    """One line per candidate, fastest first."""
    heads = "".join(f"{head:>8}" for head in ("min", "p10", "median", "p90", "CPU ms", "ratio", "peak", "MB"))
    lines = [f"{'':22}{heads}  check"]
    for row in result.rows():
        name = f"{row['name']} {row['precision']}"
        peak = "" if row["peak"] is None else f"{100 * row['peak']:.0f} %"
        agreement = "equal" if row["equal"] else f"{row['correlation']:.4f}"
        times = "".join(f"{row[key]:8.2f}" for key in ("min_ms", "p10_ms", "median_ms", "p90_ms", "cpu_ms"))
        size = row["file_bytes"] / 1e6
        lines.append(f"{name:22}{times}{row['ratio']:8.2f}{peak:>8}{size:8.1f}  {agreement}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

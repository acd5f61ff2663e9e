"""A network found by `subbyte search` beside one that was drawn by hand, under the latency of that one.

    python -m bench.search --data TRAIN --test TEST --output RUN [--epochs 16] [--tuning 6]
    python -m bench.search --page docs/search.md     # the page's table from bench/analyses/search.json

TRAIN and TEST are folders with a subfolder a class. The space is efficientnetv2-xs, which holds the hand-made
network, efficientnetv2_xs; the target is this machine; random search runs beside it. Of each front two
networks are taken: "fast", the fastest that errs no more than the hand-made one on the images held back, or
the most accurate if all err more; and "good", the most accurate that is no slower, if it is another one.
These and the hand-made one get their slices of the shared weights, then the same training, 8 bits, and TEST.
What was begun goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subbyte.artifact import load
from subbyte.benchmark.machine import describe_machine
from subbyte.data.held_back import held_back
from subbyte.data.samples import batches
from subbyte.data.shards import labelled_images
from subbyte.device import Target, find_target
from subbyte.errors import SubbyteError
from subbyte.execute.native import Session
from subbyte.models import checkpoint
from subbyte.models.catalog import entry
from subbyte.models.tables import round_channels
from subbyte.search import Candidate, Space, load_space
from subbyte.search.costs import Costs, costs_of
from subbyte.search.evaluate import Evaluator, evaluator
from subbyte.search.export import export
from subbyte.search.supernet import Supernet
from subbyte.system.interleave import interleave
from subbyte.tasks.table import TASKS
from subbyte.training.views import normalized

RESULT = Path("bench/analyses/search.json")
BEGIN, END = "<!-- search -->", "<!-- /search -->"
SPACE, HAND = "efficientnetv2-xs", "efficientnetv2_xs"


def command(*words: object) -> None:
    """Runs `subbyte WORDS`; its failure is this program's."""
    print("subbyte", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "subbyte", *map(str, words)])
    if done.returncode:
        sys.exit(done.returncode)


def by_hand(space: Space) -> Candidate:
    """The network of the catalog as one of the space, at its largest resolution."""
    net = entry(HAND).architecture
    choices: dict[str, Any] = {"resolution": max(space.resolution), "stem": net.stem, "head": net.head}
    for i, stage in enumerate(net.stages):
        own = {"kind": stage.kind, "depth": stage.repeats, "kernel": stage.kernel, "se": stage.se}
        own |= {"expand": stage.expand, "channels": round_channels(stage.channels)}
        lists = space.lists()
        choices |= {f"stage{i}.{k}": v for k, v in own.items() if len(lists[f"stage{i}.{k}"]) > 1}
    found = space.candidate(choices)
    assert found.architecture == net
    return found


def measure(
    data: Path, test: Path, folder: Path, epochs: float, tuning: float, networks: tuple[int, int]
) -> dict[str, Any]:
    """Everything, in order. networks: in a generation, and generations."""
    space, target = load_space(SPACE), find_target("host")
    classes = labelled_images(data).classes or ()
    hand = by_hand(space)
    hand_costs = _kept_costs(space, hand, len(classes), target, folder / "hand-costs.json")
    searching = [
        *("search", SPACE, "--data", data, "--output", folder / "search", "--epochs", epochs, "--random"),
        *("--population", networks[0], "--generations", networks[1]),
        *("--latency", f"{hand_costs.latency:.6f}ms"),
    ]
    command(*searching)
    judge = _judge(space, data, folder, len(classes))
    hand_error = judge.error(hand)
    described = json.loads((folder / "search" / "front.json").read_text("utf-8"))
    chosen = _chosen(space, described, hand, hand_error, hand_costs)
    rows = []
    for name, candidate in chosen.items():
        stem = folder / name
        way = space.input(candidate.resolution)
        batches = [normalized(b, way, torch.float32) for b in judge.statistics[candidate.resolution]]
        export(judge.supernet, candidate, batches, stem, classes, None)
        sized = ("--input-size", candidate.resolution, "--crop-mode", "squash")
        command(
            *("train", f"{stem}.py:network", "--weights", f"{stem}.safetensors", "--data", data, *sized),
            *("--output", folder / f"{name}-tuned", "--epochs", tuning, "--stages", 1, "--first-size", 1),
            *("--learning-rate", 0.0005, "--randaugment", 4, "--mixup", 0, "--dropout", 0.1),
        )
        artifact = folder / f"{name}.w8a8.subbyte"
        if not artifact.exists():
            command(
                *(
                    "compress",
                    f"{stem}.py:network",
                    "--weights",
                    folder / f"{name}-tuned" / "model.safetensors",
                ),
                *(*sized, "--recipe", "w8a8", "--calibration", data, "--output", artifact),
            )
        (costs,) = costs_of(space, [candidate], len(classes), target)
        rows.append(
            {
                "name": name,
                "choosing_error": judge.error(candidate),
                **costs.to_json(),
                "artifact": str(artifact),
            }
        )
    return {
        "space": space.size(),
        "epochs": epochs,
        "tuning": tuning,
        "host": describe_machine().model_dump(mode="json"),
        "searches": {
            m: {k: v for k, v in s.items() if k != "front"} for m, s in described["searches"].items()
        },
        "rows": _finished(rows, test),
    }


def _kept_costs(space: Space, hand: Candidate, outputs: int, target: Target, file: Path) -> Costs:
    """Of the hand-made network, as they were measured first: they are the limit of a search that goes on."""
    if not file.exists():
        (costs,) = costs_of(space, [hand], outputs, target)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(costs.to_json()) + "\n", "utf-8")
    return Costs(**json.loads(file.read_text("utf-8")))


def _judge(space: Space, data: Path, folder: Path, outputs: int) -> Evaluator:
    images = labelled_images(data)
    used, held = held_back(range(len(images.samples)))
    supernet = Supernet(space, outputs)
    weights = folder / "search" / "supernet" / "model.safetensors"
    checkpoint.fit(checkpoint.read(weights), supernet, str(weights))
    return evaluator(supernet.eval(), images.chosen(used), images.chosen(held), TASKS["classification"])


def _chosen(
    space: Space, described: Mapping[str, Any], hand: Candidate, error: float, costs: Costs
) -> dict[str, Candidate]:
    """The hand-made network, and of each method's front the two that stand beside it, which may be one."""
    found = {"hand": hand}
    for method, search in described["searches"].items():
        front = search["front"]
        as_good = [one for one in front if one["error"] <= error] or front[:1]
        as_fast = [one for one in front if one["costs"]["latency"] <= costs.latency]
        found[f"{method}-fast"] = space.candidate(
            min(as_good, key=lambda one: one["costs"]["latency"])["choices"]
        )
        good = space.candidate(min(as_fast, key=lambda one: one["error"])["choices"])
        if good != found[f"{method}-fast"]:
            found[f"{method}-good"] = good
    return found


def _finished(rows: Sequence[dict[str, Any]], test: Path) -> list[dict[str, Any]]:
    """With the answers of the 8-bit engine to TEST, and its times in turns."""
    task, result = TASKS["classification"], []
    artifacts = [load(row["artifact"]) for row in rows]
    sessions = [Session(artifact) for artifact in artifacts]
    noise = [
        np.random.default_rng(0).standard_normal((1, *a.preprocessing.shape), np.float32) for a in artifacts
    ]
    runs = [lambda s=session, x=image: s.run(x) for session, image in zip(sessions, noise, strict=True)]
    times = interleave(runs, 20.0)
    for row, artifact, session, timed in zip(rows, artifacts, sessions, times, strict=True):
        samples = labelled_images(test, artifact.classes).samples
        outputs = np.concatenate([session.run(x) for x in batches(samples, artifact.preprocessing)])
        right = int(task.credit(task.answers([outputs]), samples).sum())
        least = 1e3 * float(timed.all.min())
        kept = {key: value for key, value in row.items() if key != "artifact"}
        result.append({**kept, "right": right, "images": len(samples), "least_ms": least})
    return result


def table(result: Mapping[str, Any]) -> str:
    """Markdown."""
    base = result["rows"][0]
    lines = [
        "| network | error on images held back, shared weights | error on the test set, trained, 8 bits "
        "| latency, ms (least) | beside the hand-made | MMAC | bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        wrong, slower = row["images"] - row["right"], row["least_ms"] / base["least_ms"] - 1
        lines.append(
            f"| {row['name']} | {100 * row['choosing_error']:.1f} % | {wrong} of {row['images']}, "
            f"{100 * wrong / row['images']:.1f} % | {row['least_ms']:.3f} | "
            f"{100 * slower:+.0f} % | {row['macs'] / 1e6:.1f} | {row['size']} |"
        )
    lines.append("")
    for method, s in result["searches"].items():
        lines.append(
            f"{method}: {s['asked']} networks of {result['space']:.2g}, {s['within_limits']} within the "
            f"limit, hypervolume {s['hypervolume']:.4g}."
        )
    lines.append(
        f"Shared weights: {result['epochs']:g} epochs; afterwards {result['tuning']:g} each. "
        f"{result['host'].get('cpu', '')}, one thread."
    )
    return "\n".join(lines)


def write_page(page: Path) -> None:
    """Puts the table between the page's marks."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = table(json.loads(RESULT.read_text("utf-8")))
    page.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", "utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("data", "test", "output", "page"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--epochs", type=float, default=16.0)
    parser.add_argument("--tuning", type=float, default=6.0)
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--generations", type=int, default=8)
    given = parser.parse_args(arguments)
    try:
        if given.data is not None:
            found = measure(
                given.data,
                given.test,
                given.output,
                given.epochs,
                given.tuning,
                (given.population, given.generations),
            )
            RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
            print(table(found))
        if given.page is not None:
            write_page(given.page)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

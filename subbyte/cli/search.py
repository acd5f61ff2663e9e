"""`subbyte search`: from a space of networks and images to the best ones within a device's limits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subbyte.cli import options
from subbyte.cli.checks import check_output_folder
from subbyte.cli.console import progress, say, show, steps
from subbyte.data.classes import read_classes
from subbyte.data.held_back import EVERY, LEAST, held_back
from subbyte.data.samples import Sample, image_folder
from subbyte.data.shards import LabelledImages, labelled_images
from subbyte.errors import InputError
from subbyte.system.text_file import write_text
from subbyte.training.settings import Settings

if TYPE_CHECKING:
    from subbyte.search.engine import Evaluated
    from subbyte.search.evaluate import Evaluator
    from subbyte.training.loop import Progress

COSTS = ("latency", "energy", "size", "memory", "macs")
SUPERNET, STORAGE, FRONT, PICTURE = "supernet", "search.db", "front.json", "front.svg"


@dataclass(frozen=True)
class Limited:
    """The most that a network may cost."""

    target: Annotated[str, typer.Option(help="Device whose costs count; host is this machine, measured.")] = (
        "host"
    )
    latency: Annotated[str | None, typer.Option(help="At most so long for an image, like 3ms.")] = None
    energy: Annotated[
        float | None, typer.Option(min=0, metavar="MJ", help="At most so many millijoules for an image.")
    ] = None
    size: Annotated[str | None, typer.Option(help="A file of at most so many bytes, like 1.6MB.")] = None
    memory: Annotated[str | None, typer.Option(help="Activations of at most so many bytes, like 1MB.")] = None
    cost: Annotated[
        str, typer.Option(metavar="|".join(COSTS), help="What is made small beside the error.")
    ] = "latency"


@dataclass(frozen=True)
class Learning:
    """How the shared weights are trained; the rest as `subbyte train` does."""

    epochs: Annotated[float, typer.Option(min=0, help="How often each image is seen.")] = 30.0
    batch: Annotated[int, typer.Option(min=0, help="Images a step.")] = 64
    stages: Annotated[int, typer.Option(min=0, help="Stages of growing images.")] = 4
    first_size: Annotated[
        float, typer.Option(min=0, help="Sides of the images in the first stage, of 1 in the last.")
    ] = 0.5
    randaugment: Annotated[float, typer.Option(min=0, help="Magnitude of RandAugment in the end, of 10.")] = (
        4.0
    )
    smallest_crop: Annotated[
        float, typer.Option(min=0, help="Random crops have this share of an image's area, or more.")
    ] = 0.35
    mirror: Annotated[bool, typer.Option("--mirror/--no-mirror", help="Mirror half of the images.")] = True
    learning_rate: Annotated[float | None, typer.Option(min=0, help="The highest; default 0.002.")] = None

    def settings(self, seed: int, precision: str, taught: bool) -> Settings:
        """Without what a network must have to overfit; a teacher has all of the weight."""
        fields: dict[str, Any] = asdict(self)
        magnitude = fields.pop("randaugment")
        return Settings(
            **fields,
            randaugment=(min(1.0, magnitude), magnitude),
            dropout=(0.0, 0.0),
            mixup=(0.0, 0.0),
            stochastic_depth=0.0,
            teacher_weight=1.0 if taught else 0.5,
            precision=precision,
            seed=seed,
        )


@options.spread
def search(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A name (efficientnetv2-xs, hands) or a TOML file.")
    ],
    data: Annotated[
        Path, typer.Option(help="Images: labelled, as `subbyte train` takes them; with --teacher any.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to write to; what was begun there goes on.")],
    *,
    validation: Annotated[
        Path | None, typer.Option(help="As --data, to choose on; default: every fifth image of it.")
    ] = None,
    classes: options.Classes = None,
    teacher: Annotated[
        str | None, typer.Option(help="An artifact whose first output is learned in the place of labels.")
    ] = None,
    task: options.TaskName = None,
    limited: Limited,
    population: Annotated[int, typer.Option(min=2, help="Networks in a generation.")] = 20,
    generations: Annotated[int, typer.Option(min=1, help="Of NSGA-II.")] = 10,
    random: Annotated[
        bool, typer.Option("--random/--no-random", help="As many networks drawn at random, for comparison.")
    ] = False,
    export: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Write this network of the front, counted from 1, the most accurate. Repeat."
        ),
    ] = None,
    learning: Learning,
    workers: Annotated[int, typer.Option(min=1, help="Processes that evaluate; more than 1 by Ray.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Evaluate on a Ray cluster: its address, or auto.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16", help="Default: bfloat16 where the CPU multiplies it."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
) -> None:
    """Find networks of a space that are accurate within a device's limits: a Pareto front.

    One set of weights is trained for all networks of the space, once; then NSGA-II chooses among them,
    seconds a network. The folder gets front.json, front.svg, search.db (Optuna's storage), supernet/ and,
    with --export, found-N.subbyte, .safetensors, .py and .toml. The same command, interrupted, goes on.
    """
    import optuna  # noqa: F401  better missed now than when the weights are trained

    from subbyte.allocate.budget import parse_bytes, parse_milliseconds
    from subbyte.device import find_target
    from subbyte.execute.torch.steady import fixed_threads, kept_memory
    from subbyte.search.costs import Limits, costs_of
    from subbyte.search.engine import METHODS, Search
    from subbyte.search.evaluate import evaluator
    from subbyte.search.front import front, front_json, picture
    from subbyte.search.graph import float_graph
    from subbyte.search.pool import evaluating
    from subbyte.search.space import load_space
    from subbyte.search.train import CPU, teacher_of, trained
    from subbyte.tasks.table import named
    from subbyte.training.cast import has_bfloat16
    from subbyte.training.state import NETWORK, fingerprint

    if limited.cost not in COSTS:
        raise InputError(f"--cost is one of {', '.join(COSTS)}, not {limited.cost!r:.80}")
    meant, found_space = named(task or "classification"), load_space(space)
    if teacher is None and not meant.classes:
        raise InputError(f"the task {meant.name} is learned from a --teacher")
    limits = Limits(
        None if limited.latency is None else parse_milliseconds("--latency", limited.latency),
        limited.energy,
        None if limited.size is None else parse_bytes("--size", limited.size),
        None if limited.memory is None else parse_bytes("--memory", limited.memory),
    )
    device = find_target(limited.target)
    check_output_folder("--output", output)
    images, held = _images(data, validation, classes, teacher is not None)
    taught = None if teacher is None else teacher_of(teacher)
    if taught is not None:
        outputs = prod(taught.graph.value(taught.graph.outputs[0]).shape)
    else:
        outputs = len(images.classes or ()) or 1 + max(_label(s) for s in (*images.samples, *held.samples))
    meant.check(meant.judged_graph(float_graph(found_space.smallest, outputs)))
    chosen = precision or ("bfloat16" if has_bfloat16(CPU) else "float32")
    settings = learning.settings(seed, chosen, taught is not None)
    with fixed_threads(1), kept_memory():
        with steps("training the shared weights") as told:

            def tell(at: Progress) -> None:
                told(at.step, at.steps, f"loss {at.loss:.3f}, about {at.left:.0f} s left")

            given = (found_space, outputs, images, held if taught is None else None, settings)
            supernet = trained(*given, output / SUPERNET, meant, taught, teacher or "", tell)
        judge = evaluator(supernet, images, held, meant, taught)
        begun = {
            "target": device.name,
            "weights": _digest(output / SUPERNET / NETWORK),
            "images": fingerprint(held),
        }
        with evaluating(judge, workers, cluster) as errors:
            run = Search(
                *(found_space, limits, limited.cost, population, seed, begun, output / STORAGE),
                costs=lambda candidates: costs_of(found_space, candidates, outputs, device),
                errors=errors,
            )
            results: dict[str, list[Evaluated]] = {}
            for method in METHODS if random else METHODS[:1]:
                with progress(f"search, {method}", generations * population) as count:
                    done = 0

                    def one_more(one: Evaluated) -> None:
                        nonlocal done
                        done += 1
                        count(done)

                    results[method] = run.run(method, generations, one_more)
    facts = {"space": found_space.name, "target": device.name, "limits": asdict(limits), "seed": seed}
    described = front_json(results, limited.cost, {**facts, **_held_facts(judge)})
    write_text(output / FRONT, json.dumps(described, indent=1) + "\n")
    write_text(output / PICTURE, picture(results, limited.cost, found_space.name))
    best = front(results["nsga2"], limited.cost)
    if not best:
        raise InputError(
            f"none of {len(results['nsga2'])} networks is within the limits; allow more, or search longer"
        )
    _show(best, described)
    say(f"{len(images.samples)} images, {len(held.samples)} to choose on, {outputs} outputs, seed {seed}")
    for number in export or ():
        _export(number, best, judge, output, images.classes, task)


def _export(
    number: int,
    best: list[Evaluated],
    judge: Evaluator,
    output: Path,
    classes: tuple[str, ...] | None,
    task: str | None,
) -> None:
    import torch

    from subbyte.search.export import export
    from subbyte.training.views import normalized

    if number > len(best):
        raise InputError(f"the front has {len(best)} networks: there is no number {number} to export")
    candidate = best[number - 1].candidate
    way = judge.supernet.space.input(candidate.resolution)
    batches = [normalized(b, way, torch.float32) for b in judge.statistics[candidate.resolution]]
    names = classes if judge.wanted is None else None
    files = export(judge.supernet, candidate, batches, output / f"found-{number}", names, task)
    say(f"number {number}: {', '.join(map(str, files))}")


def _show(best: list[Evaluated], described: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("", "error", "latency", "energy", "file", "activations", "MMAC", "input"):
        table.add_column(heading, justify="right")
    for number, one in enumerate(best, 1):
        c = one.costs
        energy = "" if c.energy is None else f"{c.energy:.3g} mJ"
        table.add_row(
            *(str(number), f"{100 * (one.error or 0.0):.2f} %", f"{c.latency:.3g} ms", energy),
            *(f"{c.size / 1e3:.0f} kB", f"{c.memory / 1e3:.0f} kB", f"{c.macs / 1e6:.1f}"),
            str(one.candidate.resolution),
        )
    show(table)
    for method, found in described["searches"].items():
        say(
            f"{method}: {found['asked']} networks, {found['within_limits']} within the limits, "
            f"{len(found['front'])} on the front, hypervolume {found['hypervolume']:.4g}"
        )


def _images(
    data: Path, validation: Path | None, classes: Path | None, taught: bool
) -> tuple[LabelledImages, LabelledImages]:
    """To train on, and to choose on. With a teacher labels are not read."""
    names = None if classes is None else read_classes(classes)

    def read(folder: Path, names: tuple[str, ...] | None) -> LabelledImages:
        if not taught:
            return labelled_images(folder, names)
        return LabelledImages([Sample(sample.path, 0) for sample in image_folder(folder)])

    images = read(data, names)
    if validation is not None:
        return images, read(validation, images.classes)
    used, held = held_back(range(len(images.samples)))
    if not held:
        raise InputError(
            f"{data} has only {len(images.samples)} images: of {LEAST} or more every {EVERY}th is held back; "
            "give --validation"
        )
    return images.chosen(used), images.chosen(held)


def _label(sample: Sample) -> int:
    assert isinstance(sample.label, int)
    return sample.label


def _held_facts(judge: Evaluator) -> dict[str, Any]:
    beside = "labels" if judge.wanted is None else "a teacher"
    return {"images": len(judge.samples), "error_beside": beside}


def _digest(path: Path) -> str:
    from subbyte.models.checkpoint import sha256

    return sha256(path)

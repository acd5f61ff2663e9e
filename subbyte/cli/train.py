"""`subbyte train`: from labelled images to a checkpoint in full precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subbyte.cli import options
from subbyte.cli.checks import check_output_folder
from subbyte.cli.console import note, say, steps
from subbyte.cli.options import OwnInput
from subbyte.cli.source import own_preprocessing, parse_size
from subbyte.data.classes import read_classes
from subbyte.data.held_back import EVERY, LEAST, held_back
from subbyte.data.samples import with_resize
from subbyte.data.shards import LabelledImages, labelled_images
from subbyte.errors import InputError
from subbyte.metrics.accuracy import wilson_interval
from subbyte.preprocess import Preprocessing
from subbyte.system.folders import make_folder
from subbyte.system.text_file import write_text
from subbyte.system.units import interval_text, percent
from subbyte.training.settings import Settings, Span

if TYPE_CHECKING:
    from subbyte.training.loop import Progress

_DATA = "Labelled images: a folder (labels.csv, or one subfolder a class), or one of .tar shards, or a shard."
_SPAN = "FIRST:LAST"
_DEFAULT = Settings()


def _text(span: Span) -> str:
    return f"{span[0]:g}:{span[1]:g}"


@dataclass(frozen=True)
class Learning:
    """The fields of Settings, but for what depends on the device."""

    epochs: Annotated[float, typer.Option(min=0, help="How often each image is seen.")] = _DEFAULT.epochs
    batch: Annotated[int, typer.Option(min=0, help="Images a step, of all processes together.")] = (
        _DEFAULT.batch
    )
    stages: Annotated[int, typer.Option(min=0, help="Stages of progressive learning.")] = _DEFAULT.stages
    first_size: Annotated[
        float,
        typer.Option(min=0, help="Sides of the images in the first stage, of 1 in the last; 1: no growth."),
    ] = _DEFAULT.first_size
    dropout: Annotated[str, typer.Option(metavar=_SPAN, help="Rate of dropout, by stage.")] = _text(
        _DEFAULT.dropout
    )
    randaugment: Annotated[
        str, typer.Option(metavar=_SPAN, help="Magnitude of RandAugment, of 10, by stage; 0: none.")
    ] = _text(_DEFAULT.randaugment)
    mixup: Annotated[str, typer.Option(metavar=_SPAN, help="Alpha of mixup, by stage; 0: none.")] = _text(
        _DEFAULT.mixup
    )
    stochastic_depth: Annotated[
        float, typer.Option(min=0, help="How often the last residual block is left out; earlier ones less.")
    ] = _DEFAULT.stochastic_depth
    smallest_crop: Annotated[
        float,
        typer.Option(min=0, help="Random crops have this share of an image's area, or more; 1: no crops."),
    ] = _DEFAULT.smallest_crop
    mirror: Annotated[bool, typer.Option("--mirror/--no-mirror", help="Mirror half of the images.")] = (
        _DEFAULT.mirror
    )
    label_smoothing: Annotated[float, typer.Option(min=0, help="Share of a label that all classes get.")] = (
        _DEFAULT.label_smoothing
    )
    optimizer: Annotated[
        str, typer.Option(metavar="adamw|rmsprop", help="rmsprop with the paper's numbers.")
    ] = _DEFAULT.optimizer
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="The highest; default 0.002, rmsprop: 0.256 * batch / 4096.")
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option(min=0, help="Of kernels; default 0.05, rmsprop: 0.00001.")
    ] = None
    warmup: Annotated[float, typer.Option(min=0, help="Epochs in which the learning rate rises.")] = (
        _DEFAULT.warmup
    )
    schedule: Annotated[
        str, typer.Option(metavar="cosine|exponential", help="How the learning rate falls.")
    ] = _DEFAULT.schedule
    average: Annotated[float, typer.Option(min=0, help="Decay of the moving average of the weights.")] = (
        _DEFAULT.average
    )
    clip: Annotated[float | None, typer.Option(min=0, help="Largest norm of a gradient; default: any.")] = (
        None
    )
    teacher_weight: Annotated[float, typer.Option(min=0, help="Share of the loss that is the teacher's.")] = (
        _DEFAULT.teacher_weight
    )

    def settings(self, precision: str, seed: int) -> Settings:
        """As training takes them. InputError for what is out of its range."""
        fields: dict[str, Any] = asdict(self)
        for name in ("dropout", "randaugment", "mixup"):
            fields[name] = _span(f"--{name}", fields[name])
        return Settings(**fields, precision=precision, seed=seed)


@options.spread
def train(
    model: options.Model,
    data: Annotated[Path, typer.Option(help=_DATA)],
    output: Annotated[Path, typer.Option(help="Folder to write to; what was begun there goes on.")],
    *,
    weights: Annotated[
        str | None,
        typer.Option(help="A checkpoint file, hub, hub:org/repo or package to start from; default: none."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="As --data, to measure on; default: every fifth image of it.")
    ] = None,
    hold_back: Annotated[
        bool,
        typer.Option("--hold-back/--no-hold-back", help="--no-hold-back: measure on none."),
    ] = True,
    classes: options.Classes = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels in the end, of a network by name: 96 or HEIGHTxWIDTH.")
    ] = None,
    own_input: OwnInput,
    resize: options.Resize = None,
    learning: Learning,
    teacher: Annotated[
        str | None, typer.Option(help="Distil from this artifact or network, by its logits.")
    ] = None,
    teacher_weights: Annotated[
        str | None, typer.Option(help="Of a network as --teacher: a checkpoint file, hub or package.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda|cuda:N", help="Where to train.")] = "cpu",
    precision: Annotated[
        str | None,
        typer.Option(metavar="float32|bfloat16", help="Default: bfloat16 where the device multiplies it."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images; 0: this one.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads; another number rounds a little differently.")
    ] = 1,
    traceback: options.Traceback = False,
) -> None:
    """Train a network in full precision; images and regularization grow together (arXiv 2104.00298).

    The folder gets model.safetensors, which `subbyte compress MODEL --weights` reads, metrics.jsonl,
    curve.svg, classes.txt if the classes have names, and state.pt: the same command, interrupted, goes on
    from there. Started by torchrun, several processes train one network.
    """
    settings = learning.settings(precision or "float32", seed)
    check_output_folder("--output", output)
    way = _preprocessing(model, own_input, image_size, resize)
    images, held = _images(data, validation, hold_back, classes)
    known = 1 + max(_highest(each) for each in (images, held) if each is not None)
    outputs = len(images.classes) if images.classes else known
    from subbyte.execute.torch.steady import fixed_threads, kept_memory
    from subbyte.report.training_curve import training_curve
    from subbyte.training import network
    from subbyte.training import teacher as teachers
    from subbyte.training.cast import has_bfloat16
    from subbyte.training.loop import Training
    from subbyte.training.processes import processes
    from subbyte.training.state import CLASSES, CURVE, NETWORK, Record

    def draw(records: list[Record]) -> None:
        write_text(output / CURVE, training_curve(model, records))

    with fixed_threads(threads), kept_memory(), processes(device) as here:
        if precision is None and has_bfloat16(here.device):
            settings = replace(settings, precision="bfloat16")
        module = network.make(model, weights, outputs, seed)
        network.check(module, way, settings, known)
        asked = None
        if teacher is not None:
            asked = teachers.make(teacher, teacher_weights, way, outputs, here.device)
        make_folder(output, f"training in {output}", "choose another --output")
        if here.first and images.classes:
            write_text(output / CLASSES, "".join(f"{name}\n" for name in images.classes))
        origin = {
            "network": model,
            "weights": str(weights),
            "input": str(way.to_json()),
            "teacher": f"{teacher} {teacher_weights}",
        }
        if here.first:
            count = 0 if held is None else len(held.samples)
            note(f"{len(images.samples)} images, {count} held back, {outputs} classes, {settings.precision}")
        with steps(f"training {model}") as show:

            def tell(progress: Progress) -> None:
                if here.first:
                    show(progress.step, progress.steps, _line(progress, settings.stages))

            records = Training(
                *(module, images, held, way, settings, output, here, origin, asked, workers),
                tell=tell,
                draw=draw,
            ).run()
        if here.first:
            say(f"{output / NETWORK}: {model}{_result(records[-1])}, {records[-1]['seconds']:.0f} s")


def _line(progress: Progress, stages: int) -> str:
    """What is said of a step, beside its number."""
    height, width = progress.size
    parts = [
        f"stage {progress.stage.number + 1}/{stages}, {height} x {width}",
        f"loss {progress.loss:.3f}",
    ]
    if progress.record and "top1_rate" in progress.record:
        parts.append(f"top-1 {percent(progress.record['top1_rate'])}")
    return ", ".join([*parts, f"about {progress.left:.0f} s left"])


def _result(record: dict[str, Any]) -> str:
    if "top1" not in record:
        return ""
    n, right = record["held_back"], record["top1"]
    interval = interval_text(wilson_interval(right, n))
    return f", top-1 {right} of {n} held back, {percent(right / n)} ({interval})"


def _span(option: str, text: str) -> Span:
    """ "FIRST:LAST", or one number for all stages."""
    first, colon, last = text.partition(":")
    try:
        return float(first), float(last if colon else first)
    except ValueError:
        raise InputError(f"{option} must be two numbers like 0.1:0.3, or one, got {text!r}") from None


def _preprocessing(
    model: str, own_input: OwnInput, image_size: str | None, resize: str | None
) -> Preprocessing:
    way = own_preprocessing(model, own_input)
    if way is None:
        from subbyte import models

        way = models.preprocessing(model)
        if image_size is not None:
            height, width = parse_size(image_size)
            way = replace(way, height=height, width=width)
    elif image_size is not None:
        raise InputError("--image-size is for a network by name; one of your own has --input-size")
    return with_resize(way, resize)


def _images(
    data: Path, validation: Path | None, hold_back: bool, classes: Path | None
) -> tuple[LabelledImages, LabelledImages | None]:
    """To train on, and to measure on."""
    names = None if classes is None else read_classes(classes)
    images = labelled_images(data, names)
    if validation is not None:
        return images, labelled_images(validation, images.classes)
    if not hold_back:
        return images, None
    used, held = held_back(range(len(images.samples)))
    if not held:
        raise InputError(
            f"{data} has only {len(images.samples)} images: of {LEAST} or more every {EVERY}th is held back; "
            "give --validation or --no-hold-back"
        )
    return images.chosen(used), images.chosen(held)


def _highest(images: LabelledImages) -> int:
    return max(sample.label for sample in images.samples if isinstance(sample.label, int))

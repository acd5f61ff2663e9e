"""Options that several commands have, alone and in groups.

A group is a dataclass: a command with a parameter of that type, spread, has an option for each of its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from subbyte.tasks.table import TASKS

_OWN = "For file.py:callable, .onnx, .pt2 and .tflite files. "

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name (see `subbyte models`), path/to/file.py:callable, or a .onnx, .pt2 or .tflite file.",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="A checkpoint file, hub, hub:org/repo, package, random or random:SEED.")
]
Calibration = Annotated[
    Path | None,
    typer.Option(help="Folder of images to calibrate and train on; with labels if a step needs them."),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="crop|squash", help="How calibration images reach the input size; default: as in tests."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random; default: the recipe's.")]
InputSize = Annotated[str | None, typer.Option(help=_OWN + "Pixels: 224 or HEIGHTxWIDTH.")]
Channels = Annotated[
    int | None,
    typer.Option(min=1, max=4, metavar="1|3|4", help=_OWN + "Of the images: grey, RGB (default) or RGBA."),
]


@dataclass(frozen=True)
class OwnInput:
    """What a user's own module takes; None (`rescale`: True) where not given."""

    input_size: InputSize = None
    channels: Channels = None
    mean: Annotated[
        str | None,
        typer.Option(help=_OWN + "Per channel, of pixel / 255; default ImageNet's for RGB, else 0."),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(help=_OWN + "Per channel, of pixel / 255; default ImageNet's for RGB, else 1."),
    ] = None
    rescale: Annotated[
        bool,
        typer.Option(
            "--rescale/--no-rescale",
            help=_OWN
            + "--no-rescale: the network takes pixels of 0 to 255, as do --mean (default 0) and --std (1).",
        ),
    ] = True
    interpolation: Annotated[
        str | None,
        typer.Option(metavar="bicubic|bilinear|nearest", help=_OWN + "Of the resize; default bicubic."),
    ] = None
    crop_fraction: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=_OWN + "What the central crop keeps of the resized image; default 0.875, squashed 1.",
        ),
    ] = None
    crop_mode: Annotated[
        str | None,
        typer.Option(
            metavar="center|squash", help=_OWN + "Resize with the aspect ratio kept (default) or squashed."
        ),
    ] = None


Resolution = Annotated[
    str | None,
    typer.Option(
        metavar="N|HEIGHTxWIDTH",
        help="Images of another size than the network was made for; work falls with their area. It has to be "
        "trained for them, by the step `retrain` or `distill`.",
    ),
]
_BUDGET = "Bit-widths are chosen per layer: "

Recipe = Annotated[str, typer.Option(help="A name (see `subbyte recipes`) or a TOML file.")]
Images = Annotated[int, typer.Option(min=1, help="Use at most this many of them.")]
Classes = Annotated[Path | None, typer.Option(help="Text file of class names, one per line.")]
TorchThreads = Annotated[
    int,
    typer.Option(
        min=1, help="CPU threads of calibration and training; another number rounds a little differently."
    ),
]
Size = Annotated[str | None, typer.Option(help=_BUDGET + "the file has at most so many bytes, like 3.5MB.")]
Target = Annotated[
    str,
    typer.Option(
        help="Device whose time, energy and memory a budget counts; host is this machine, measured; else a "
        "profile of the package, or a profile.toml of your own."
    ),
]
Latency = Annotated[
    str | None, typer.Option(help=_BUDGET + "an image takes at most so long on the target, like 3ms.")
]
Energy = Annotated[
    str | None,
    typer.Option(
        help=_BUDGET + "an image takes at most so much on the target, like 0.9mJ; for devices whose profile "
        "says energies."
    ),
]
Memory = Annotated[
    str | None, typer.Option(help=_BUDGET + "activations take at most so many bytes, like 1MB.")
]
Drop = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help=_BUDGET + "at most so many points of the images held back get another class than in "
        "float32. Without --size, the smallest file that keeps this on a fifth of the other images.",
    ),
]
Analysis = Annotated[
    Path | None,
    typer.Option(
        help="What `subbyte sensitivity` wrote for this network, best on other images; default: "
        "analysed and cached."
    ),
]
ActivationBits = Annotated[
    str | None,
    typer.Option(
        help="Bit-widths to choose from for activations, comma-separated; default: 8, with "
        "--mean-activation-bits 8,4,3,2."
    ),
]
MeanActivationBits = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help=_BUDGET + "activations have at most so many bits on average, like 4.2; those that need more "
        "keep 8. On this engine narrow ones win no time: codes lie one a byte.",
    ),
]
FloatLayers = Annotated[
    str,
    typer.Option(
        metavar="fp16|fp32",
        help="Formats in which layers may stay in floating point where that pays, comma-separated.",
    ),
]
Patterns = Annotated[
    str,
    typer.Option(
        metavar="4x16:50|2:4|...",
        help="Sparsity patterns that layers may have beside none, in each bit-width, comma-separated "
        "(docs/sparsity.md); with --latency they get those that pay on the device.",
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the state of training steps: the same command, interrupted, goes on from there."
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(
        help="A .subbyte file that an earlier run made of the model: its weights, grids and bit-widths are "
        "what the recipe's steps go on from, nothing is rounded anew."
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(help="Folder for metrics.jsonl, a line for each training step; default: that of --work."),
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Also write what TensorBoard shows, to the same folder.")
]
WriteRecipe = Annotated[
    Path | None,
    typer.Option(help="Write the recipe with the chosen bit-widths to this TOML file, too."),
]

Artifact_ = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A .subbyte file.")]
Artifacts = Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="One or more .subbyte files.")]
Against = Annotated[
    str, typer.Option(help="Peers, comma-separated: onnxruntime, openvino, litert, openvino-int8, ...")
]
SET = "FOLDER[:crop|squash]"
SETS = (
    "Folder of labelled images: labels.csv (file,label; for other tasks file and numbers), or one subfolder "
    "a class; "
    "how they reach the input size, if not as --resize says. Repeat it for several sets."
)
Data = Annotated[list[str], typer.Option(metavar=SET, help=SETS)]
Resize = Annotated[
    str | None,
    typer.Option(metavar="crop|squash", help="Crop centrally or squash; default: as the network was tested."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="|".join(TASKS),
        help="What the outputs mean, or, with places behind it, some of them, such as keypoints@0; "
        "default: as the artifact says, else classification.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the engine.")]
Isa = Annotated[str | None, typer.Option(help="Instruction set to force; default: the host's best.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback",
        envvar="SUBBYTE_TRACEBACK",
        help="Show where an error comes from, in your code and in this package.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use this many images of each set, drawn at random with seed 0.")
]
Corruptions = Annotated[
    str | None,
    typer.Option(help="Corrupt the images as well: all, or groups and families (noise,blur,fog)."),
]
Severities = Annotated[str, typer.Option(help="Severities of --corruptions, 1 to 5.")]
CueConflictFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of shape/texture images: labels.csv (file,shape,texture), JSON of categories."),
]


@dataclass(frozen=True)
class Extras:
    """What else is measured of every artifact; corrupted: how many images are."""

    corruptions: Corruptions = None
    severities: Severities = "1,3,5"
    corrupted: Annotated[
        int, typer.Option(min=2, help="How many images --corruptions takes, drawn at random with seed 0.")
    ] = 100
    cue_conflict: CueConflictFolder = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of every group among its parameters in the group's place."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            of_group = get_type_hints(groups[name], include_extras=True)
            parameters += [
                parameter.replace(name=f.name, annotation=of_group[f.name], default=f.default)
                for f in fields(groups[name])
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{f.name: given.pop(f.name) for f in fields(kind)})
        command(**given)

    run.__doc__, run.__module__ = command.__doc__, command.__module__
    run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run

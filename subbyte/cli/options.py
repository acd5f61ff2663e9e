"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Artifact_ = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A .subbyte file.")]
Artifacts = Annotated[list[Path], typer.Argument(metavar="ARTIFACT...", help="One or more .subbyte files.")]
Against = Annotated[
    str, typer.Option(help="Peers, comma-separated: onnxruntime, openvino, onnxruntime-int8, ...")
]
Data = Annotated[
    Path,
    typer.Option(help="Folder of labelled pictures: labels.csv (file,label), or one subfolder a class."),
]
Resize = Annotated[
    str | None,
    typer.Option(metavar="crop|squash", help="Crop centrally or squash; default: as the network was tested."),
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the engine.")]
Isa = Annotated[str | None, typer.Option(help="Instruction set to force; default: the host's best.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use this many pictures, drawn at random with seed 0.")
]

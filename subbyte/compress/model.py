"""The one road from a torch module to an artifact: capture, optimize, compress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.artifact import Artifact
from subbyte.preprocess import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from subbyte.recipes import Recipe


def compress_model(
    module: nn.Module,
    recipe: str | Recipe,
    calibration: Iterable[np.ndarray] = (),
    *,
    preprocessing: Preprocessing,
    classes: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: Callable[[str, int], None] | None = None,
    work: Path | None = None,
    threads: int = 1,
    task: str | None = None,
) -> Artifact:
    """Captures `module`, compresses it by `recipe` and returns the artifact, not yet saved.

    module: takes float32 [N, C, H, W] with the H, W, C of `preprocessing`.
    recipe: a recipe, the name of one, or the path of a TOML file.
    calibration: preprocessed float32 batches [N, H, W, C].
    classes: names of the outputs; ImageNet's if there are 1000 outputs and none are given.
    seed: of everything random, instead of the recipe's. progress: told the stage ("calibrate",
    or "reconstruct, 17 blocks") and how much of it is done, some of it often.
    work: a folder for the state of long steps, so that an interrupted run can go on.
    threads: of torch while this runs, whatever the caller has set; another number gives other last digits,
    and so other roundings. provenance: JSON values kept in the artifact beside the seed, the threads and
    the versions used. task: what the outputs mean, a name of tasks.TASKS; None: classification, where a step
    asks. Another one is named in the provenance.

    Raises UnsupportedOperatorError for an operator outside the supported set, RecipeError,
    InputError for unusable calibration data or class names, or outputs that do not fit the task.
    """
    from subbyte.compress import compress
    from subbyte.data.classes import class_names
    from subbyte.execute.torch.steady import fixed_threads
    from subbyte.importers.torch_export import capture
    from subbyte.passes import optimize
    from subbyte.recipes import load_recipe
    from subbyte.tasks.table import kept_name

    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    with fixed_threads(threads):
        graph = optimize(capture(module, preprocessing.shape))
    kept = kept_name(task)
    names = None if kept and classes is None else class_names(classes, graph)
    compressed = compress(
        graph, chosen, calibration, seed=seed, progress=progress, work=work, threads=threads, task=task
    )
    return Artifact(
        compressed,
        chosen.model_dump(mode="json"),
        preprocessing,
        names,
        {**(provenance or {}), **kept, **made_with(chosen.seed if seed is None else seed, threads)},
    )


def made_with(seed: int, threads: int) -> dict[str, Any]:
    """What `compress_model` adds to the provenance of an artifact."""
    import torch

    import subbyte

    return {"seed": seed, "subbyte": subbyte.__version__, "torch": torch.__version__, "threads": threads}

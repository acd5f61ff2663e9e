"""The one road from a network to an artifact: import, optimize, compress, under a budget or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.artifact import Artifact
from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format
from subbyte.quant.format import UINT8
from subbyte.quant.pattern import Pattern

if TYPE_CHECKING:
    from torch import nn

    from subbyte.allocate.budget import Budget
    from subbyte.analysis.table import Sensitivity
    from subbyte.compress.budgeted import Report
    from subbyte.importers import Imported
    from subbyte.recipes import Recipe


def compress_model(
    source: str | Path | nn.Module | Imported,
    recipe: str | Recipe | None = None,
    calibration: Iterable[np.ndarray] = (),
    *,
    labels: np.ndarray | None = None,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    classes: tuple[str, ...] | None = None,
    provenance: Mapping[str, Any] | None = None,
    seed: int | None = None,
    progress: Callable[[str, int], None] | None = None,
    work: Path | None = None,
    threads: int = 1,
    task: str | None = None,
    start: str | Path | None = None,
    budget: Budget | None = None,
    target: str = "host",
    sensitivity: Sensitivity | None = None,
    activations: Sequence[Format] = (UINT8,),
    float_layers: Sequence[Format] = (),
    patterns: Sequence[Pattern] = (),
    report: Callable[[Report], None] | None = None,
) -> Artifact:
    """Compresses a network by `recipe` and returns the artifact, not yet saved.

    source, weights, preprocessing: see subbyte.import_model.
    recipe: a recipe, the name of one, or the path of a TOML file. None: the network is quantized already, and
    stays as it is. Such a network, given a recipe, is compressed from the float32 network that its numbers
    stand for, and the provenance says so under "dequantized".
    calibration: preprocessed float32 batches [N, H, W, C]. labels: int64 [N], the class index of each image
    of all batches, for steps that learn from labels.
    classes: names of the outputs; else those of the source, or ImageNet's if there are 1000 outputs.
    seed: of everything random, instead of the recipe's. progress: told the stage ("calibrate",
    or "reconstruct, 17 blocks") and how much of it is done, some of it often.
    work: a folder for the state of long steps, so that an interrupted run can go on.
    threads: of torch while this runs, whatever the caller has set; another number gives other last digits,
    and so other roundings. provenance: JSON values kept in the artifact beside those of the source, the seed,
    the threads and the versions used. task: what the outputs mean, a name of tasks.TASKS; None:
    classification, where a step or a budget asks. Another one is named in the provenance.
    start: the path of an artifact of this network to train on: its weights, grids and bit-widths are taken
    instead of the recipe's, whose steps all have to go on from them. Not with a budget.

    With a budget the recipe's bit-widths do not count: each layer gets its own, so that the budget is kept at
    the least degradation. Every fifth image (of 10 or more) is held back from all of that, and the provenance
    says under "held_back" how well the result agrees with float32 on these. A recipe whose weights have the
    range "rate" keeps its bit-widths, and takes the rate that a budget of `size` leaves room for.
    target: the device whose time counts. sensitivity: the analysis of this network, best on other images;
    else made, and kept in the user's cache folder. activations: the bit-widths that they may get.
    float_layers: the float formats (FP16, FP32) that layers may stay in. patterns: the sparsity patterns that
    weights may have.
    report: told what was chosen and measured, once everything is done.

    Raises UnsupportedOperatorError for an operator outside the supported set, RecipeError, InputError for
    unusable calibration data, labels or class names, outputs that do not fit the task, and for a budget that
    cannot be kept.
    """
    from subbyte.compress.quantized import dequantized, kept
    from subbyte.data.classes import class_names
    from subbyte.importers import import_model
    from subbyte.importers.table import is_quantized
    from subbyte.recipes import load_recipe
    from subbyte.tasks.table import kept_name

    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    imported = import_model(source, weights=weights, preprocessing=preprocessing)
    if chosen is not None and is_quantized(imported.graph):
        imported = dequantized(imported)
    other = kept_name(task)
    named = classes or imported.classes
    names = None if other and named is None else class_names(named, imported.graph)
    origin = {**imported.provenance, **(provenance or {}), **other}
    if chosen is None:
        using = {
            "calibration images": isinstance(calibration, Sequence) and len(calibration) > 0,
            "labels": labels is not None,
            "a seed": seed is not None,
            "a file to begin with": start is not None,
            "a budget": budget is not None and budget.given,
        }
        if any(using.values()):
            what = ", ".join(name for name, given in using.items() if given)
            raise InputError(
                f"only a recipe makes use of {what}; without, a quantized network stays as it is"
            )
        return kept(imported, names, origin)
    from subbyte.compress.job import Job
    from subbyte.compress.start import read_start

    told = progress or (lambda stage, done: None)
    job = Job(imported.graph, imported.preprocessing, names, origin, seed, told, work, threads, task)
    if budget is None or not budget.given:
        if start is not None:
            job = replace(job, start=read_start(start, imported.preprocessing))
        return job.compressed(chosen, calibration, labels)
    if start is not None:
        raise InputError("a file to begin with has its bit-widths; leave the budget out")
    if chosen.weights.range == "rate":
        from subbyte.compress.rated import within_size

        if sensitivity is not None or float_layers or patterns or tuple(activations) != (UINT8,):
            raise InputError(
                f"the recipe {chosen.name!r} keeps its formats; leave out what others are chosen by: a "
                "sensitivity table, float layers, patterns, bit-widths of activations"
            )
        return within_size(job, chosen, budget, calibration, labels)
    from subbyte.compress.budgeted import Search, within_budget

    search = Search(job, chosen, budget, target, sensitivity, activations, float_layers, patterns)
    found = within_budget(search, calibration, labels)
    if report is not None:
        report(found)
    return found.artifact

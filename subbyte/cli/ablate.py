"""`subbyte ablate`: what each step of a recipe is worth."""

from __future__ import annotations

import json as json_format
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subbyte.artifact import load, save
from subbyte.cli import options
from subbyte.cli.checks import check_output_folder
from subbyte.cli.console import printable, show_json, show_lines, stages
from subbyte.cli.entries import entry_of, fastest_float_of, with_extras
from subbyte.cli.measure import Subject, check_extras, labelled, subject
from subbyte.cli.report import facts_of, timed
from subbyte.cli.source import load_model
from subbyte.data.samples import Sample, batches, image_folder, subset
from subbyte.data.sets import parse_sets
from subbyte.errors import InputError
from subbyte.recipes.ablation import ablations
from subbyte.report.entry import Entry
from subbyte.system.text_file import write_text

if TYPE_CHECKING:
    from subbyte.importers import Imported
    from subbyte.recipes import Recipe
    from subbyte.report.contents import Report


@options.spread
def ablate(
    model: options.Model,
    recipe: Annotated[str, typer.Option(help="A name (see `subbyte recipes`) or a TOML file.")],
    data: options.Data,
    calibration: Annotated[Path, typer.Option(help="Folder of images to calibrate and to train on.")],
    output: Annotated[Path, typer.Option(help="Folder for the artifacts and the results.")],
    *,
    weights: options.Weights = None,
    task: options.TaskName = None,
    images: Annotated[int, typer.Option(min=1, help="Use at most this many of --calibration.")] = 256,
    resize: options.Resize = None,
    seed: options.Seed = None,
    own_input: options.OwnInput,
    seconds: Annotated[float, typer.Option(min=0, help="Time everything in turns for so long.")] = 0.0,
    extras: options.Extras,
    limit: options.Limit = None,
    threads: options.Threads = 1,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Compress without steps, with each step alone, with all but each, and with all; compare with fp32.

    Every artifact stays in the folder: a second run with the same arguments makes only what is missing.
    Writes ablation.html, ablation.md and, as rows come in, ablation.json there.
    """
    import jinja2  # noqa: F401  better missed now than when everything is made

    from subbyte.recipes import load_recipe
    from subbyte.report.report import markdown, render, table_rows

    sets = parse_sets(data)
    whole = load_recipe(recipe)
    check_output_folder("--output", output)
    check_extras(extras)
    if task is None:
        for each in sets:
            each.samples()
    recipes = {"fp32": load_recipe("fp32")} | ablations(whole)
    title = f"The steps of {whole.name} on {model}"
    loaded = load_model(model, weights, own_input)
    chosen = subset(image_folder(calibration), images, seed or 0)
    source = f"{len(chosen)} images of {printable(calibration.name)}"
    provenance = {**loaded.provenance, "calibration": source}
    job = _Job(loaded, chosen, seed, provenance, output, task)
    output.mkdir(parents=True, exist_ok=True)
    subjects: list[Subject] = []
    entries: list[Entry] = []
    samples: list[Sample] = []
    for name, variant in recipes.items():
        subjects.append(subject(job.artifact(name, variant), resize, threads, isa, task))
        samples = samples or labelled(subjects[0], sets, limit)
        entries.append(entry_of(subjects[-1], name, samples, entries[0] if entries else None))
        _write_rows(output, _page(title, subjects[0], entries, samples, {}))
    measured = timed(subjects, "", None, seconds, isa) if seconds else None
    entries = with_extras(entries, subjects, samples, extras, resize, measured)
    page = _page(title, subjects[0], entries, samples, facts_of(measured, sets, samples, subjects[0]))
    page = replace(page, fastest_float=fastest_float_of(measured, subjects, list(recipes)))
    _write_rows(output, page)
    write_text(output / "ablation.html", render(page))
    write_text(output / "ablation.md", markdown(page))
    show_json(table_rows(page)) if json else show_lines(markdown(page))


def _page(
    title: str,
    first: Subject,
    entries: Sequence[Entry],
    samples: Sequence[Sample],
    facts: Mapping[str, Any],
) -> Report:
    from subbyte.report.contents import Report

    return Report(title, entries, samples, None, "fp32", facts, task=first.task)


def _write_rows(folder: Path, page: Report) -> None:
    from subbyte.report.report import table_rows

    write_text(folder / "ablation.json", json_format.dumps(table_rows(page), indent=1) + "\n")


@dataclass(frozen=True)
class _Job:
    """Everything that the artifacts of an ablation have in common."""

    loaded: Imported
    images: Sequence[Sample]
    seed: int | None
    provenance: Mapping[str, Any]
    folder: Path
    task: str | None

    def artifact(self, name: str, recipe: Recipe) -> Path:
        """The artifact's file, made if there is none. InputError if there is one of something else."""
        stem = re.sub(r"[^\w.+-]", "-", name)  # a recipe may have any name
        path = self.folder / f"{stem}.subbyte"
        if path.exists():
            self._check(path, recipe)
        else:
            self._make(path, recipe)
        return path

    def _check(self, path: Path, recipe: Recipe) -> None:
        kept = load(path)
        seed = recipe.seed if self.seed is None else self.seed
        expected = {**self.provenance, "seed": seed}
        same = kept.recipe == recipe.model_dump(mode="json") and expected.items() <= kept.provenance.items()
        if not same or kept.preprocessing != self.loaded.preprocessing:
            raise InputError(f"{path} was made with other arguments; remove it or choose another folder")

    def _make(self, path: Path, recipe: Recipe) -> None:
        from subbyte.compress.model import compress_model

        images = batches(self.images, self.loaded.preprocessing)
        with stages(f"compressing to {recipe.name}") as stage:
            artifact = compress_model(
                self.loaded,
                recipe,
                images,
                provenance=self.provenance,
                seed=self.seed,
                progress=stage,
                task=self.task,
            )
        save(path, artifact)

"""`subbyte ablate`: what each step, technique and option of a recipe is worth."""

from __future__ import annotations

import json as json_format
import re
import shutil
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
from subbyte.cli.trained_on import labels_of, trained_on
from subbyte.data.samples import Sample, batches
from subbyte.data.sets import parse_sets
from subbyte.errors import InputError
from subbyte.recipes.ablation import ablations, variations
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
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUE[,...]",
            help="Make only the recipe as it is and with this option changed, like distill.epochs=1. Repeat "
            "it for several variants.",
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Make everything with so many seeds, from --seed on: means and spreads."),
    ] = 1,
    own_input: options.OwnInput,
    seconds: Annotated[float, typer.Option(min=0, help="Time everything in turns for so long.")] = 0.0,
    extras: options.Extras,
    limit: options.Limit = None,
    threads: options.Threads = 1,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Compress without each step and technique of a recipe, or with options changed; compare.

    Makes the recipe without steps, with each step alone, with all but each, without each technique that it
    uses, and as it is; with --vary, with each option changed and as it is. All are compared with fp32, and
    with the recipe as it is.

    Every artifact stays in the folder: a second run with the same arguments makes only what is missing, and
    goes on where the first was stopped. Writes ablation.html, ablation.md and, as rows come in, ablation.json
    and variants.json there; --json prints the first, with --vary or --seeds both.
    """
    import jinja2  # noqa: F401  better missed now than when everything is made

    from subbyte.recipes import load_recipe
    from subbyte.report.report import markdown, render, table_rows
    from subbyte.report.variants import variant_markdown

    sets = parse_sets(data)
    whole = load_recipe(recipe)
    check_output_folder("--output", output)
    check_extras(extras)
    if task is None:
        for each in sets:
            each.samples()
    variants = variations(whole, vary) if vary else ablations(whole)
    title = f"The {'options' if vary else 'steps'} of {whole.name} on {model}"
    first = whole.seed if seed is None else seed
    made: list[tuple[str, str, Recipe, int | None]] = [("fp32", "fp32", load_recipe("fp32"), seed)]
    for name, variant in variants.items():
        if seeds == 1:
            made.append((name, name, variant, seed))
        else:
            made += [(name, f"{name} seed {i}", variant, i) for i in range(first, first + seeds)]
    loaded = load_model(model, weights, own_input)
    chosen = trained_on(calibration, images, seed or 0, variants.values())
    source = f"{len(chosen)} images of {printable(calibration.name)}"
    provenance = {**loaded.provenance, "calibration": source}
    job = _Job(loaded, chosen, provenance, output, task)
    output.mkdir(parents=True, exist_ok=True)
    subjects: list[Subject] = []
    entries: list[Entry] = []
    samples: list[Sample] = []
    by_variant: dict[str, list[Entry]] = {}
    for name, own, variant, one in made:
        subjects.append(subject(job.artifact(own, variant, one), resize, threads, isa, task))
        samples = samples or labelled(subjects[0], sets, limit)
        entries.append(entry_of(subjects[-1], own, samples, entries[0] if entries else None))
        by_variant.setdefault(name, []).append(entries[-1])
        page = _page(title, subjects[0], entries, samples, {})
        beside = _beside(by_variant, whole.name, page)
        _write_rows(output, page, beside)
    measured = timed(subjects, "", None, seconds, isa) if seconds else None
    entries = with_extras(entries, subjects, samples, extras, resize, measured)
    page = _page(title, subjects[0], entries, samples, facts_of(measured, sets, samples, subjects[0]))
    names = [own for _, own, _, _ in made]
    page = replace(page, fastest_float=fastest_float_of(measured, subjects, names))
    _write_rows(output, page, beside)
    write_text(output / "ablation.html", render(page))
    text = f"{markdown(page)}\n{variant_markdown(beside, whole.name, page.task)}"
    write_text(output / "ablation.md", text)
    rows = table_rows(page)
    if json:
        show_json({"artifacts": rows, "variants": beside} if vary or seeds > 1 else rows)
    else:
        show_lines(text)


def _page(
    title: str,
    first: Subject,
    entries: Sequence[Entry],
    samples: Sequence[Sample],
    facts: Mapping[str, Any],
) -> Report:
    from subbyte.report.contents import Report

    return Report(title, entries, samples, None, "fp32", facts, task=first.task)


def _beside(variants: Mapping[str, Sequence[Entry]], whole: str, page: Report) -> list[dict[str, Any]]:
    """What each variant but fp32 is beside the whole recipe, if that is there."""
    from subbyte.report.variants import variant_rows

    made = {name: entries for name, entries in variants.items() if name != "fp32"}
    return variant_rows(made, whole, page.entries[0], page.samples, page.task)


def _write_rows(folder: Path, page: Report, beside: Sequence[Mapping[str, Any]]) -> None:
    from subbyte.report.report import table_rows

    for name, rows in (("ablation", table_rows(page)), ("variants", beside)):
        write_text(folder / f"{name}.json", json_format.dumps(rows, indent=1) + "\n")


@dataclass(frozen=True)
class _Job:
    """Everything that the artifacts of an ablation have in common."""

    loaded: Imported
    images: Sequence[Sample]
    provenance: Mapping[str, Any]
    folder: Path
    task: str | None

    def artifact(self, name: str, recipe: Recipe, seed: int | None) -> Path:
        """The artifact's file, made if there is none. InputError if there is one of something else."""
        stem = re.sub(r"[^\w.+-]", "-", name)  # a recipe may have any name
        path = self.folder / f"{stem}.subbyte"
        if path.exists():
            self._check(path, recipe, seed)
        else:
            self._make(path, recipe, seed)
        return path

    def _check(self, path: Path, recipe: Recipe, seed: int | None) -> None:
        kept = load(path)
        expected = {**self.provenance, "seed": recipe.seed if seed is None else seed}
        same = kept.recipe == recipe.model_dump(mode="json") and expected.items() <= kept.provenance.items()
        if not same or kept.preprocessing != self.loaded.preprocessing:
            raise InputError(f"{path} was made with other arguments; remove it or choose another folder")

    def _make(self, path: Path, recipe: Recipe, seed: int | None) -> None:
        from subbyte.compress.model import compress_model

        images = batches(self.images, self.loaded.preprocessing)
        work = path.with_suffix(".work")
        with stages(f"compressing to {path.stem}") as stage:
            artifact = compress_model(
                self.loaded,
                recipe,
                images,
                labels=labels_of(self.images),
                provenance=self.provenance,
                seed=seed,
                progress=stage,
                task=self.task,
                work=work,
            )
        save(path, artifact)
        shutil.rmtree(work, ignore_errors=True)

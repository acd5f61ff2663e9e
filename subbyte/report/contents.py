"""What a report is of: everything that its page, its table and its Markdown show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subbyte.data.samples import Sample
from subbyte.preprocess import Preprocessing
from subbyte.report.entry import Entry
from subbyte.tasks import TASKS, Task
from subbyte.tasks.table import DEFAULT


@dataclass(frozen=True, eq=False)
class Report:
    """All of a page. `reference` is the name of the baseline: agreement, accuracy drop, sizes and errors of
    layers are relative to it.

    facts: what was measured on what (host, versions, threads, images), shown as it is.
    fastest_peer: what `speedup` is relative to; fastest_float: what `float_speedup` is, the fastest float32
    runtime timed. warning: a sentence below the table.
    sensitivity: rows with kind ("weights" or "activations"), layer, bits, kl (added to the class scores
    by that change alone), sqnr (dB, of the block's output).
    corrupted: the images that were corrupted, as preprocessing fits them to the network's input.
    error_images: how many images the layers' errors are of. task: what the outputs mean.
    """

    title: str
    entries: Sequence[Entry]
    samples: Sequence[Sample]
    classes: Sequence[str] | None
    reference: str
    facts: Mapping[str, Any]
    fastest_peer: str | None = None
    warning: str | None = None
    sensitivity: Sequence[Mapping[str, Any]] = ()
    fastest_float: str | None = None
    corrupted: Sequence[Sample] = ()
    preprocessing: Preprocessing | None = None
    error_images: int = 0
    task: Task[Any] = field(default_factory=lambda: TASKS[DEFAULT])

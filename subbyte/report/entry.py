"""One row of a comparison: an artifact of this package, or a peer, and all that was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subbyte.ir.shares import Shares
from subbyte.metrics.cue_conflict import ShapeBias
from subbyte.metrics.robustness import Robustness
from subbyte.metrics.scores import Score
from subbyte.metrics.statistics import Comparison
from subbyte.report.layers import Layer

FAILED = 0.5  # agreement with the reference, below which a network no longer does its work


@dataclass(frozen=True, eq=False)
class Entry:
    """What was not measured is None and shows as a dash.

    file_bytes: size of the file. latency_ms: median milliseconds for one image; latency_range_ms: its
    10th and 90th percentile. float_speedup: over the fastest float32 runtime timed, round by round,
    float_speedup_range: its 10th and 90th percentile; speedup: over the fastest peer, reference_speedup:
    over the reference. agreement: on how many images the answer is the reference's, or the sum over the
    images of how alike they are. compared: what it gains over the reference. calibration: expected
    calibration error of a classifier, 0..1. predictions: the answers of its task. memory_bytes: weights
    and activations in the engine. load_ms: from the file to the first run. plan: as `plan.plan_rows` has it.
    layers: of the graph. shares: of its weights and activations at each format. sqnr: of the layers' outputs,
    dB, as `layer_error.layer_sqnr` has it.
    """

    name: str
    precision: str
    peer: bool = False
    accuracy: Score | None = None
    agreement: float | None = None
    compared: Comparison | None = None
    calibration: float | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    load_ms: float | None = None
    latency_ms: float | None = None
    latency_range_ms: tuple[float, float] | None = None
    float_speedup: float | None = None
    float_speedup_range: tuple[float, float] | None = None
    speedup: float | None = None
    reference_speedup: float | None = None
    robustness: Robustness | None = None
    shape_bias: ShapeBias | None = None
    predictions: Any = None
    plan: Sequence[Mapping[str, Any]] = ()
    layers: Sequence[Layer] = ()
    shares: Shares | None = None
    sqnr: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it agrees with the reference on less than half of the images."""
        if self.accuracy is None or self.agreement is None:
            return False
        return self.agreement < FAILED * self.accuracy.n

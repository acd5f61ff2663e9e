"""The sentence on top of a report: what the best candidate achieves, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from subbyte.metrics.statistics import Comparison, Paired
from subbyte.report.entry import Entry
from subbyte.system.units import size_text

#: The share of the baseline's score that a candidate has to keep to be eligible (as in MLPerf Inference),
#: and what is enough as long as the images do not show that it loses anything.
KEPT, KEPT_IF_UNSURE = 0.99, 0.97
SIGNIFICANT = 0.05  # p below it
TOLERATED = 0.01  # a drop, as a share of the images, that goes without a further word

#: Words, and whether they matter most.
Words = tuple[str, bool]


@dataclass(frozen=True, eq=False)
class Headline:
    """candidate: whom the sentence is about. words: the sentence in pieces; more: sentences about how sure
    it is and how the candidate was chosen, maybe none."""

    candidate: Entry
    words: Sequence[Words]
    more: Sequence[str]

    @property
    def text(self) -> str:
        """Without emphasis."""
        return "".join(words for words, _ in self.words)


def best_candidate(entries: Sequence[Entry], baseline: Entry) -> Entry | None:
    """Of our eligible entries besides the baseline the smallest file; if none is eligible, the most accurate.
    None if there is no candidate whose accuracy is known."""
    candidates = [
        e for e in entries if e is not baseline and not e.peer and not e.failed and e.accuracy is not None
    ]
    if baseline.accuracy is None or not candidates:
        return None
    kept = [e for e in candidates if _eligible(e, baseline)]
    if kept:
        return min(kept, key=lambda e: (e.file_bytes or 0, e.latency_ms or 0))
    return max(candidates, key=_rate)


def _eligible(candidate: Entry, baseline: Entry) -> bool:
    pair = candidate.compared
    unsure = pair is not None and pair.p_value() >= SIGNIFICANT
    return _rate(candidate) >= (KEPT_IF_UNSURE if unsure else KEPT) * _rate(baseline)


def _rate(entry: Entry) -> float:
    assert entry.accuracy is not None
    return entry.accuracy.rate


def headline(entries: Sequence[Entry], reference: str, fastest_float: str | None) -> Headline:
    """reference: the baseline's name; fastest_float: what `Entry.float_speedup` is relative to."""
    baseline = next(entry for entry in entries if entry.name == reference)
    candidate = best_candidate(entries, baseline)
    if candidate is None:
        return _alone(baseline)
    words: list[Words] = [(candidate.name, True), (" is ", False)]
    words += _joined([*_size(candidate, baseline), *_speed(candidate, fastest_float)])
    if len(words) > 2:
        words.append((", with ", False))
    else:
        words[1] = (" has ", False)
    words += [*_drop(candidate, baseline), (".", False)]
    return Headline(candidate, words, [*_doubts(candidate), *_choice(candidate, entries, baseline)])


def _alone(entry: Entry) -> Headline:
    """What is known of one entry, that nothing is compared with."""
    words: list[Words] = [(entry.name, True)]
    if entry.accuracy is not None:
        low, high = (100 * x for x in entry.accuracy.interval())
        words += [
            (f" has a {entry.accuracy.title} of ", False),
            (f"{100 * entry.accuracy.rate:.1f} %", True),
            (f" (95 % interval {low:.1f} to {high:.1f}, n = {entry.accuracy.n})", False),
        ]
    facts = [] if entry.file_bytes is None else [f"a file of {size_text(entry.file_bytes)}"]
    if entry.latency_ms is not None:
        facts.append(f"a latency of {entry.latency_ms:.2f} ms")
    if facts:
        words.append(((", " if len(words) > 1 else " has ") + " and ".join(facts), False))
    if len(words) == 1:
        words.append((": nothing was measured", False))
    words.append((".", False))
    return Headline(entry, words, ["There is no candidate to compare it with."])


def _joined(phrases: Sequence[Sequence[Words]]) -> list[Words]:
    words: list[Words] = []
    for phrase in phrases:
        words += [*([(" and ", False)] if words else []), *phrase]
    return words


def _size(candidate: Entry, baseline: Entry) -> list[list[Words]]:
    if not candidate.file_bytes or not baseline.file_bytes:
        return []
    ratio = baseline.file_bytes / candidate.file_bytes
    amount = f"{ratio:.1f}× smaller" if ratio >= 1 else f"{1 / ratio:.1f}× larger"
    return [[(amount, True), (f" than {baseline.name}", False)]]


def _speed(candidate: Entry, fastest_float: str | None) -> list[list[Words]]:
    if candidate.float_speedup is None or fastest_float is None:
        return []
    ratio = candidate.float_speedup
    amount = f"{ratio:.1f}× faster" if ratio >= 1 else f"{1 / ratio:.1f}× slower"
    return [[(amount, True), (f" than {fastest_float}, the fastest float32 runtime timed", False)]]


def _drop(candidate: Entry, baseline: Entry) -> list[Words]:
    pair, drop = candidate.compared, _rate(baseline) - _rate(candidate)
    points = f"{abs(100 * drop):.1f} points"
    gained = signed(100 * drop).startswith("−")
    words: list[Words] = [(f"an accuracy {'gain' if gained else 'drop'} of ", False), (points, True)]
    if pair is None:
        return words
    low, high = drop_interval(pair)
    kind = "95 % interval of the drop" if gained else "95 % interval"
    return [*words, (f" ({kind} {signed(low)} to {signed(high)}, n = {pair.n})", False)]


def _doubts(candidate: Entry) -> list[str]:
    """What the number of images shows, or cannot rule out."""
    pair = candidate.compared
    if pair is None:
        return []
    if pair.p_value() < SIGNIFICANT and pair.difference < 0:
        test = "McNemar's exact test" if isinstance(pair, Paired) else "normal test"
        return [f"The drop is significant ({test}, p = {pair.p_value():.2g})."]
    high = drop_interval(pair)[1]
    if high > 100 * TOLERATED:
        return [f"{pair.n} images cannot rule out a drop of up to {high:.1f} points."]
    return []


def _choice(candidate: Entry, entries: Sequence[Entry], baseline: Entry) -> list[str]:
    """How the candidate was chosen, if there was a choice."""
    assert baseline.accuracy is not None
    rule = (
        f"loses less than {100 * (1 - KEPT):.0f} % of the baseline's {baseline.accuracy.title}, or less than "
    )
    rule += f"{100 * (1 - KEPT_IF_UNSURE):.0f} % and not significantly"
    if not _eligible(candidate, baseline):
        return [f"No candidate {rule}; this is the most accurate one."]
    if sum(not entry.peer for entry in entries) > 2:
        return [f"It is the smallest candidate that {rule}."]
    return []


def drop_interval(pair: Comparison) -> tuple[float, float]:
    """95 % interval of the accuracy drop, percentage points."""
    low, high = pair.interval()
    return -100 * high, -100 * low


def signed(value: float, digits: int = 1) -> str:
    """With a true minus, and no sign for what rounds to 0."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else "−")

"""The sentence on top says what was measured, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from subbyte.metrics.accuracy import Accuracy
from subbyte.metrics.statistics import Paired
from subbyte.report.entry import Entry
from subbyte.report.headline import best_candidate, drop_interval, headline, signed

N = 1150
BASE = Entry("fp32", "fp32", accuracy=Accuracy(N, 1000, 1100), file_bytes=18_000_000, latency_ms=8.0)


def candidate(name: str, lost: int, gained: int, size: int, speedup: float | None = 3.6) -> Entry:
    return Entry(
        name,
        name,
        accuracy=Accuracy(N, 1000 - lost + gained, 1100),
        agreement=N - lost - gained,
        compared=Paired(N, lost, gained),
        file_bytes=size,
        float_speedup=speedup,
    )


def test_the_sentence_holds_size_speed_drop_and_interval() -> None:
    small = candidate("w4a8", 11, 10, 2_500_000)
    top = headline([BASE, small], "fp32", "ort-fp32")
    assert small.compared is not None
    low, high = (signed(x) for x in drop_interval(small.compared))
    assert top.text == (
        "w4a8 is 7.2× smaller than fp32 and 3.6× faster than ort-fp32, the fastest float32 runtime timed, "
        f"with an accuracy drop of 0.1 points (95 % interval {low} to {high}, n = 1150)."
    )
    assert (low, high) == ("−0.7", "0.9")
    assert not top.more
    assert [words for words, strong in top.words if strong] == [
        *("w4a8", "7.2× smaller", "3.6× faster", "0.1 points")
    ]


def test_without_times_nothing_is_said_about_speed() -> None:
    top = headline([BASE, candidate("w8a8", 10, 10, 4_500_000, None)], "fp32", None)
    assert top.text.startswith("w8a8 is 4.0× smaller than fp32, with an accuracy drop of 0.0 points (")
    assert "faster" not in top.text


def test_slower_larger_and_better_are_called_so() -> None:
    top = headline([BASE, candidate("odd", 0, 23, 36_000_000, 0.5)], "fp32", "ort-fp32")
    assert "odd is 2.0× larger than fp32 and 2.0× slower than ort-fp32" in top.text
    assert "an accuracy gain of 2.0 points (95 % interval of the drop −" in top.text


def test_the_smallest_that_keeps_the_accuracy_is_chosen() -> None:
    large, middle = candidate("w8a8", 8, 8, 5_000_000), candidate("w4a8", 20, 12, 2_500_000)
    tiny, gone = candidate("w2a8", 60, 10, 1_500_000), candidate("w1a1", 900, 0, 900_000)
    peer = replace(candidate("peer", 0, 0, 100), peer=True)
    entries = [BASE, large, middle, tiny, gone, peer]
    assert best_candidate(entries, BASE) is middle
    assert "smallest candidate that loses less than 1 %" in headline(entries, "fp32", None).more[-1]
    assert best_candidate([BASE, tiny, gone], BASE) is tiny
    more = headline([BASE, tiny, gone], "fp32", None).more
    assert "significant (McNemar's exact test, p = " in more[0]
    assert "No candidate loses less than 1 %" in more[1]
    assert best_candidate([BASE, gone, peer], BASE) is None


def test_few_images_cannot_rule_out_a_drop() -> None:
    base = replace(BASE, accuracy=Accuracy(100, 86, 97))
    small = replace(candidate("w4a8", 0, 0, 1), accuracy=Accuracy(100, 84, 97), compared=Paired(100, 5, 3))
    (doubt,) = headline([base, small], "fp32", None).more
    assert (
        doubt
        == f"100 images cannot rule out a drop of up to {drop_interval(Paired(100, 5, 3))[1]:.1f} points."
    )


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("tiny", "w8a8"), "tiny: nothing was measured."),
        (Entry("tiny", "w8a8", file_bytes=2_000_000), "tiny has a file of 2.00 MB."),
        (
            Entry("tiny", "w8a8", accuracy=Accuracy(4, 4, 4), file_bytes=2_000_000, latency_ms=1.5),
            "tiny has a top-1 accuracy of 100.0 % (95 % interval 51.0 to 100.0, n = 4), a file of 2.00 MB "
            "and a latency of 1.50 ms.",
        ),
    ],
)
def test_one_entry_alone(entry: Entry, text: str) -> None:
    assert headline([entry], "tiny", None).text == text


def test_true_minus_and_no_sign_at_zero() -> None:
    assert [signed(x) for x in (-1.25, -0.04, 0.04, 3.0)] == ["−1.2", "0.0", "0.0", "3.0"]

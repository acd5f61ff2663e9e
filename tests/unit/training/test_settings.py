"""Stages grow together, rates rise and fall, numbers out of their range are one error."""

from __future__ import annotations

from typing import Any

import pytest

from subbyte.errors import InputError
from subbyte.training.settings import END, Settings


def test_stages_grow_together() -> None:
    s = Settings(stages=4, first_size=0.5, dropout=(0.1, 0.4), randaugment=(5, 15), mixup=(0, 0.3))
    stages = [s.stage(step, 10) for step in range(10)]
    assert [stage.number for stage in stages] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    found = [(stage.size(96, 128), stage.dropout, stage.randaugment, stage.mixup) for stage in stages]
    expected = [
        ((48, 64), 0.1, 5, 0),
        ((64, 88), 0.2, 5 + 10 / 3, 0.1),
        ((80, 104), 0.3, 5 + 20 / 3, 0.2),  # 106.67, of 104 and 112
        ((96, 128), 0.4, 15, 0.3),
    ]
    for (size, *values), (wanted, *numbers) in zip(
        (found[0], found[3], found[5], found[9]), expected, strict=True
    ):
        assert size == wanted
        assert values == pytest.approx(numbers, rel=1e-15)


def test_the_last_stage_has_the_very_size_and_none_is_larger() -> None:
    s = Settings(stages=3, first_size=0.1)
    assert [s.stage(step, 3).size(75, 6) for step in range(3)] == [(8, 6), (40, 6), (75, 6)]
    assert Settings(stages=1, first_size=0.1).stage(0, 1).size(75, 60) == (75, 60)


def test_the_learning_rate_rises_and_falls() -> None:
    s = Settings(epochs=10, warmup=2, learning_rate=1.0)
    rates = [s.rate_at(step, 100) for step in range(100)]
    assert rates[:20] == [(step + 1) / 21 for step in range(20)]
    assert rates[20] == 1.0
    assert rates[60] == 0.5
    assert sorted(rates[20:], reverse=True) == rates[20:]
    end = Settings(epochs=10, warmup=0, learning_rate=1.0, schedule="exponential").rate_at(100, 100)
    assert end == pytest.approx(END, rel=1e-15)


def test_the_paper_s_numbers() -> None:
    s = Settings(optimizer="rmsprop", batch=4096)
    assert (s.rate, s.decay) == (0.256, 1e-5)
    assert Settings(optimizer="rmsprop", batch=64).rate == 0.004


def test_steps_are_the_images_seen() -> None:
    assert Settings(epochs=2.5, batch=8).steps(33) == 10
    assert Settings(epochs=0.01, batch=8).steps(10) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0.0), ("epochs", float("nan")), ("batch", 1), ("stages", 0), ("first_size", 0.0),
        ("first_size", 1.5), ("dropout", (0.0, 1.0)), ("randaugment", (-1.0, 5.0)), ("mixup", (0.0, -0.1)),
        ("stochastic_depth", 1.0), ("smallest_crop", 0.0), ("label_smoothing", 1.0), ("optimizer", "sgd"),
        ("learning_rate", 0.0), ("learning_rate", float("inf")), ("weight_decay", -1.0), ("warmup", -1.0),
        ("schedule", "step"), ("average", 1.1), ("clip", 0.0), ("teacher_weight", 2.0),
        ("precision", "float16"), ("seed", -1),
    ],
)  # fmt: skip
def test_numbers_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field.replace("_", " ")):
        Settings(**{field: value})

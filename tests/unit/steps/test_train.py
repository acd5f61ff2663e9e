"""The training loop: what each of its options does, and that it is the plain loop without them."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subbyte.errors import DivergenceError, InputError
from subbyte.recipes import Training
from subbyte.steps import train
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Hooks
from subbyte.steps.kept import copies
from subbyte.steps.status import Status
from subbyte.steps.train import minimize
from tests.unit.steps import toy

U = 2.0**-24  # a rounding of float32 errs by at most this share of the result
Leaves = Mapping[str, Mapping[str, Tensor]]


def fit(training: Training, leaves: Leaves | None = None, **more: Any) -> Leaves:
    """The toy problem, trained."""
    leaves = leaves or toy.parameters()
    minimize(leaves, toy.loss_of(leaves, 0.3), toy.COUNT, training, torch.Generator().manual_seed(0), **more)
    return leaves


def equal(a: Leaves, b: Leaves) -> bool:
    return all(torch.equal(a[kind][name], b[kind][name]) for kind in a for name in a[kind])


class Seen(Hooks):
    """Copies of all parameters and gradients after each step."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self.values: list[Leaves] = []
        self.gradients: list[dict[str, Tensor]] = []

    def after(self, step: int, steps: int) -> None:
        self.values.append(copies(self.leaves))
        grads = {f"{kind} {name}": t.grad for kind, named in self.leaves.items() for name, t in named.items()}
        self.gradients.append({name: grad.clone() for name, grad in grads.items() if grad is not None})


def test_without_options_it_is_adam_along_a_cosine() -> None:
    training = Training(epochs=3.0, batch=10, weight=0.03, scale=0.01, pull=0.2)
    leaves, generator = toy.parameters(), torch.Generator().manual_seed(0)
    starts = copies(leaves)["weight"]
    loss = toy.loss_of(leaves, 0.3)
    kinds = ("weight", "scale", "bias")
    adam = torch.optim.Adam([{"params": list(leaves[kind].values()), "lr": 0.0} for kind in kinds])
    order, steps = torch.empty(0, dtype=torch.long), 7  # 3 * 24 / 10
    for step in range(steps):
        if len(order) < 10:
            order = torch.cat([order, torch.randperm(toy.COUNT, generator=generator)])
        chosen, order = order[:10], order[10:]
        for group, kind in zip(adam.param_groups, kinds, strict=True):
            group["lr"] = getattr(training, kind) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        adam.zero_grad()
        loss(chosen, generator).backward()
        adam.step()
        with torch.no_grad():
            for name, weight in leaves["weight"].items():
                weight.lerp_(starts[name], adam.param_groups[0]["lr"] * 0.2)
    assert equal(fit(training), leaves)


def test_steps_count_instead_of_epochs() -> None:
    told: list[int] = []
    fit(Training(epochs=3.0, steps=5), report=told.append)
    assert told == [1, 2, 3, 4, 5]


def test_rates_rise_before_they_fall() -> None:
    rates: list[float] = []

    def tell(status: Status) -> None:
        rates.append(status.facts["rate"])

    fit(Training(steps=20, warmup=0.2), tell=tell)
    falling = [0.5 * (1.0 + math.cos(math.pi * step / 20)) for step in range(20)]
    expected = [rate * min(1.0, (step + 1) / 5) for step, rate in enumerate(falling)]
    assert rates == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("by", ["all", "kind", "tensor"])
def test_gradients_are_shortened_to_a_norm(by: str) -> None:
    steep = {"weight a": 8.0, "weight b": 6.0, "scale a": 0.5, "bias b": 3.0}
    leaves = toy.parameters()
    seen = Seen(leaves)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        every = [(f"{kind} {name}", leaf) for kind, named in leaves.items() for name, leaf in named.items()]
        return sum(
            (leaf.sum() * steep[name] / math.sqrt(leaf.numel()) for name, leaf in every), torch.zeros(())
        )

    told: list[Status] = []
    training = Training.model_validate({"steps": 1, "clip": 1.0, "clip_by": by})
    minimize(leaves, loss, 8, training, torch.Generator(), hooks=(seen,), tell=told.append)
    (found,) = seen.gradients
    norms = {name: float(grad.norm()) for name, grad in found.items()}
    # a scale of "a" scales 6 weights: its gradient counts by its size over sqrt(6)
    counted = {**steep, "scale a": steep["scale a"] / math.sqrt(6)}

    def group(name: str) -> str:
        return {"all": "", "kind": name.split()[0], "tensor": name}[by]

    for name, norm in norms.items():
        whole = math.sqrt(sum(v * v if group(other) == group(name) else 0.0 for other, v in counted.items()))
        # of a norm of at most 12 squares: 14 roundings before, and 14 in this one's
        assert norm == pytest.approx(steep[name] / max(1.0, whole), rel=28 * U)
    assert told[0].facts["gradient"] == pytest.approx(
        math.sqrt(sum(v * v for v in counted.values())), rel=28 * U
    )


def weighted(values: list[Leaves], weights: list[float], kind: str, name: str) -> Tensor:
    parts = [w * v[kind][name].double() for w, v in zip(weights, values, strict=True)]
    return torch.stack(parts).sum(0) / sum(weights)


@pytest.mark.parametrize(
    ("training", "weights"),
    [
        (Training(steps=20, ema=0.8), [0.8 ** (19 - i) for i in range(20)]),
        (Training(steps=20, tail=0.25), [0.0] * 15 + [1.0] * 5),
        (Training(steps=20, tail=0.01), [0.0] * 19 + [1.0]),
    ],
    ids=["ema", "tail", "one step"],
)
def test_the_result_is_the_average_of_parameters(training: Training, weights: list[float]) -> None:
    leaves = toy.parameters()
    seen = Seen(leaves)
    fit(training, leaves, hooks=(seen,))
    for kind in leaves:
        for name, leaf in leaves[kind].items():
            expected = weighted(seen.values, weights, kind, name)
            most = max(float(v[kind][name].abs().max()) for v in seen.values)
            # each of 20 steps takes a difference, a product and a sum of numbers up to twice the largest
            assert float((leaf.detach().double() - expected).abs().max()) <= 20 * 3 * 2 * most * U


def scripted(losses: list[float]) -> Callable[[], dict[str, float]]:
    left = iter(losses)
    return lambda: {"loss": next(left), "agreement": 0.5}


def test_the_best_on_a_check_is_kept_and_patience_ends_training() -> None:
    told: list[Status] = []
    for patience, losses, steps in (
        (0, [4.0, 3.0, 1.0, 2.0, math.nan, 1.5, 1.0], 30),  # to the end
        (2, [4.0, 3.0, 1.0, 2.0, 1.0], 20),  # equal is not better
    ):
        leaves = toy.parameters()
        seen = Seen(leaves)
        training = Training(steps=30, held_back=0.1, check=5, patience=patience)
        told.clear()
        fit(training, leaves, hooks=(seen,), check=scripted(losses), tell=told.append)
        assert len(told) == steps
        assert equal(leaves, seen.values[9])
        assert not equal(leaves, seen.values[-1])
        assert [status.facts.get("check_loss") for status in told[3:10]] == [4.0, *[3.0] * 5, 1.0]
    assert "held back 1, agreement 50.00 %" in str(told[-1])


def test_a_check_sees_the_average() -> None:
    leaves = toy.parameters()
    seen, checked = Seen(leaves), []

    def check() -> dict[str, float]:
        checked.append(copies(leaves))
        return {"loss": float(len(checked) != 3)}

    fit(Training(steps=20, tail=0.5, held_back=0.1, check=9), leaves, hooks=(seen,), check=check)
    assert len(checked) == 4  # before the first, and after 9, 18 and all 20 steps
    assert equal(checked[0], toy.parameters())
    assert equal(checked[1], seen.values[8])  # there is no average yet
    assert equal(checked[2], leaves)
    assert not equal(checked[2], seen.values[17])


def test_training_that_only_makes_it_worse_changes_nothing() -> None:
    assert equal(fit(Training(steps=9, held_back=0.1), check=scripted([1.0] * 10)), toy.parameters())


def test_checks_are_ten_unless_said_and_the_last_step_has_one() -> None:
    counted: list[int] = []

    def check() -> dict[str, float]:
        counted.append(1)
        return {"loss": 1.0}

    fit(Training(steps=35, held_back=0.1), check=check)
    assert len(counted) == 13  # before the first, every third step, and the last


def test_images_held_back_are_spread_and_not_trained_on() -> None:
    training = Training(steps=1, held_back=0.25)
    kept, held = split(10, training)
    assert held.tolist() == [3, 7]
    assert sorted(kept.tolist() + held.tolist()) == list(range(10))
    twice, held = split(10, training, copies=2)
    assert twice.tolist() == kept.tolist() + [10 + i for i in kept.tolist()]
    assert held.tolist() == [3, 7]
    none = split(10, Training(steps=1))
    assert (none[0].tolist(), none[1].tolist()) == (list(range(10)), [])
    assert mean_over(none[1], 4, lambda part: {"loss": 0.0}) is None
    check = mean_over(torch.tensor([1, 2, 6]), 2, lambda part: {"loss": float(part.double().mean())})
    assert check is not None
    assert check() == {"loss": 3.0}
    with pytest.raises(InputError, match=r"0\.25 of 3 images cannot be held back"):
        split(3, training)


def test_hooks_are_told_before_and_after_each_step() -> None:
    told: list[tuple[str, int, int]] = []

    class Told(Hooks):
        def before(self, step: int, steps: int) -> None:
            told.append(("before", step, steps))

        def after(self, step: int, steps: int) -> None:
            told.append(("after", step, steps))

        def facts(self) -> dict[str, float]:
            return {"bits": 4.0}

    statuses: list[Status] = []
    fit(Training(steps=2), hooks=(Told(),), tell=statuses.append)
    assert told == [("before", 0, 2), ("after", 0, 2), ("before", 1, 2), ("after", 1, 2)]
    assert "4.00 bits" in str(statuses[0])


# ----------------------------------------------------------------------------- states


def test_killed_at_any_step_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """The process ends by SIGKILL after a step drawn at random, three times: it writes a state after most, so
    perhaps while it does."""
    torch.set_num_threads(1)
    whole = toy.main(None, None)
    rng, state, result = random.Random(0), tmp_path / "state.pt", tmp_path / "result.pt"
    command = [sys.executable, "-m", "tests.unit.steps.toy", str(state), str(result)]
    begun = []
    for target in sorted(rng.sample(range(5, toy.ALL.steps - 3), 3)):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        steps = iter(process.stdout)
        begun.append(step := int(next(steps)))
        while step < target:
            step = int(next(steps))
        process.kill()
        assert process.wait() == -9
        process.stdout.close()
        assert not result.exists()
    end = subprocess.run(command, capture_output=True, text=True, check=True)
    begun.append(int(end.stdout.split()[0]))
    assert begun[0] == 1
    assert begun[1] > 1
    assert begun == sorted(begun)
    assert equal(torch.load(result), whole)
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "result.pt"}


def test_a_state_of_another_training_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVED_EVERY", 1)
    path = tmp_path / "state.pt"
    fit(Training(steps=2), saved=path)
    good = torch.load(path)
    others: list[dict[str, Any]] = [
        {"parameters": {}},
        {k: v for k, v in good.items() if k != "average"},
        {**good, "optimizer": {"state": {}, "param_groups": []}},
        {**good, "hooks": [{}]},
        {**good, "generator": torch.zeros(3, dtype=torch.uint8)},
    ]
    for changed in others:
        torch.save(changed, path)
        with pytest.raises(InputError, match=r"state\.pt is no state of training; delete it"):
            fit(Training(steps=2), saved=path)


def test_saving_takes_two_per_cent_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], []

    def wait(seconds: float) -> None:
        now[0] += seconds

    def run(seconds: float, cost: float) -> list[int]:
        def write(path: Path, state: Mapping[str, Any]) -> None:
            wait(cost)
            written.append(state["step"])

        monkeypatch.setattr(train, "write_state", write)
        written.clear()
        fit(Training(steps=400), saved=tmp_path / "state.pt", report=lambda step: wait(seconds))
        return written[:4]

    monkeypatch.setattr(train, "monotonic", lambda: now[0])
    assert run(1.0, 0.1) == [25, 50, 75, 100]  # every 25 steps
    assert run(10.0, 0.1) == [6, 12, 18, 24]  # every minute
    assert run(1.0, 2.0) == [25, 125, 225, 325]  # every 50 times what it took


# ----------------------------------------------------------------------------- divergence


def broken(leaves: Leaves, at: int, how: Callable[[Tensor], Tensor]) -> train.Loss:
    """The toy's loss, changed in one step."""
    plain, calls = toy.loss_of(leaves), [0]

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        calls[0] += 1
        value = plain(chosen, generator)
        return how(value) if calls[0] == at else value

    return loss


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            lambda leaves, v: v * math.nan,
            "the loss is nan; the largest parameter is the weight of layer 'a', 0.9",
        ),
        (
            lambda leaves, v: v + math.inf,
            "the loss is inf; the largest parameter is the weight of layer 'a'",
        ),
        (
            # the derivative of a root is infinite at zero
            lambda leaves, v: v + (leaves["scale"]["a"] - leaves["scale"]["a"].detach()).abs().sqrt().sum(),
            "the gradient of the scale of layer 'a' is infinite or not a number: lower the rate 'scale' "
            "(now 0.002), or set clip",
        ),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_what_is_not_finite_ends_training_with_the_last_state_kept(
    how: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVED_EVERY", 1)
    monkeypatch.setattr(train, "SAVED_COST", 0)
    training, path = Training(steps=9), tmp_path / "state.pt"

    def run(leaves: Leaves, loss: train.Loss, saved: Path | None = None) -> Leaves:
        minimize(leaves, loss, toy.COUNT, training, torch.Generator().manual_seed(0), saved=saved)
        return leaves

    leaves = toy.parameters()
    with pytest.raises(DivergenceError) as error:
        run(leaves, broken(leaves, 5, lambda value: how(leaves, value)), path)
    text = str(error.value)
    assert text.startswith("training diverged in step 5 of 9: ")
    assert text.endswith(f"; the state after step 4 is kept in {path}")
    assert message in text
    assert all(torch.isfinite(leaf).all() for named in leaves.values() for leaf in named.values())
    first, other = toy.parameters(), toy.parameters()
    assert equal(run(first, toy.loss_of(first), path), run(other, toy.loss_of(other)))


def test_parameters_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "SAVED_EVERY", 1)
    monkeypatch.setattr(train, "SAVED_COST", 0)
    leaves = toy.parameters()

    class Spoils(Hooks):
        def after(self, step: int, steps: int) -> None:
            if step == 3:
                with torch.no_grad():
                    leaves["weight"]["b"][1] = math.inf

    with pytest.raises(DivergenceError, match=r"in step 5 .* of layer 'b', inf: .* after step 3 is"):
        fit(Training(steps=9), leaves, saved=tmp_path / "state.pt", hooks=(Spoils(),))
    assert torch.load(tmp_path / "state.pt")["step"] == 3


@pytest.mark.parametrize(("sign", "word"), [(1.0, "collapsed: it shrank to"), (-1.0, "exploded: it grew to")])
def test_a_scale_beyond_its_limit_ends_training(sign: float, word: str) -> None:
    leaves = toy.parameters()

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return sign * leaves["scale"]["a"][1]

    training = Training(steps=9, scale=1.0)
    with pytest.raises(DivergenceError, match=f"the scale of layer 'a', channel 1, {word}") as error:
        minimize(
            leaves, loss, toy.COUNT, training, torch.Generator(), limits={"scale": {"a": 2.0}, "grid": {}}
        )
    # Adam moves by the rate in each step while the gradient stays: below 2 until the third
    assert "diverged in step 3 of 9" in str(error.value)
    assert "lower the rate 'scale' (now 1), or set clip" in str(error.value)

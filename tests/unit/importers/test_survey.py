"""All that stops a network is found in one go, each under the name of the module that it is in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from subbyte.errors import SubbyteError, UnsupportedOperatorError
from subbyte.importers.rules.problems import advice
from subbyte.importers.torch_export import capture, survey
from subbyte.importers.torch_export.operators import RULES

SHAPE = (6, 6, 4)


def found(module: nn.Module) -> list[tuple[str, str]]:
    """(operator without namespace and overload, module path) of every problem."""
    result = survey(module, SHAPE)
    assert (result.graph is None) == bool(result.problems)
    return [(p.site.operator.removeprefix("aten.").partition(".")[0], p.site.module) for p in result.problems]


class Erf(nn.Module):
    """One operator that there is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.erf()


class Block(nn.Module):
    """A dilated pool, a function that there is not, and running sums, in one forward."""

    def __init__(self, curve: nn.Module | None = None) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, 1, 1, dilation=2)
        self.curve = curve or Erf()
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.curve(self.pool(x))).cumsum(1)


def test_every_problem_is_found_behind_the_others() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 1), Block(), nn.Sequential(Block()), nn.LogSoftmax(1))
    assert found(model) == [
        ("max_pool2d", "1.pool"),
        ("erf", "1.curve"),
        ("cumsum", "1"),
        ("max_pool2d", "2.0.pool"),
        ("erf", "2.0.curve"),
        ("cumsum", "2.0"),
        ("log_softmax", "3"),
    ]


def test_capture_names_the_first_and_counts_the_others() -> None:
    with pytest.raises(UnsupportedOperatorError) as error:
        capture(Block(), SHAPE)
    assert str(error.value) == (
        "operator aten.max_pool2d.default in module 'pool' (MaxPool2d) is not supported: "
        "dilation must be 1, not 2 x 2; and 2 more, which `subbyte check` lists"
    )


def test_a_shared_module_is_named_as_it_was_called() -> None:
    curve = Erf()
    model = nn.Sequential(Block(curve), Block(curve))
    assert [path for name, path in found(model) if name == "erf"] == ["0.curve", "1.curve"]


def test_views_that_making_the_program_functional_repeats_are_named_once_and_by_who_called_them() -> None:
    class Halves(nn.Module):
        """What in-place functions change is read through the views again."""

        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            u, v = x[:, :, :6, :6].tril().split(2, 1)
            return torch.cat([self.act(u), v + self.act(u)], 1)

    model = nn.Sequential(nn.Conv2d(4, 4, 1), Halves())
    assert found(model) == [("tril", "1")]


def test_a_view_is_blamed_for_what_its_reader_cannot_read() -> None:
    model = nn.Sequential(nn.ConstantPad2d(1, float("-inf")), nn.ReLU(), nn.Conv2d(4, 4, 3))
    (problem,) = survey(model, SHAPE).problems
    assert str(problem) == (
        "operator aten.pad.default in module '0' (ConstantPad2d) is not supported: "
        "operator aten.relu.default in module '1' (ReLU) reads its result; "
        "only a sliding window takes padding with -inf over"
    )


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        # five dimensions have no stand-in: what is known is not looked at behind them, what is unknown is
        (
            lambda x: x.view(1, 2, 2, 6, 6).cumsum(1).transpose(1, 2).reshape(1, 4, 6, 6).erf(),
            ["cumsum", "erf"],
        ),
        (lambda x: torch.relu(x.flatten(2).erf()).cumsum(-1).mean(1), ["erf", "cumsum"]),
        # shapes that depend on values, and torch's arithmetic on them
        (lambda x: x[x > 0].erf(), ["gt", "index", "erf"]),
        (lambda x: x + torch.rand_like(x), ["rand_like"]),
        (lambda x: [y.relu() for y in x.sort(1)], ["sort"]),
        (lambda x: F.max_pool2d(x.sort(1)[0], 9, padding=4), ["sort"]),
        (lambda x: (x.sort(1)[0].clone(), x.relu(), x), ["sort", "output 2"]),
        (
            lambda x: (x.erf() * x.mean((2, 3), True), x.erf().mean((2, 3)).view(1, 4, 1, 1).relu()),
            ["erf", "erf"],
        ),
        (lambda x: torch.cond(x.sum() > 0, torch.relu, torch.tanh, (x,)).erf(), ["gt", "cond", "erf"]),
    ],
)
def test_what_follows_a_problem_is_not_one(
    forward: Callable[[torch.Tensor], object], expected: list[str]
) -> None:
    class Forward(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return forward(x)

    assert [name for name, _ in found(Forward())] == expected


def test_where_a_model_cannot_be_traced(capfd: pytest.CaptureFixture[str]) -> None:
    class Dynamic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(SubbyteError) as error:
        survey(nn.Sequential(nn.Conv2d(4, 4, 1), Dynamic()), SHAPE)
    message = str(error.value)
    assert f"at {__file__}:" in message
    assert "(if x.sum() > 0:) in module '1'; give it" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")  # none of torch's own dumps


def test_a_second_input_is_asked_for() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    with pytest.raises(SubbyteError, match=r"'y'; give it a forward that takes one image batch"):
        survey(Two(), SHAPE)


def test_lines_are_the_users() -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.erf()

    (problem,) = survey(nn.Sequential(Own()), SHAPE).problems
    file, _, line = problem.site.line.rpartition(":")
    assert file == __file__
    assert int(line) == Own.forward.__code__.co_firstlineno + 1


def test_no_reason_offers_what_it_refuses() -> None:
    for name in RULES:
        assert name not in advice(name)

"""Whole modules: naming, odd structure, aliasing, errors, and what capture leaves untouched."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from subbyte.errors import GraphError, InputError, SubbyteError, UnsupportedOperatorError
from subbyte.execute.reference import run
from subbyte.importers.torch_export import capture
from subbyte.ir import Graph
from subbyte.passes import optimize, squeeze_excite

Agrees = Callable[[nn.Module, tuple[int, int, int]], Graph]
Randomize = Callable[[nn.Module], nn.Module]


class ConvGate(nn.Module):
    """Squeeze-and-excitation whose children are declared in another order than they run."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(squeezed, channels, 1)
        self.squash = nn.Sigmoid()
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.squash(self.up(F.silu(self.down(self.pool(x))))) * x


class LinearGate(nn.Module):
    """The same on vectors, as the original paper's code has it."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(squeezed, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c = x.shape[:2]
        y = F.adaptive_avg_pool2d(x, 1).view(n, c)
        return x * self.fc(y).view(n, c, 1, 1).expand_as(x)


@pytest.mark.parametrize("gate", [ConvGate, LinearGate])
def test_hand_written_squeeze_excite(
    gate: Callable[[int, int], nn.Module], agrees_with_torch: Agrees
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), gate(8, 2), nn.Conv2d(8, 4, 1))
    graph = agrees_with_torch(model, (7, 6, 3))
    optimized = optimize(graph)
    assert [n.op for n in optimized.nodes] == [
        "conv2d",
        "global_avg_pool",
        "conv2d",
        "conv2d",
        "mul",
        "conv2d",
    ]
    (block,) = squeeze_excite(optimized)
    assert optimized.node(block.gate).inputs[0] == optimized.node("0").output == block.input
    assert [optimized.node(n).attrs["act"] for n in (block.reduce, block.expand)][1] == "sigmoid"


def test_sequential_names_are_module_paths() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    graph = capture(model, (5, 5, 3))
    assert [n.name for n in graph.nodes] == ["0.0", "0.1", "0.2", "1", "3.flatten", "3"]
    assert [n.output for n in graph.nodes] == [n.name for n in graph.nodes]


def test_functions_of_a_container_are_named_after_it_and_shared_modules_get_suffixes(
    agrees_with_torch: Agrees,
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.SiLU()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.act(self.conv(x))
            return self.act(self.conv(y)) + x

    graph = agrees_with_torch(nn.Sequential(Block(), Block()), (3, 3, 4))
    first = ["0.conv", "0.act", "0.conv_1", "0.act_1", "0.add"]
    assert [n.name for n in graph.nodes] == [*first, *(name.replace("0", "1", 1) for name in first)]


def test_the_same_block_called_twice(agrees_with_torch: Agrees) -> None:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    graph = agrees_with_torch(nn.Sequential(block, nn.Tanh(), block), (4, 5, 4))
    assert [n.op for n in graph.nodes] == ["conv2d", "batch_norm", "activation", "conv2d", "batch_norm"]


def test_in_place_operators_change_what_later_readers_see(agrees_with_torch: Agrees) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.conv(x)
            z = torch.sigmoid(y)
            F.relu_(y)
            y += x
            return y, z

    graph = agrees_with_torch(InPlace(), (4, 4, 3))
    assert sorted(n.op for n in graph.nodes) == ["activation", "activation", "add", "conv2d"]


def test_unused_branches_are_dropped_even_when_unsupported() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.softmax(self.b(x), 1)
            return self.a(x)

    assert [n.name for n in capture(Unused(), (4, 4, 3)).nodes] == ["a"]


def test_outputs_may_be_a_dict() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | list[torch.Tensor]]:
            return {"a": torch.relu(x), "b": [torch.tanh(x)]}

    graph = capture(Two(), (2, 2, 1))
    assert [graph.node(name).attrs["act"] for name in graph.outputs] == ["relu", "tanh"]


def test_training_mode_is_captured_as_evaluation_and_restored(randomize: Randomize) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
    randomize(model).train()
    model[1].eval()
    graph = capture(model, (4, 4, 3))
    assert [n.op for n in graph.nodes] == ["conv2d", "batch_norm", "activation"]
    assert [m.training for m in model] == [True, False, True, True]
    assert int(model.state_dict()["1.num_batches_tracked"]) == 0


def test_the_graph_owns_its_weights(randomize: Randomize) -> None:
    model = randomize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)))
    graph = capture(model, (2, 2, 3))
    x = np.ones((1, 2, 2, 3), np.float32)
    before = run(graph, x)[graph.outputs[0]]
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    np.testing.assert_array_equal(run(graph, x)[graph.outputs[0]], before)


def test_weight_layout_and_missing_bias() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, (3, 2), bias=False), nn.ReLU())
    node = capture(model, (5, 5, 2)).node("0")
    weight = model.state_dict()["0.weight"].numpy()
    np.testing.assert_array_equal(node.params["weight"], weight.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(node.params["bias"], np.zeros(3, np.float32))


def test_untraceable_models_get_one_sentence() -> None:
    class Dynamic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) if x.sum() > 0 else x * 2

    with pytest.raises(SubbyteError, match=r"torch\.export cannot trace Dynamic on a float32 input") as error:
        capture(Dynamic(), (4, 4, 3))
    assert "\n" not in str(error.value)


def test_wrong_channel_count_is_explained() -> None:
    with pytest.raises(SubbyteError, match=r"cannot trace Conv2d on a float32 input \[1, 5, 4, 4\]"):
        capture(nn.Conv2d(3, 4, 1), (4, 4, 5))


def test_subgraphs_are_unsupported() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cond(x.sum() > 0, lambda y: y.relu(), lambda y: y.tanh(), (x,))

    with pytest.raises(UnsupportedOperatorError, match="not supported"):
        capture(Branch(), (4, 4, 3))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x.clone(), "output 0 is not supported: it is the image itself"),
        (
            lambda x: (torch.relu(x), torch.ones(3)),
            "output 1 is not supported: it does not depend on the image",
        ),
    ],
)
def test_outputs_that_do_not_depend_on_the_image(
    function: Callable[[torch.Tensor], object], text: str
) -> None:
    class Output(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return function(x)

    with pytest.raises(SubbyteError, match=text):
        capture(Output(), (4, 4, 3))


def test_damaged_weights_are_refused() -> None:
    model = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(GraphError, match=re.escape("holds NaN or infinity")):
        capture(model, (4, 4, 3))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 0), (4.0, 4, 3), (1, 3, 4, 4)])
def test_bad_shapes(shape: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"three positive integers \(H, W, C\)"):
        capture(nn.ReLU(), shape)  # type: ignore[arg-type]

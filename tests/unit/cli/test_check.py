"""`subbyte check`: what stops a network, or what it costs; and where a user's own code fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subbyte.recipes import list_recipes

Invoke = Callable[..., Any]
Fails = Callable[..., None]

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.LogSoftmax(1)
    def forward(self, x):
        return self.norm(self.conv(x)).cumsum(1)

def stopped():
    return nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Block(), nn.Flatten(), nn.LogSoftmax(1))

def good():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

def two_widths():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1), nn.Conv2d(4, 2, 1)
        def forward(self, x):
            return self.c(self.b(torch.cat([x, self.a(x)], 1)))
    return Joined()

class Dynamic(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def broken():
    return wrong_channels(None)

def wrong_channels(channels):
    return nn.Conv2d(channels, 3, 1)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "own.py"
    path.write_text(SOURCE)
    return path


def line_of(text: str) -> int:
    return 1 + next(i for i, line in enumerate(SOURCE.splitlines()) if text in line)


def test_all_problems_are_listed(invoke: Invoke, own: Path) -> None:
    result = invoke("check", f"{own}:stopped", "--input-size", 16, "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["supported"] is False
    found = [(p["operator"], p["class"], p["count"], p["modules"]) for p in facts["problems"]]
    assert found == [
        ("aten.log_softmax.int", "LogSoftmax", 3, ["1.norm", "2.norm", "4"]),
        ("aten.cumsum.default", "Block", 2, ["1", "2"]),
    ]
    assert facts["problems"][0]["reason"] == "leave it out and apply it to the outputs"
    assert facts["problems"][1]["lines"] == [f"{own}:{line_of('.cumsum(1)')}"]


def test_the_table_of_problems(invoke: Invoke, own: Path) -> None:
    result = invoke("check", f"{own}:stopped", "--input-size", 16)
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert "own.py:stopped cannot be compressed: 5 unsupported operators" in words
    assert "aten.log_softmax.int 3 1.norm, 2.norm, 4 (LogSoftmax) leave it out" in words
    assert "Supported operators: conv2d, " in words


def test_what_a_network_costs(invoke: Invoke, own: Path) -> None:
    arguments = ("check", f"{own}:good", "--input-size", "6x5")
    facts = json.loads(invoke(*arguments, "--json").stdout)
    assert facts == {
        "model": f"{own}:good",
        "supported": True,
        "input": [6, 5, 3],
        "outputs": {"4": [5]},
        "layers": {"conv2d": 1, "global_avg_pool": 1, "flatten": 1, "linear": 1},
        "macs": 4 * 3 * 8 * 27 + 8 * 5,
        "parameters": 8 * 27 + 8 + 8 * 5 + 5,
        "quantized": False,
        "recipes": dict.fromkeys(list_recipes()),
    }
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "own.py:good can be compressed" in result.stdout
    assert "1 conv2d, 1 global_avg_pool, 1 flatten, 1 linear" in result.stdout


def test_recipes_that_do_not_apply_say_why(invoke: Invoke, own: Path) -> None:
    """The image, of 8 bits, shares its grid with a map, of 4."""
    arguments = ("check", f"{own}:two_widths", "--input-size", "6")
    recipes = json.loads(invoke(*arguments, "--json").stdout)["recipes"]
    assert "these values share one grid but are to have different bits: 'a' 4, 'input' 8" in recipes["w4a4"]
    assert {name for name, against in recipes.items() if against} == {
        n for n in recipes if n.startswith("w4a4")
    }
    assert "not w4a4 " in invoke(*arguments).stdout


def test_a_network_of_the_catalog_needs_no_weights(invoke: Invoke) -> None:
    result = invoke("check", "efficientnet_es", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["input"] == [224, 224, 3]


def test_a_model_that_cannot_be_traced(invoke: Invoke, fails: Fails, own: Path) -> None:
    arguments = ("check", f"{own}:Dynamic", "--input-size", 8)
    fails(f"at {own}:{line_of('if x.sum()')} (return x if x.sum() > 0 else -x)", *arguments)
    result = invoke(*arguments, "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert facts["supported"] is False
    assert "torch.export cannot trace Dynamic" in facts["problems"][0]["reason"]


def test_a_builder_that_fails_is_named_with_its_line(fails: Fails, own: Path) -> None:
    line = line_of("nn.Conv2d(channels, 3, 1)")
    for command in (
        ("check", f"{own}:broken"),
        ("compress", f"{own}:broken", "--recipe", "fp32", "--output", own.parent / "x.subbyte"),
    ):
        fails(f"own.py:broken failed in line {line} of {own} with TypeError: ", *command, "--input-size", 8)


def test_the_traceback_on_request(invoke: Invoke, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("check", f"{own}:broken", "--input-size", 8)
    monkeypatch.setenv("SUBBYTE_TRACEBACK", "1")
    by_variable = invoke(*arguments)
    monkeypatch.delenv("SUBBYTE_TRACEBACK")
    for result in (invoke(*arguments, "--traceback"), by_variable):
        assert result.exit_code == 1
        assert f'File "{own}", line {line_of("return wrong_channels")}, in broken' in result.stderr
        assert "TypeError" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in invoke(*arguments).stderr

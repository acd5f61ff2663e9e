"""The modules export to a flat program of few operators, with padding as constants."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from subbyte import models

OPERATORS = {
    "conv2d.default",
    "pad.default",
    "batch_norm.default",
    "silu.default",
    "relu.default",
    "hardtanh.default",  # ReLU6: bounds 0 and 6
    "sigmoid.default",
    "mean.dim",
    "mul.Tensor",
    "add.Tensor",
    "linear.default",
}


def _export(name: str, size: int) -> torch.export.ExportedProgram:
    module = models.load(name, "random:1").module
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    program = torch.export.export(module, (x,))
    with torch.inference_mode():
        assert torch.equal(program.module()(x), module(x))
    return program


def _calls(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize(
    "name",
    ["efficientnet_es", "tf_efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_b0"],
)
def test_exports_to_known_operators(name: str, size: int) -> None:
    program = _export(name, size)
    names = {str(node.target).removeprefix("aten.") for node in _calls(program)}
    assert names <= OPERATORS


def test_padding_is_a_constant() -> None:
    """64 halves evenly five times: one zero after. 75 -> 38 -> 19 -> 10 -> 5 -> 3: both kinds."""
    one_after, both = [0, 1, 0, 1], [1, 1, 1, 1]
    expected = {64: [one_after] * 5, 75: [both, one_after, both, one_after, both]}
    for size, pads in expected.items():
        program = _export("tf_efficientnetv2_b0", size)
        found = [n.args[1] for n in _calls(program) if str(n.target) == "aten.pad.default"]
        assert found == pads, size


def test_symmetric_models_export_without_pads() -> None:
    program = _export("efficientnet_es", 64)
    assert not [n for n in _calls(program) if "pad" in str(n.target)]


def test_product_needs_neither_timm_nor_torchvision() -> None:
    code = (
        "import sys; from subbyte import models; models.load('efficientnet_b0', 'random');"
        "assert not {'timm', 'torchvision', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

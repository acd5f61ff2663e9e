"""What a network costs on a device, on the command line: layers, their sum, and what a user gets wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subbyte.artifact import save
from subbyte.device import find_target
from subbyte.device.network import asked, price
from tests.fuzz.graphs import seeds
from tests.unit.cli.conftest import Invoke


def test_layers_add_up_to_the_image(invoke: Invoke, tmp_path: Path) -> None:
    graph = seeds()["quantized8"].graph
    save(tmp_path / "a.subbyte", seeds()["quantized8"])
    words = ("inspect", tmp_path / "a.subbyte", "--target", "v2-npu", "--rate", 50)
    found = json.loads(invoke(*words, "--json").stdout)
    total = price(find_target("v2-npu"), asked(graph))
    assert [row["name"] for row in found["layers"]] == [node.name for node in graph.nodes]
    assert found["ms"] == pytest.approx(sum(row["ms"] for row in found["layers"])) == total.time
    assert found["mw"] == pytest.approx(50.0 * found["mj"])
    assert found["busy"] == pytest.approx(0.05 * found["ms"])
    shown = invoke(*words).stdout
    assert "waits for" in shown
    assert f"{total.time:.3f} ms, {total.energy:.4f} mJ" in shown
    assert "50 images a second" in shown


def test_a_float_network_is_said_to_be_priced_as_8_bits(invoke: Invoke, tmp_path: Path) -> None:
    save(tmp_path / "a.subbyte", seeds()["real"])
    found = json.loads(
        invoke("inspect", tmp_path / "a.subbyte", "--target", "ethos-u55-256", "--json").stdout
    )
    assert "as if quantized to 8 bits" in found["note"]
    own = json.loads(invoke("inspect", tmp_path / "a.subbyte", "--target", "raspberry-pi-5", "--json").stdout)
    assert own["note"] == ""
    assert own["layers"][0]["cycles"] is None


def test_devices_and_formats_that_are_not_there(invoke: Invoke, tmp_path: Path) -> None:
    save(tmp_path / "a.subbyte", seeds()["narrow"])
    for target, message in (("fridge", "there is no device 'fridge'"), ("v2-npu", "does not run")):
        result = invoke("inspect", tmp_path / "a.subbyte", "--target", target)
        assert result.exit_code == 1
        assert message in result.stderr

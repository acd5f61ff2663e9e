"""The cost model of an NPU: layers computed by hand, and profiles that say what is wrong with them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.npu import KNOWN_MS, KNOWN_MW, calibrated, v1
from subbyte.device import Layer, find_target
from subbyte.device.network import Asked, as_quantized, asked, border, convolution, linear, price
from subbyte.device.npu import Npu
from subbyte.device.npu_profile import UINT16
from subbyte.device.profile import parse_profile
from subbyte.errors import InputError
from subbyte.quant import activation_format, weight_format
from subbyte.quant.format import FP32, INT8, UINT8
from tests.fuzz.graphs import seeds

SPARSE = weight_format("int8+2:4")
#: 100 MHz; 2 x 2 pixels of 4 outputs over 4 inputs a cycle; 8 numbers leave it a cycle; 32 bytes a cycle from
#: SRAM, 10 from DRAM (1 GB/s); 4000 bytes of SRAM of which 1000 are two tiles of weights: maps of up to 1500
#: bytes stay.
PROFILE = """
kind = "npu"
name = "toy"
[array]
frequency = 100.0
frequency_source = "x"
outputs = 8.0
outputs_source = "x"
launch = 0.0
launch_source = "x"
block = [8, 8, 16]
block_source = "x"
[[array.dense]]
rows = 2
columns = 2
outputs = 4
inputs = 4
taps = 1
cycles = 1
source = "x"
[[array.depthwise]]
rows = 2
columns = 2
outputs = 4
taps = 1
cycles = 1
source = "x"
[vector]
rate = 4.0
rate_source = "x"
[sram]
size = 4000
size_source = "x"
buffer = 1000
buffer_source = "x"
width = 32.0
width_source = "x"
energy = 2.0
energy_source = "x"
[dram]
bandwidth = 1.0
bandwidth_source = "x"
latency = 50.0
latency_source = "x"
prefetch = true
prefetch_source = "x"
energy = 100.0
energy_source = "x"
[layout]
channels = 1
channels_source = "x"
[[precision]]
weights = "int8"
activations = "uint8"
rate = 1.0
rate_source = "x"
energy = 0.5
energy_source = "x"
[[precision]]
weights = "int8"
activations = "uint16"
rate = 0.5
rate_source = "x"
energy = 1.0
energy_source = "x"
[[sparsity]]
pattern = "2:4"
gain = 2.0
gain_source = "x"
[fusion]
operations = ["activation", "sum"]
operations_source = "x"
[power]
static = 10.0
static_source = "x"
factor = 3.0
factor_source = "x"
"""


def toy() -> Npu:
    device = parse_profile(PROFILE, "toy.toml")
    assert isinstance(device, Npu)
    return device


def test_a_layer_that_waits_for_the_array() -> None:
    layer = convolution((8, 8, 16), 16, 3)
    cost = toy().cost(layer, INT8, UINT8)
    # 4 x 4 tiles of pixels, 4 of outputs, 4 of inputs, 9 taps; 2304 weights, 64 bytes of scales and 64 of
    # biases: 2432 bytes at 10 a cycle are shorter
    assert cost.cycles == 4 * 4 * 4 * 4 * 9 == 2304
    assert (cost.bound, cost.utilization) == ("array", 1.0)
    assert cost.time == pytest.approx(0.02304)  # ms, at 100 MHz
    assert cost.moved == 2432
    # SRAM: the map once (16 outputs a pass), the weights once (one block of 8 x 8) and once on their way in
    sram = 1024 + 2432 + 1024 + 2432
    picojoule = 3.0 * (0.5 * layer.macs + 2.0 * sram + 100.0 * 2432)
    assert cost.energy == pytest.approx(1e-9 * picojoule + 1e-3 * 10.0 * 0.02304)


def test_pixels_and_channels_that_do_not_fill_the_array() -> None:
    cost = toy().cost(convolution((7, 7, 6), 5, 1), INT8, UINT8)
    # 4 x 4 tiles of pixels, 2 of outputs, 2 of inputs; 49 * 5 * 6 products in 64 lanes
    assert cost.cycles == 64
    assert cost.utilization == pytest.approx(49 * 5 * 6 / (64 * 64))


def test_a_depthwise_layer_uses_a_quarter_of_the_array() -> None:
    cost = toy().cost(convolution((8, 8, 16), 16, 3, groups=16), INT8, UINT8)
    assert cost.cycles == 4 * 4 * 4 * 9
    assert cost.utilization == 0.25


def test_half_of_the_products_of_two_in_four() -> None:
    layer = convolution((8, 8, 16), 16, 3)
    dense, sparse = (toy().cost(layer, format, UINT8) for format in (INT8, SPARSE))
    assert (dense.cycles, sparse.cycles) == (2304, 1152 + 0)
    assert sparse.utilization == 1.0  # of what is multiplied
    # 1152 weights, 2 bits each for their places, scales and biases
    stored = 1152 + 288 + 64 + 64
    assert sparse.moved == stored
    sram = 1024 + stored + 1024 + stored
    picojoule = 3.0 * (0.5 * layer.macs / 2 + 2.0 * sram + 100.0 * stored)
    assert sparse.energy == pytest.approx(1e-9 * picojoule + 1e-3 * 10.0 * 0.01152)
    odd = convolution((8, 8, 6), 16, 3)  # 6 inputs: 2 tiles of 4 dense, 1 of 8 sparse
    assert toy().cost(odd, SPARSE, UINT8).cycles == 16 * 4 * 9
    stem = convolution((8, 8, 3), 16, 3)  # nothing is won below 4 inputs
    assert toy().cost(stem, SPARSE, UINT8).cycles == toy().cost(stem, INT8, UINT8).cycles


def test_a_layer_that_waits_for_main_memory() -> None:
    cost = toy().cost(linear(100, 80), INT8, UINT8)
    # 8000 weights, 320 + 320 bytes; the first tile has been loaded already
    assert (cost.moved, cost.bound) == (8640, "DRAM")
    assert cost.cycles == pytest.approx(864)
    waiting = replace(toy(), dram=replace(toy().dram, prefetch=False))
    # the same bytes, and a latency of 50 ns
    assert waiting.cost(linear(100, 80), INT8, UINT8).cycles == pytest.approx(864 + 5)


def test_the_first_tile_is_waited_for() -> None:
    waiting = replace(toy(), dram=replace(toy().dram, prefetch=False))
    layer = convolution((8, 8, 16), 16, 3)
    cost = waiting.cost(layer, INT8, UINT8)
    # half of the buffer, 500 bytes, at 10 a cycle and 50 ns; then the array is slower than what is left
    assert cost.cycles == pytest.approx(2304 + 50 + 5)
    assert cost.bound == "array"
    small = convolution((2, 2, 4), 8)
    assert waiting.cost(small, INT8, UINT8).bound == "first tile"  # 96 bytes, for two cycles of products


def test_maps_that_do_not_fit_go_to_main_memory() -> None:
    layer = convolution((20, 20, 4), 4, 3)  # 1600 bytes of 1500
    cost = toy().cost(layer, INT8, UINT8)
    stored = 144 + 16 + 16  # one tile of weights, so that the map is read once
    assert cost.moved == stored + 1600 + 1600
    wide = convolution((20, 20, 4), 64, 3)
    weights = 2304 + 256 + 256  # 6 tiles of 500; 2 tiles of the map
    assert toy().cost(wide, INT8, UINT8).moved == 2 * weights + 1600 + 25600
    inside = toy().cost(convolution((19, 19, 4), 4, 3), INT8, UINT8)
    assert inside.moved == stored


def test_what_is_fused_costs_nothing_on_the_way() -> None:
    def of(op: str, read: int) -> Layer:
        return Layer(op, (1, 1), (1, 1), 1, (8, 8, 16), (8, 8, 16), "none", False, False, None, read)

    assert toy().cost(of("activation", 1024), None, UINT8).time == 0.0
    # the second operand of a sum is read: 1024 bytes at 32 a cycle
    assert toy().cost(of("add", 2048), None, UINT8).cycles == 32
    # a product is not fused here: 1024 elements (the gate's are 16) at 4 a cycle
    assert toy().cost(of("mul", 1040), None, UINT8).cycles == 1040 / 4
    assert toy().cost(of("flatten", 1024), None, UINT8).time == 0.0
    plain, table = (convolution((8, 8, 16), 16, 1, epilogue=e) for e in ("clamp", "table"))
    assert toy().cost(plain, INT8, UINT8) == toy().cost(table, INT8, UINT8)
    unfused = replace(toy(), fused=frozenset())
    assert unfused.cost(plain, INT8, UINT8).cycles == 256  # 16 tiles of pixels, 4 x 4 of channels
    # then another pass over 1024 numbers, 4 a cycle
    assert unfused.cost(table, INT8, UINT8).cycles == 256 + 1024 / 4
    residual = convolution((8, 8, 16), 16, 1, residual=True)
    assert unfused.cost(residual, INT8, UINT8).cycles == 256 + 1024 / 4


def test_formats_that_a_device_has_and_has_not() -> None:
    layer = convolution((8, 8, 16), 16, 3)
    small = convolution((4, 4, 16), 16, 3)
    assert toy().cost(small, INT8, UINT8).cycles == 576
    assert toy().cost(small, INT8, UINT16).cycles == 2 * 576
    assert not toy().supports(layer, INT8, activation_format(4))
    assert not toy().supports(layer, weight_format("int8+1:4"), UINT8)
    with pytest.raises(InputError, match="toy does not run int4 on uint8 activations"):
        toy().cost(layer, weight_format(4), UINT8)
    with pytest.raises(InputError, match="toy does not run fp32 on fp32"):
        toy().cost(layer, FP32, FP32)
    # images and results cross the border in bytes
    assert toy().cost(border((8, 8, 3)), None, FP32).cycles == pytest.approx(192 / 10)
    # and what is done with a vector of results is not the device's work, unlike a map in float32
    score = Layer("activation", (1, 1), (1, 1), 1, (5,), (5,), "table", False, False, None, 5)
    assert toy().cost(score, None, FP32).bound == "host"
    assert not toy().supports(replace(score, input=(2, 2, 5), output=(2, 2, 5)), None, FP32)


def test_products_of_two_maps_and_operations_that_go_twice_over_them() -> None:
    matmul = Layer("matmul", (1, 1), (1, 1), 1, (6, 16), (6, 12), "none", False, False, None, 96 + 192)
    cost = toy().cost(matmul, None, UINT8)
    assert cost.cycles == 2 * 3 * 4  # tiles of 4 rows, 4 columns, 4 inputs
    assert cost.utilization == pytest.approx(6 * 12 * 16 / (64 * 24))
    softmax = Layer("softmax", (1, 1), (1, 1), 1, (8, 16), (8, 16), "none", False, False, None, 128)
    assert toy().cost(softmax, None, UINT8).cycles == 2 * 128 / 4


def test_a_network_is_the_sum_of_its_layers() -> None:
    device, graph = find_target("v2-npu"), seeds()["quantized8"].graph
    rows = asked(graph)
    total = price(device, rows)
    costs = [device.cost(row.layer, row.weights, row.activations) for row in rows]
    assert list(total.costs) == costs
    assert total.time == sum(cost.time for cost in costs) > 0.0
    assert total.energy == sum(cost.energy or 0.0 for cost in costs) > 0.0
    assert total.power(20.0) == pytest.approx(20.0 * total.energy)
    real = seeds()["real"].graph
    with pytest.raises(InputError, match=r"v2-npu.* does not run fp"):
        price(device, asked(real))
    # as if quantized: its layers, and before and after them what crosses the border
    rows, bytes_in = as_quantized(real), math.prod(real.value(real.input).shape)
    assert [row.name for row in rows] == [real.input, *(node.name for node in real.nodes), *real.outputs]
    assert price(device, rows).costs[0].moved == bytes_in
    pi = price(find_target("raspberry-pi-5"), [Asked("a", linear(4, 4), INT8, UINT8)])
    assert pi.power(10.0) == 10.0 * (pi.energy or 0.0) > 0.0


def test_the_calibrated_device_gives_the_known_point() -> None:
    device = find_target("v2-npu")
    assert isinstance(device, Npu)
    total = price(device, v1())
    assert total.time == pytest.approx(KNOWN_MS, rel=1e-3)  # constants have three digits
    assert total.energy == pytest.approx(1e-3 * KNOWN_MS * KNOWN_MW, rel=2e-3)
    exact = calibrated(device)
    assert exact.array.clock == pytest.approx(device.array.clock, rel=1e-3)
    assert exact.factor == pytest.approx(device.factor, rel=2e-3)


WRONG = {
    'kind = "npu"': ('kind = "cpu"', "kind must be one of roofline, npu, not 'cpu'"),
    'name = "toy"': ("name = 7", "name must be a text; not 7"),
    "frequency = 100.0": ("frequency = 0.0", "array.frequency must be a number above 0; not 0.0"),
    'frequency_source = "x"': ("", "array.frequency_source must be a text; it is missing"),
    "launch = 0.0": ("launch = -1", "array.launch must be a number of at least 0; not -1"),
    "block = [8, 8, 16]": ("block = [8, 8]", "array.block must be three whole numbers of at least 1"),
    "inputs = 4\n": ("inputs = 0\n", "array.dense[0].inputs must be a whole number of at least 1; not 0"),
    "columns = 2\noutputs = 4\ntaps = 1": ("taps = 1", "array.depthwise[0].columns must be a whole number"),
    "[vector]": ("[vectors]", "vector must be a table"),
    "size = 4000": ("size = 4000.5", "sram.size must be a whole number of at least 1; not 4000.5"),
    "buffer = 1000": ("buffer = 4000", "sram.buffer must be less than the size, 4000; not 4000"),
    "width = 32.0": ('width = "16"', "sram.width must be a number above 0; not '16'"),
    "bandwidth = 1.0": ("bandwidth = nan", "dram.bandwidth must be a number above 0; not nan"),
    "latency = 50.0": ("latency = true", "dram.latency must be a number of at least 0; not True"),
    "prefetch = true": ("prefetch = 1", "dram.prefetch must be true or false; not 1"),
    "channels = 1": ("channels = 1\nbanks = 2", "there is no field layout.banks"),
    'activations = "uint16"': (
        'activations = "int8"',
        "precision[1].activations must be a format like uint8",
    ),
    'weights = "int8"\nactivations = "uint8"': (
        'weights = "int9"\nactivations = "uint8"',
        "precision[0].weights must be a format like int8; not 'int9'",
    ),
    'pattern = "2:4"': ('pattern = "4:2"', "sparsity[0].pattern must be a pattern like 2:4; not '4:2'"),
    "gain = 2.0": ("gain = 0.5", "sparsity[0].gain must be a number of at least 1; not 0.5"),
    '["activation", "sum"]': ('["pool"]', "fusion.operations must be a list of activation, sum, product"),
    "static = 10.0": ("", "power.static must be a number of at least 0; it is missing"),
    "factor = 3.0": ("factor = inf", "power.factor must be a number above 0; not inf"),
    "[array]": ("[array", "toy.toml is not TOML"),
}


@pytest.mark.parametrize("old", sorted(WRONG))
def test_a_profile_says_which_field_is_wrong(old: str) -> None:
    new, message = WRONG[old]
    assert PROFILE.count(old) >= 1
    with pytest.raises(InputError, match=re.escape(message)):
        parse_profile(PROFILE.replace(old, new, 1), "toy.toml")


def test_a_profile_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(PROFILE)
    assert find_target(str(path)) == toy()
    with pytest.raises(InputError, match="No such file"):
        find_target(str(tmp_path / "none.toml"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"toy\.toml is no text"):
        find_target(str(path))
    path.write_text('name = "x"')
    with pytest.raises(InputError, match="lacks weights"):
        find_target(str(path))

"""What the engine allocates is in proportion to what a network declares, and is asked for first."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph
from subbyte.ir.limits import peak_live_bytes
from tests.contract.agreement import engine_outputs, expected_outputs, random_images, same
from tests.fuzz import graphs
from tests.fuzz.builder import Builder

MIB = 1 << 20


def padded(height: int = 4096, layers: int = 10) -> Graph:
    """One pixel wide, 31 with the halo that 1 x 16 windows need."""
    b = Builder(random.Random(1), (height, 1, 1))
    x = b.quantize("image")
    made = [b.qconv(x, 256) for _ in range(layers)]
    pad = (0, 0, 15, 15)
    return b.finish(*(b.qconv(m, 256, (1, 16), (height, 1), groups=256, pad=pad) for m in made))


def needed(message: str) -> tuple[int, int]:
    """MiB that are needed, and those that are allowed."""
    take, allowed = re.findall(r"(\d+) MiB", message)
    return int(take), int(allowed)


def test_halos_count_and_the_sentence_says_how_much() -> None:
    graph = padded()
    declared = peak_live_bytes(graph)
    assert declared < 11 * MIB
    with pytest.raises(InputError, match=r"its activations would take .* raise memory_limit") as caught:
        Session(graph)
    need, allowed = needed(str(caught.value))
    assert need > 300
    assert allowed <= 64 + 2 * declared // MIB + 2


def test_a_limit_of_the_caller_replaces_the_rule() -> None:
    graph = padded(layers=3)  # 94 MiB
    with pytest.raises(InputError, match="its activations"):
        Session(graph)
    session = Session(graph, memory_limit=128 * MIB)
    assert 64 * MIB + 2 * peak_live_bytes(graph) < session.arena_bytes < 128 * MIB
    x = random_images(graph, 1, 1)
    assert same(engine_outputs(session, x), expected_outputs(graph, x))


@pytest.mark.parametrize(("streams", "threads"), [(1, 1), (3, 1), (1, 4)])
def test_a_limit_is_of_everything(streams: int, threads: int) -> None:
    """Weights, and for each stream an arena and scratch memory for each thread."""
    graph = graphs.quantized(random.Random(2), 8)
    session = Session(graph, streams=streams, threads=threads)
    total = session.weight_bytes + streams * (session.arena_bytes + session.scratch_bytes)
    with pytest.raises(InputError, match="allowed"):
        Session(graph, streams=streams, threads=threads, memory_limit=total - 1)
    # before they are packed, weights are estimated: never too low, and for these within a quarter
    Session(graph, streams=streams, threads=threads, memory_limit=total + session.weight_bytes // 4)


#: One layer of each way to pack weights: channels in and out, and how.
LAYERS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "dense 8": (1500, 2000, {}),
    "dense 4": (1000, 4001, {"bits": 4}),
    "dense 3": (999, 4000, {"bits": 3}),
    "dense 2": (2048, 4100, {"bits": 2}),
    "padded without a zero": (1022, 3000, {"bits": 2, "codebook": np.array([-100, -30, 30, 100], np.int8)}),
    "windows": (700, 720, {"kernel": (3, 3)}),
    "strided windows": (700, 720, {"kernel": (3, 5), "stride": 2, "bits": 4}),
    "depthwise": (40_000, 40_000, {"kernel": (5, 5), "groups": 40_000, "bits": 4}),
    "groups": (8192, 32768, {"kernel": (4, 4), "groups": 2048, "bits": 2}),
    "small groups": (12_000, 12_000, {"kernel": (2, 2), "groups": 6000}),
}


def need_and_use(graph: Graph, isa: str | None) -> tuple[int, int]:
    """Bytes that are asked for before weights are packed, rounded up to MiB, and bytes in use after it."""
    session = Session(graph, isa=isa)
    with pytest.raises(InputError, match="raise memory_limit") as caught:
        Session(graph, isa=isa, memory_limit=1)
    return needed(str(caught.value))[0] * MIB, session.weight_bytes + session.arena_bytes


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("kind", LAYERS)
def test_what_weights_will_take_is_known_before(kind: str, isa: str) -> None:
    """Never less than they take, and a quarter more at most."""
    channels, outputs, how = LAYERS[kind]
    b = Builder(random.Random(3), (4, 4, channels))
    need, use = need_and_use(b.finish(b.qconv(b.quantize("image"), outputs, **how)), isa)
    assert use > 2 * MIB  # or rounding would hide what is missing
    assert use <= need <= 1.25 * use + MIB


@pytest.mark.parametrize(("outputs", "kernel", "groups"), [(500, 1, 1), (4096, 3, 64), (4096, 16, 4096)])
def test_what_float_weights_will_take_is_known_before(outputs: int, kernel: int, groups: int) -> None:
    b = Builder(random.Random(3), (4, 4, 4096))
    need, use = need_and_use(b.finish(b.fconv("image", outputs, kernel, groups, half=True)), None)
    assert use > 2 * MIB
    assert use <= need <= 1.25 * use + MIB


@pytest.mark.parametrize("bad", [0, -1, 1.5, "1", True, 1 << 60])
def test_unusable_limits_are_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="memory_limit"):
        Session(graphs.narrow(random.Random(1)), memory_limit=bad)


def test_large_images_open() -> None:
    """A full-resolution network on 4K: large, and all of it declared."""
    b = Builder(random.Random(4), (2160, 3840, 3))
    x = b.qconv(b.quantize("image"), 16, (3, 3), act="relu")
    y = b.qconv(b.qconv(x, 16, (3, 3), act="relu"), 16, (3, 3), residual=x)
    graph = b.finish(b.qconv(y, 4))
    session = Session(graph, depth_first_above=None)
    assert session.arena_bytes > 200 * MIB
    assert session.arena_bytes < 2 * peak_live_bytes(graph)


def test_many_threads_have_room_to_work() -> None:
    """Squeeze-and-excitation of 3840 channels on as many threads as there can be, in a small image."""
    b = Builder(random.Random(5), (4, 4, 3))
    x = b.qconv(b.quantize("image"), 3840)
    graph = b.finish(b.qconv(b.squeeze_excite(x, 8), 8))
    session = Session(graph, threads=256)
    assert session.scratch_bytes > 64 * MIB
    assert np.isfinite(session.run(random_images(graph, 1, 1))).all()

"""Sessions: the forced instruction set, concurrent callers, the plan, and what is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.errors import GraphError, InputError
from subbyte.execute.native import Session, available_isas, best_isa
from subbyte.ir import Graph, macs
from subbyte.quant import QTensor
from tests.contract.agreement import engine_outputs, expected_outputs, random_images, same
from tests.fuzz import graphs
from tests.fuzz.builder import Builder

KNOWN = ("portable", "avx2", "avxvnni", "avx512vnni", "neondotprod", "neoni8mm")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graphs.quantized(random.Random(1), 4)


@pytest.mark.parametrize("isa", KNOWN)
def test_a_forced_instruction_set_is_the_one_that_runs(graph: Graph, isa: str) -> None:
    if isa not in available_isas():
        with pytest.raises(InputError, match="cannot run"):
            Session(graph, isa=isa)
        return
    session = Session(graph, isa=isa)
    assert session.isa == isa
    rows = session.plan()
    assert rows
    assert {row["isa"] for row in rows} == {isa}
    for row in rows:  # and the kernel is one of that instruction set
        assert isa in row["kernel"], row


def test_the_best_instruction_set_is_taken_and_listed_last(graph: Graph) -> None:
    assert available_isas()[0] == "portable"
    assert best_isa() == available_isas()[-1] == Session(graph).isa


@pytest.mark.parametrize("isa", ["neon", "", "AVX2", "avx512"])
def test_an_unknown_instruction_set_is_refused(graph: Graph, isa: str) -> None:
    with pytest.raises(InputError, match="available: portable"):
        Session(graph, isa=isa)


@pytest.mark.parametrize("bad", [0, -1, 257, 1.5, "2", None, True])
@pytest.mark.parametrize("option", ["threads", "streams"])
def test_unusable_thread_counts_are_refused(graph: Graph, option: str, bad: Any) -> None:
    with pytest.raises(InputError, match=option):
        Session(graph, **{option: bad})


@pytest.mark.parametrize(("streams", "threads"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_concurrent_callers_get_their_own_results(streams: int, threads: int) -> None:
    """Six Python threads on one session, more than it has streams: every result is the reference's."""
    graph = graphs.middle(random.Random(2))
    images = random_images(graph, 12, 2)
    expected = expected_outputs(graph, images)[0]
    session = Session(graph, threads=threads, streams=streams)

    def call(number: int) -> np.ndarray:
        return np.concatenate([session.run(images[number : number + 2]) for _ in range(5)])

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(call, range(0, 12, 2)))
    for i, result in enumerate(results):
        assert np.array_equal(result, np.tile(expected[2 * i : 2 * i + 2], (5, 1)))


def test_sessions_side_by_side_and_one_after_another(graph: Graph) -> None:
    x = random_images(graph, 1, 3)
    expected = expected_outputs(graph, x)
    sessions = [Session(graph, threads=1 + i % 3) for i in range(6)]
    for _ in range(3):
        for session in sessions:
            assert same(engine_outputs(session, x), expected)
    del sessions[::2]
    assert all(same(engine_outputs(session, x), expected) for session in sessions)


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan needs its address space")
def test_more_threads_than_the_machine_gives_are_refused() -> None:
    """Little address space is left for their stacks: a sentence, not the end of the process."""
    program = (
        "import random, resource\n"
        "from tests.fuzz import graphs\n"
        "from subbyte.execute.native import Session\n"
        "from subbyte.errors import InputError\n"
        "graph = graphs.narrow(random.Random(1))\n"
        "Session(graph, threads=2)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)\n"
        "try:\n    Session(graph, threads=256)\n"
        "except InputError as error:\n    print(error)\n"
        "print(Session(graph, threads=2).run(__import__('numpy').zeros((9, 7, 4), 'float32'))[0].shape)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "256 threads" in result.stdout
    assert "(1, 9, 7, 5)" in result.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, :-1], r"\(channels last\), got \[2, 7, 8, 3\]"),
        (lambda x: x[0, 0], r"\(channels last\), got \[8, 3\]"),
        (lambda x: x[:0], "must be at least one image"),
        (lambda x: x[0] / np.float32(0), "NaN"),
    ],
)
def test_unusable_images_are_refused(graph: Graph, change: Any, words: str) -> None:
    """The check is that of all executors (executor_suite.py), but for an image alone, and for none."""
    session, x = Session(graph), random_images(graph, 2, 4)
    with np.errstate(divide="ignore"), pytest.raises(InputError, match=words):
        session.run(change(x))
    assert same(engine_outputs(session, x), expected_outputs(graph, x))


def test_one_image_without_a_batch_and_any_memory_order(graph: Graph) -> None:
    session, x = Session(graph), random_images(graph, 2, 5)
    expected = expected_outputs(graph, x)
    assert same(engine_outputs(session, x[1]), [e[1:] for e in expected])
    assert same(engine_outputs(session, np.asfortranarray(x)), expected)
    assert same(engine_outputs(session, x[::-1]), [e[::-1] for e in expected])
    x.setflags(write=False)
    assert same(engine_outputs(session, x), expected)


def test_results_stay_when_the_session_runs_again_or_ends(graph: Graph) -> None:
    session, x = Session(graph), random_images(graph, 2, 6)
    first = engine_outputs(session, x)
    kept = [array.copy() for array in first]
    session.run(-x)
    del session
    assert same(first, kept)


def test_the_plan_describes_every_step() -> None:
    graph = graphs.quantized(random.Random(7), 2)
    session = Session(graph)
    rows = session.plan()
    nodes, costs = {node.name: node for node in graph.nodes}, macs(graph)
    assert {row["name"] for row in rows} <= set(nodes)
    assert [row["op"] for row in rows].count("mul") == 0  # fused
    assert len(rows) == len(nodes) - 1
    for row in rows:
        node = nodes[row["name"]]
        shape = graph.value(node.output).shape
        assert row["shape"] == (shape if len(shape) == 3 else (1, 1, *shape))
        assert row["buffer_offset"] % 64 == 0
        assert 0 <= row["buffer_offset"] <= row["buffer_offset"] + row["buffer_bytes"] <= session.arena_bytes
        if node.op in ("conv2d", "linear"):
            weight = node.params["weight"]
            assert isinstance(weight, QTensor)
            assert row["requested_weights"].removesuffix("+book") == f"int{weight.bits}"
            assert row["macs"] == costs[node.name]
            assert row["weight_bytes"] > 0
        else:
            assert (row["requested_weights"], row["executed_weights"], row["macs"]) == ("", "", 0)
    assert sum(row["weight_bytes"] for row in rows) == session.weight_bytes
    seconds = session.profile(random_images(graph, 1, 7), repeats=3)
    assert len(seconds) == len(rows)
    assert all(t >= 0 for t in seconds)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_plan_counts_what_is_alive(threads: int) -> None:
    """A residual is alive until it is added, an output to the end; a region's steps are at one time."""
    b = Builder(random.Random(11), (24, 24, 4))
    x = b.quantize("image")
    y = b.qconv(b.qconv(x, 40, (3, 3), act="silu"), 12)
    z = b.qconv(b.qconv(y, 40, act="relu"), 12, residual=y)
    graph = b.finish(b.add("global_avg_pool", [z], b.grid()), y)
    last = {
        name: max(i for i, n in enumerate(graph.nodes) if name in (n.output, *n.inputs)) for name in b.values
    }
    last |= dict.fromkeys(graph.outputs, len(graph.nodes))
    for above in (None, 0, 20_000):
        session = Session(graph, threads=threads, depth_first_above=above)
        rows = session.plan()
        assert len(rows) == len(graph.nodes)
        ends = [max(j for j, other in enumerate(rows) if other["region"] == row["region"]) for row in rows]
        times = [i if row["region"] < 0 else end for i, (row, end) in enumerate(zip(rows, ends, strict=True))]
        for row, now in zip(rows, times, strict=True):
            alive = [
                other["buffer_bytes"]
                for node, other, begin in zip(graph.nodes, rows, times, strict=True)
                if begin
                <= now
                <= (last[node.output] if last[node.output] == len(rows) else times[last[node.output]])
            ]
            assert row["live_bytes"] == sum(alive)
            assert row["live_bytes"] <= session.arena_bytes
            assert (row["row_tiles"] > 0) == (row["region"] >= 0)


def test_narrow_weights_stay_narrow_or_the_plan_says_so() -> None:
    """4- and 2-bit weights stay packed in memory; 3-bit ones take four; depthwise ones, and code books
    that have no zero where the kernel pads channels, are widened, and the plan shows it."""
    b = Builder(random.Random(8), (5, 5, 6))
    x = b.qconv(b.quantize("image"), 32, (3, 3), bits=4)
    plain = b.qconv(x, 48, (3, 3), bits=2)
    b.qconv(plain, 48, (3, 3), groups=48, bits=4)
    depthwise = b.nodes[-1].output
    no_zero = np.array([-100, -30, 30, 100], np.int8)
    padded = b.qconv(b.quantize("image"), 8, bits=2, codebook=no_zero)
    whole = b.qconv(plain, 8, bits=2, codebook=no_zero)
    eight = np.array([-100, -70, -30, -1, 1, 30, 70, 100], np.int8)
    three = b.qconv(b.quantize("image"), 8, bits=3, codebook=eight)
    graph = b.finish(depthwise, padded, whole, three)
    rows = {row["name"]: row for row in Session(graph).plan()}
    widths = {
        graph.nodes[i].output: (row["requested_weights"], row["executed_weights"])
        for i, node in enumerate(graph.nodes)
        for row in [rows[node.name]]
    }
    assert widths[x] == ("int4", "int4")
    assert widths[plain] == ("int2", "int2")
    assert widths[depthwise] == ("int4", "int8")
    assert widths[padded] == ("int2+book", "int8")
    assert widths[whole] == ("int2+book", "int2+book")
    assert widths[three] == ("int3+book", "int4+book")  # the unused half of its sixteen levels has a zero


def test_graphs_that_break_a_rule_are_refused(graph: Graph) -> None:
    with pytest.raises(GraphError):
        Session(replace(graph, nodes=graph.nodes[::-1]))


@pytest.mark.parametrize("act", ["relu", "relu6"])
def test_the_engine_itself_refuses_a_residual_behind_an_activation(act: str) -> None:
    """An Artifact is not verified again, so only the engine's own check stands here."""
    b = Builder(random.Random(9), (4, 4, 2))
    x = b.quantize("image")
    graph = b.finish(b.qconv(x, 2, residual=x))
    late = graph.nodes[1].with_(attrs={**graph.nodes[1].attrs, "act": act})
    with pytest.raises(
        InputError, match=r"the engine refuses this network: .*a residual cannot follow an activation"
    ):
        Session(graphs.wrap(replace(graph, nodes=(graph.nodes[0], late))))

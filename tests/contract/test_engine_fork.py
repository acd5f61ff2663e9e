"""A session that was opened before a process is forked runs in the child too, and goes on in the parent."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from subbyte.execute.native import Session
from subbyte.ir import Graph
from tests.boundary.tree import ROOT
from tests.contract.agreement import random_images
from tests.fuzz import graphs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python's, about its own threads
]
SHAPES = [(1, 1), (2, 1), (3, 2), (1, 3)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graphs.middle(random.Random(2))


def in_child(act: Callable[[], bool]) -> int:
    """The status of a forked child: 0 where act() is true; a child that hangs is ended after a minute."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os._exit(0 if act() else 3)
        finally:
            os._exit(4)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(("threads", "streams"), SHAPES)
def test_a_forked_child_gets_the_same_result(graph: Graph, threads: int, streams: int) -> None:
    x = random_images(graph, 2, 1)
    session = Session(graph, threads=threads, streams=streams)
    expected = session.run(x)
    for _ in range(2):
        assert in_child(lambda: np.array_equal(session.run(x), expected)) == 0
        assert np.array_equal(session.run(x), expected)
    # a child of a child, and a session that is never run in the child but ends there
    assert in_child(lambda: in_child(lambda: np.array_equal(session.run(x), expected)) == 0) == 0
    kept = [Session(graph, threads=threads)]

    def end() -> bool:
        kept.clear()
        return True

    assert in_child(end) == 0
    assert np.array_equal(kept[0].run(x), expected)


def _run_in_worker(number: int) -> np.ndarray:
    return np.asarray(_SHARED[0].run(_SHARED[1][number : number + 1]))


_SHARED: list[Any] = []


def test_a_pool_of_forked_workers(graph: Graph) -> None:
    x = random_images(graph, 6, 3)
    session = Session(graph, threads=2, streams=2)
    expected = session.run(x)
    _SHARED[:] = [session, x]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.map_async(_run_in_worker, range(6)).get(timeout=120)
    assert np.array_equal(np.concatenate(results), expected)
    assert np.array_equal(session.run(x), expected)


@pytest.mark.parametrize(("threads", "streams"), SHAPES)
def test_a_fork_while_other_threads_run(graph: Graph, threads: int, streams: int) -> None:
    """In the child nobody runs any more: every stream can be taken, whoever held it in the parent."""
    x = random_images(graph, 1, 4)
    many = np.repeat(x, 50, axis=0)
    session = Session(graph, threads=threads, streams=streams)
    expected = session.run(x)
    ending = threading.Event()

    def keep_running() -> None:
        while not ending.is_set():
            session.run(many)

    callers = [threading.Thread(target=keep_running) for _ in range(streams + 1)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(5):
            time.sleep(0.01)
            assert in_child(lambda: np.array_equal(session.run(x), expected)) == 0
    finally:
        ending.set()
        for caller in callers:
            caller.join()
    assert np.array_equal(session.run(x), expected)


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan needs its address space")
def test_a_child_without_threads_to_have_says_so_each_time() -> None:
    program = (
        "import os, random, resource, threading, numpy as np\n"
        "from tests.fuzz import graphs\n"
        "from subbyte.execute.native import Session\n"
        "from subbyte.errors import InputError\n"
        "session, x = Session(graphs.narrow(random.Random(1)), threads=64), np.zeros((9, 7, 4), 'float32')\n"
        "if os.fork() == 0:\n"
        "    for _ in range(64):\n"  # which take the stacks that the parent's threads left
        "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "    before = resource.getrlimit(resource.RLIMIT_AS)\n"
        "    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used, before[1]))\n"
        "    for _ in range(2):\n"
        "        try:\n            session.run(x)\n"
        "        except InputError as error:\n            print(error, flush=True)\n"
        "    resource.setrlimit(resource.RLIMIT_AS, before)\n"
        "    print(session.run(x)[0].shape, flush=True)\n"
        "    os._exit(0)\n"
        "print(os.wait()[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.stdout.count("64 threads") == 2, result.stdout + result.stderr
    assert result.stdout.endswith("(1, 9, 7, 5)\n0\n")

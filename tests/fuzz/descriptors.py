"""Mutates the native engine's descriptors, past the Python verifier, and watches what the engine does.

    python -m tests.fuzz.descriptors --count 1000 --seed 1

A set is what `_native.Model` is given: values, nodes, input, outputs and options. It starts as a valid
graph's; then any field may become anything: extreme numbers, other operations, arrays of the wrong
size, NaN. The engine has to refuse it with an exception or to run it to the end. Sets are made in
child processes, as the mutants of tests/fuzz/run.py are, which is where the limits come from; so is
AddressSanitizer's part. Set number i of a seed is always the same: `--begin i --count 1` repeats it.
Exits with 1 on a failure, whose story is kept.
"""

from __future__ import annotations

import copy
import functools
import random
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from subbyte import _native
from subbyte.execute.native import available_isas
from tests.fuzz.graphs import computed, moved, random_graph, seeds, strided
from tests.fuzz.recorded import recorded
from tests.fuzz.run import Command, Summary, hunt, parser_of
from tests.fuzz.trial import _say

Set = dict[str, Any]

#: What a set may cost to be run: multiply-accumulates, and bytes of its arena and scratch memory.
RUN_WORK = 1 << 24
RUN_BYTES = 1 << 26

POWERS = (0, 1, 2, 4, 5, 6, 8, 12, 15, 16, 20, 24, 28, 30)
INTEGERS = sorted(
    {sign * (1 << p) + d for p in POWERS for d in (-1, 0, 1) for sign in (1, -1)}
    | {3, 5, 7, 70, 46341, 65534, (1 << 31) - 1, -(1 << 31)}
)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1.2e-38, 1e-20, 1e20, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan)
ARRAYS = {
    "packed": "u1",
    "levels": "i1",
    "bias": "i4",
    "multiplier": "f4",
    "weight_real": "f4",
    "bias_real": "f4",
}


#: Operations of sliding windows, and those whose output has other rows or columns than their input.
WINDOWED = (_native.Op.conv2d, _native.Op.max_pool2d, _native.Op.avg_pool2d)
RESHAPED = tuple(
    getattr(_native.Op, name)
    for name in (
        *("flatten", "global_avg_pool", "slice", "expand", "rearrange", "pad", "adaptive_avg_pool2d"),
        *("resize_nearest", "resize_bilinear", "matmul"),
    )
)


@functools.cache
def bases() -> tuple[Set, ...]:
    """Descriptors of the seed graphs that the engine takes as they are."""
    graphs = [artifact.graph for artifact in seeds().values()]
    return tuple(recorded(g) for g in graphs if all(n.op != "batch_norm" for n in g.nodes))


def integer(rng: random.Random, old: int) -> int:
    near = old + rng.choice([-2, -1, 1, 2])
    return rng.choice(INTEGERS) if rng.random() < 0.5 or abs(near) >= 1 << 31 else near


def _value(rng: random.Random, d: Set) -> None:
    v = rng.choice(d["values"])
    whole = ["height", "width", "channels", "zero_point", "bits", "level_bits"]
    name = rng.choice([*whole, "quantized", "scale"])
    if name == "scale":
        v.scale = rng.choice(REALS)
    elif name == "quantized":
        v.quantized = not v.quantized
    else:
        setattr(v, name, integer(rng, getattr(v, name)))


def _number(rng: random.Random, d: Set) -> None:
    n = rng.choice(d["nodes"])
    whole = ["groups", "clamp_low", "clamp_high", "pre_zero", "dilation_h", "dilation_w"]
    name = rng.choice([*whole, "factor_a", "factor_b", "eps"])
    setattr(n, name, integer(rng, getattr(n, name)) if name in whole else rng.choice(REALS))


def _kind(rng: random.Random, d: Set) -> None:
    n = rng.choice(d["nodes"])
    if rng.random() < 0.6:
        n.op = rng.choice(list(_native.Op))
    else:
        n.activation = (rng.choice(list(_native.Act)), *(rng.choice(REALS) for _ in range(3)))


def _window(rng: random.Random, d: Set) -> None:
    windows = [n for n in d["nodes"] if n.op in (*WINDOWED, _native.Op.pad)]
    if not windows:
        return
    n = rng.choice(windows)
    window = list(n.window)
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(window))
        window[i] = rng.choice([rng.randrange(9), integer(rng, window[i])])
    n.window = tuple(window)


def _numbers(rng: random.Random, d: Set) -> None:
    numbered = [n for n in d["nodes"] if n.numbers]
    n = rng.choice(numbered or d["nodes"])
    numbers = list(n.numbers)
    match rng.randrange(4):
        case 0:
            numbers = [*numbers, integer(rng, 1)]
        case 1:
            numbers = numbers[:-1]
        case _ if numbers:
            i, j = rng.randrange(len(numbers)), rng.randrange(len(numbers))
            if rng.random() < 0.5:
                numbers[i], numbers[j] = numbers[j], numbers[i]
            else:
                numbers[i] = rng.choice([rng.randrange(9), integer(rng, numbers[i])])
    n.numbers = numbers


def _edge(rng: random.Random, d: Set) -> None:
    n, count = rng.choice(d["nodes"]), len(d["values"])
    index = rng.choice([rng.randrange(count), rng.randrange(count), integer(rng, count)])
    match rng.randrange(4):
        case 0:
            n.output = index
        case 1:
            n.inputs = [*n.inputs, index]
        case 2:
            n.inputs = n.inputs[:-1]
        case _:
            n.inputs = [index, *n.inputs[1:]]


def _ends(rng: random.Random, d: Set) -> None:
    count = len(d["values"])
    index = rng.choice([rng.randrange(count), integer(rng, count)])
    if rng.random() < 0.4:
        d["input"] = index
    else:
        d["outputs"] = rng.choice([[], [index], [*d["outputs"], index], d["outputs"] * 3])


def _order(rng: random.Random, d: Set) -> None:
    nodes = d["nodes"]
    i, j = rng.randrange(len(nodes)), rng.randrange(len(nodes))
    match rng.randrange(3):
        case 0:
            nodes[i], nodes[j] = nodes[j], nodes[i]
        case 1:
            nodes.insert(j, copy.copy(nodes[i]))
        case _ if len(nodes) > 1:
            del nodes[i]


def _array(rng: random.Random, d: Set) -> None:
    n = rng.choice(d["nodes"])
    name = rng.choice([*ARRAYS, "table"])
    if name == "table":
        n.table = np.asarray(rng.choice([np.zeros(256), np.zeros(255), np.full(256, 255), np.zeros(0)]), "u1")
        return
    old = np.array(getattr(n, name), ARRAYS[name]).reshape(-1)
    match rng.randrange(4):
        case 0:
            new = old[: rng.randrange(len(old) + 1)]
        case 1:
            new = np.concatenate([old, np.ones(rng.choice([1, 3, 64]), old.dtype)])
        case 2 if len(old):  # the largest numbers there are
            info: Any = np.finfo(old.dtype) if old.dtype.kind == "f" else np.iinfo(old.dtype)
            new = np.full_like(old, rng.choice([info.min, info.max]))
        case _:
            new = old.copy()
            if len(old):
                new[rng.randrange(len(old))] = (
                    rng.choice(REALS) if old.dtype.kind == "f" else rng.randrange(127)
                )
    setattr(n, name, new)


MUTATIONS: dict[str, Callable[[random.Random, Set], None]] = {
    "value": _value, "number": _number, "kind": _kind, "window": _window, "numbers": _numbers,
    "edge": _edge, "ends": _ends, "order": _order, "array": _array,
}  # fmt: skip


def clip(number: int) -> int:
    return min(max(number, -(1 << 31)), (1 << 31) - 1)


def propagate(d: Set) -> None:
    """Makes shapes follow where they can: a mutated window or size then passes the first check."""
    values, count = d["values"], len(d["values"])
    for n in d["nodes"]:
        if not n.inputs or not all(0 <= i < count for i in (*n.inputs, n.output)):
            return
        x, y = values[n.inputs[0]], values[n.output]
        if n.op in WINDOWED:
            kernel_h, kernel_w, stride_h, stride_w, top, bottom, left, right = n.window
            if stride_h < 1 or stride_w < 1:
                return
            down, across = (kernel_h - 1) * n.dilation_h + 1, (kernel_w - 1) * n.dilation_w + 1
            y.height = clip((x.height + top + bottom - down) // stride_h + 1)
            y.width = clip((x.width + left + right - across) // stride_w + 1)
        elif n.op not in RESHAPED:
            y.height, y.width = x.height, x.width


def make(seed: int, number: int) -> tuple[str, Set, dict[str, Any]]:
    """The kind, the descriptors and the options of one set."""
    rng = random.Random(f"{seed}/{number}")
    fresh = rng.random()
    if fresh < 0.25:
        d = recorded(strided(rng, real=True))
    elif fresh < 0.35:
        d = recorded(rng.choice([moved, computed])(rng, rng.random() < 0.7))
    elif fresh < 0.5:
        graph = random_graph(rng)
        while any(n.op == "batch_norm" for n in graph.nodes):
            graph = random_graph(rng)
        d = recorded(graph)
    else:
        d = copy.deepcopy(rng.choice(bases()))
    kinds = [rng.choice(sorted(MUTATIONS)) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
    for kind in kinds:
        MUTATIONS[kind](rng, d)
    if rng.random() < 0.6:
        propagate(d)
    options = {
        "isa": rng.choice(available_isas()),
        "threads": rng.choice([1, 1, 1, 2, 3]),
        "streams": rng.choice([1, 1, 1, 2]),
        "depth_first_above": rng.choice([-1, 0, 0, 1000, 160 * 1024]),
        "memory_limit": rng.choice([0, 0, 0, 1, 1 << 20, 1 << 30]),
    }
    if rng.random() < 0.02:
        options[rng.choice(["threads", "streams"])] = rng.choice([0, -1, 257, (1 << 31) - 1, -(1 << 31)])
    return f"{'+'.join(kinds)}/{kinds[0]}" if kinds else "none", d, options


def native(d: Set) -> Set:
    """The engine's own descriptors."""
    made: Set = {"values": [], "nodes": [], "input": d["input"], "outputs": d["outputs"]}
    for v in d["values"]:
        value = _native.ValueDesc()
        for name, field in vars(v).items():
            setattr(value, name, field)
        made["values"].append(value)
    for n in d["nodes"]:
        node = _native.NodeDesc()
        fields = dict(vars(n))
        arrays = {name: np.ascontiguousarray(fields.pop(name), dtype) for name, dtype in ARRAYS.items()}
        node.set_window(*fields.pop("window"))
        node.set_activation(*fields.pop("activation"))
        table = fields.pop("table")
        if table is not None:
            node.set_table(np.ascontiguousarray(table))
        node.set_codes(arrays["packed"], arrays["levels"], arrays["bias"], arrays["multiplier"])
        node.set_real(arrays["weight_real"].reshape(-1), arrays["bias_real"])
        for name, field in fields.items():
            setattr(node, name, field)
        made["nodes"].append(node)
    return made


def attempt(d: Set, options: dict[str, Any]) -> tuple[str, str]:
    """How a set ends: refused, large or ran; failed for any other exception than those that refuse."""
    try:
        model = _native.Model(**native(d), **options)
    except (ValueError, MemoryError, RuntimeError) as error:
        return "refused", str(error)
    steps = model.steps()
    sizes = [v.height * v.width * v.channels for v in d["values"]]
    if sum(s["macs"] for s in steps) > RUN_WORK or max(sizes) > RUN_BYTES // 16:
        return "large", ""
    if model.arena_bytes + model.scratch_bytes > RUN_BYTES:
        return "large", ""
    x = d["values"][d["input"]]
    images = np.random.default_rng(1).normal(size=(2, x.height, x.width, x.channels)).astype(np.float32)
    for output, index in zip(model.run(images), d["outputs"], strict=True):
        y = d["values"][index]
        if output.shape != (2, y.height, y.width, y.channels):
            return "failed", f"output {index} has shape {output.shape}"
    return "ran", ""


def serve(seed: int, begin: int, end: int) -> None:
    for number in range(begin, end):
        kind, d, options = make(seed, number)
        _say(number, "began", kind, "")
        try:
            outcome, detail = attempt(d, options)
        except Exception:
            outcome, detail = "failed", traceback.format_exc()
        _say(number, outcome, kind, detail)


def command_of(seed: int, memory: int) -> Command:
    """The child for sets begin .. end-1, as a function of these."""
    handler = [] if memory == 0 else ["-X", "faulthandler"]  # a sanitizer reports crashes itself
    module = [sys.executable, *handler, "-m", "tests.fuzz.descriptors", "--child"]
    fixed = [*module, "--seed", str(seed), "--memory", str(memory)]
    return lambda begin, end: [*fixed, "--begin", str(begin), "--count", str(end - begin)]


def save_failures(summary: Summary, seed: int, folder: Path) -> None:
    """Each failing set's story: how to repeat it, its options, what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, kind, outcome, detail in summary.failures:
        _, _, options = make(seed, number)
        again = f"python -m tests.fuzz.descriptors --seed {seed} --begin {number} --count 1"
        path = folder / f"descriptors-{outcome}-{seed}-{number}.txt"
        path.write_text(f"{again}\n{kind}\n{options}\n{detail}\n")


def main() -> int:
    parser = parser_of(str(__doc__), "descriptor set", limit=60.0)
    parser.add_argument("--child", action="store_true", help="make the sets in this process")
    args = parser.parse_args()
    if args.child:
        if args.memory:
            resource.setrlimit(resource.RLIMIT_AS, (args.memory << 20, args.memory << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        serve(args.seed, args.begin, args.begin + args.count)
        return 0
    return hunt(args, "descriptor set", command_of(args.seed, args.memory), save_failures)


if __name__ == "__main__":
    sys.exit(main())

"""The library without Python: it reads what Python reads, makes the same numbers, and can be installed."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from subbyte import models
from subbyte.artifact import Artifact, load, save
from subbyte.artifact.file import serialize
from subbyte.errors import SubbyteError
from subbyte.execute.native import Session, available_isas
from subbyte.importers.torch_export import capture
from subbyte.passes import optimize
from tests.contract.agreement import engine_outputs, random_images, same
from tests.fuzz.document import Document, Pairs, get
from tests.fuzz.graphs import seeds
from tests.fuzz.trial import mutant
from tests.library.program import ROOT, STEP, configure, example, outputs, plan, run, saved, tool
from tests.unit.artifact.test_pattern_files import BAD, changed, file_of

BUILD = (
    ROOT / "build" / "kernels"
)  # shared with the kernel tests; kept, so that a second run only rebuilds what changed
SEED = 11
MUTANTS = 600


@pytest.fixture(scope="module")
def build() -> Path:
    configure(ROOT, BUILD, "-DSUBBYTE_TESTS=ON")
    run(tool("cmake"), "--build", BUILD, "--target", "subbyte", "subbyte_run")
    return BUILD


RUNNABLE = [name for name, a in seeds().items() if all(n.op != "batch_norm" for n in a.graph.nodes)]


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_same_numbers_as_from_python(build: Path, tmp_path: Path, name: str) -> None:
    network = seeds()[name]
    x = random_images(network.graph, 2, SEED)
    for isa in available_isas():
        for threads in (1, 3):
            expected = engine_outputs(Session(network.graph, isa=isa, threads=threads), x)
            assert same(outputs([build / "subbyte_run"], tmp_path, network, x, isa, threads), expected), isa


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_same_formats_as_from_python(build: Path, tmp_path: Path, name: str) -> None:
    graph = seeds()[name].graph
    x = random_images(graph, 1, SEED)
    for isa in available_isas():
        expected = [{key: row[key] for key in STEP} for row in Session(graph, isa=isa).plan()]
        assert plan([build / "subbyte_run"], tmp_path, graph, x, isa, 1) == expected


def test_unknown_formats_are_refused_by_name(build: Path, tmp_path: Path) -> None:
    """Of a later version: other bits, another pattern."""
    path = tmp_path / "network.subbyte"
    for field, value, wanted in [
        ("bits", 6, "weights are stored as int6, which this version does not know; update subbyte"),
        (
            "pattern",
            "4:2",
            "weights are stored as int4+4:2, which this version does not know; update subbyte",
        ),
        ("layout", "2:4", "a weight is stored in a format that this version does not know; update subbyte"),
    ]:
        document = Document.split(b"".join(serialize(seeds()["mixed"])))
        packed = next(weight for node in get(document.graph, "nodes") for weight in weights_of(node))
        packed[:] = [[key, old] for key, old in packed if key != field] + [[field, value]]
        path.write_bytes(document.join())
        (line,) = run(build / "subbyte_run", "--check", path).splitlines()
        assert wanted in line


def weights_of(node: Pairs) -> list[Pairs]:
    return [weight for key, roles in node if key == "packed" for _, weight in roles]


def verdict(path: Path) -> bool | None:
    """Whether Python accepts the file; None if its preprocessing stops it, which the library ignores."""
    try:
        Session(load(path))
    except SubbyteError as error:
        return None if "preprocessing" in str(error).lower() else False
    return True


def test_it_accepts_what_python_accepts(build: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    paths, kinds = [], []
    for number in range(MUTANTS):
        kind, data = mutant(SEED, number)
        path = tmp_path / f"{number}.subbyte"
        path.write_bytes(data)
        paths.append(path)
        kinds.append(kind)
    said = run(build / "subbyte_run", "--check", *paths).splitlines()
    assert len(said) == MUTANTS
    wanted = [verdict(path) for path in paths]
    assert MUTANTS // 4 < wanted.count(True) < 3 * MUTANTS // 4  # both are well exercised
    differ = [
        f"{number} {kind}: {line}"
        for number, (kind, line, accepts) in enumerate(zip(kinds, said, wanted, strict=True))
        if accepts is not None and (line == "ok") != accepts
    ]
    assert not differ, "\n".join(differ[:20])
    assert all(line == "ok" or re.match(r"cannot load |.*node '|value '", line) for line in said)


def test_it_reads_sparse_weights_as_python_does(build: Path, tmp_path: Path) -> None:
    """Each wrong encoding, the right one beside it, and mutants of a sparse network."""
    print(f"seed {SEED}")
    right = [file_of(text, codes) for text, codes, _ in BAD.values()]
    files = [*right, *(changed(data, bad) for data, (_, _, bad) in zip(right, BAD.values(), strict=True))]
    files += [mutant(SEED, number, "sparse")[1] for number in range(MUTANTS // 4)]
    paths = [tmp_path / f"{number}.subbyte" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    said = [line == "ok" for line in run(build / "subbyte_run", "--check", *paths).splitlines()]
    assert said[: 2 * len(BAD)] == [True] * len(BAD) + [False] * len(BAD)
    wanted = [verdict(path) for path in paths]
    differ = [i for i, (a, b) in enumerate(zip(said, wanted, strict=True)) if b is not None and a != b]
    assert not differ


def test_errors_are_sentences(build: Path, tmp_path: Path) -> None:
    program = build / "subbyte_run"
    path = saved(tmp_path, seeds()[RUNNABLE[0]].graph)
    (tmp_path / "short").write_bytes(b"1234")
    nan = np.full((1, *load(path).graph.value("image").shape), np.nan, np.float32)
    nan.tofile(tmp_path / "nan")
    isa = available_isas()[-1]
    cases: list[tuple[list[str | Path], str]] = [
        ([tmp_path / "none", tmp_path / "nan", tmp_path / "out", isa, "1"], "there is no such file"),
        ([path, tmp_path / "short", tmp_path / "out", isa, "1"], "do not fit the network"),
        ([path, tmp_path / "nan", tmp_path / "out", isa, "1"], "NaN or infinity"),
        ([path, tmp_path / "nan", tmp_path / "out", "avx9", "1"], "no instruction set avx9"),
        ([path, tmp_path / "nan", tmp_path / "out", isa, "999"], "threads"),
    ]
    for arguments, wanted in cases:
        result = subprocess.run([program, *arguments], capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert wanted in result.stderr
        assert result.stderr.count("\n") == 1


def test_only_the_c_api_is_exported(build: Path) -> None:
    listed = run(tool("nm"), "-D", "--defined-only", build / "libsubbyte.so").splitlines()
    header = (ROOT / "native" / "include" / "subbyte" / "subbyte.h").read_text("utf-8")
    names = {line.split()[-1] for line in listed}
    assert names == {name for name in names if name.startswith("subbyte_") and f"{name}(" in header}
    declared = re.findall("^SUBBYTE_API ", header, re.MULTILINE)
    assert len(names) == len(declared)  # all of them, and nothing else


def test_an_installed_package_builds_the_example(build: Path, tmp_path: Path) -> None:
    source = (ROOT / "native" / "examples" / "classify.cc").read_text("utf-8")
    assert len(source.splitlines()) <= 40
    run(tool("cmake"), "--install", build, "--prefix", tmp_path / "prefix")
    program = example(tmp_path / "prefix", tmp_path / "build")

    loaded = models.load("tf_efficientnet_lite0", "random:0")
    side = loaded.preprocessing.height
    graph = optimize(capture(loaded.module, (side, side, 3)))
    classes = tuple(f"class number {i}" for i in range(1000))
    save(tmp_path / "network.subbyte", Artifact(graph, {}, loaded.preprocessing, classes))
    image = random_images(graph, 1, SEED)
    image.tofile(tmp_path / "image.f32")
    lines = run(program, tmp_path / "network.subbyte", tmp_path / "image.f32").splitlines()
    scores = Session(graph).run(image)[0]
    best = np.argsort(-scores, kind="stable")[:5]
    assert [line.split()[1:] for line in lines] == [[str(i), "class", "number", str(i)] for i in best]


def test_headers_are_c(tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text("#include <subbyte/subbyte.h>\nint main(void) { return subbyte_isa(0) == NULL; }\n")
    include = ROOT / "native" / "include"
    run(tool("cc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I", include, "-c", source, "-o",
        tmp_path / "program.o")  # fmt: skip


def test_random_bytes_are_refused(build: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    paths = []
    for number in range(50):
        path = tmp_path / f"{number}"
        path.write_bytes(rng.randbytes(rng.randrange(200)))
        paths.append(path)
    assert all(
        line.startswith("cannot load ") for line in run(build / "subbyte_run", "--check", *paths).splitlines()
    )

"""Who may include what in the engine."""

from __future__ import annotations

import re
from pathlib import Path

from tests.boundary.tree import includes, native, text

KERNELS = Path("native/kernels")
BINDINGS = Path("native/bindings")
PYTHON = re.compile(r"^(Python\.h|nanobind/|pybind11/|numpy/)")
ABOVE = re.compile(
    r"^(plan/|exec/|subbyte/engine|.*/(plan|exec)/)|^(thread|mutex|atomic|future|condition_variable)$"
)
LIBRARY = {
    "algorithm", "any", "array", "deque", "functional", "future", "iostream", "list", "map", "memory",
    "mutex", "new", "numeric", "optional", "set", "span", "sstream", "string", "string_view", "thread",
    "tuple", "unordered_map", "unordered_set", "utility", "variant", "vector",
}  # fmt: skip
ALLOCATION = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc|free)\s*\(|\bnew\s+\w|\bdelete\b(?!\s*;)")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def kernels() -> list[Path]:
    return [
        path
        for path in native()
        if path.is_relative_to(KERNELS) and path.stem not in {"test", "bench", "bench_main"}
    ]


def isa_specific() -> list[Path]:
    return [path for path in kernels() if path.name.startswith(("x86_", "arm64_"))]


def closure(path: Path) -> set[str]:
    """What a file includes, through the project's own headers too."""
    seen: set[str] = set()
    todo = [path]
    while todo:
        for name in includes(todo.pop()) - seen:
            seen.add(name)
            todo += [p for p in (Path("native") / name, Path("native/include") / name) if p in set(native())]
    return seen


def test_there_is_an_engine_to_look_at() -> None:
    assert len(kernels()) > 10
    assert {path.name for path in isa_specific()} >= {"x86_avx2.cc", "x86_avx512vnni.cc", "arm64_neoni8mm.cc"}


def test_only_the_bindings_know_python() -> None:
    for path in native():
        found = {name for name in includes(path) if PYTHON.search(name)}
        assert not found or path.is_relative_to(BINDINGS), path
    assert any(PYTHON.search(name) for path in native() for name in includes(path))


def test_kernels_know_no_graphs_plans_or_threads() -> None:
    for path in kernels():
        found = {name for name in closure(path) if ABOVE.search(name)}
        assert not found, f"{path} includes {found}"


def test_isa_files_use_no_library_templates() -> None:
    """A template instantiated with AVX-512 flags may be the copy the linker keeps for every CPU."""
    for path in isa_specific():
        found = closure(path) & LIBRARY
        assert not found, f"{path} includes {found}"
        assert "std::" not in re.sub(r"std::(u?int\d+_t|size_t|ptrdiff_t|uintptr_t)\b", "", code(path)), path


def test_what_is_special_about_an_instruction_set_stands_in_rows() -> None:
    """Only detection compares instruction sets; kernels are found by their rows' columns."""
    for path in native():
        found = re.search(r"([=!]=\s*Isa::)|(case\s+Isa::)", code(path))
        assert not found or path == Path("native/exec/isa.cc") or path.name == "test.cc", path


def test_what_is_special_about_an_operation_stands_in_rows() -> None:
    """Checks, steps and readers are found by ops.inc; a fusion may name the two operations that it joins."""
    for path in native():
        named = set(re.findall(r"case\s+Op::|[=!]=\s*Op::(\w+)", code(path)))
        assert named <= ({"kMul", "kConv2d"} if path == Path("native/plan/plan.cc") else set()), path


def test_the_engine_uses_the_words_of_the_field() -> None:
    for path in native():
        assert not re.search(r"\b(bands?|rings?)\b", text(path) or ""), path
        assert "pointwise" not in str(path)


def test_kernels_allocate_nothing() -> None:
    for path in kernels():
        assert not ALLOCATION.search(code(path)), path


def code(path: Path) -> str:
    return COMMENT.sub("", text(path) or "")

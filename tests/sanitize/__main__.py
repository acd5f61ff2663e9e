"""Builds the engine with AddressSanitizer and UndefinedBehaviorSanitizer and tests that build.

    python -m tests.sanitize [--mutants 10000] [--descriptors 10000]        what `make sanitize` runs

Stops at the first step that fails: build into build/asan; the kernel tests; the engine's contract
tests, with Python taking the engine from build/asan (tests/sanitize/sitecustomize.py); the fuzzers, on
artifact files and on the engine's descriptors; then the engine under ThreadSanitizer
(tests/sanitize/threads.py). Needs g++ with its sanitizer libraries, cmake, ninja and nanobind.
tests/sanitize/soak.py runs the fuzzers for hours.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "asan"
OPTIONS = {
    # CPython and numpy keep memory until the end; the fuzzer asks for more memory than there is on purpose
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def environment(extra: dict[str, str]) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **OPTIONS, **extra}


def run(*command: str | Path, **extra: str) -> None:
    """Runs a command in the repository, shown first; ends this program if it fails."""
    words = [str(word) for word in command]
    settings = [f"{name}={shlex.quote(value)}" for name, value in extra.items()]
    print("$", *settings, shlex.join(words), flush=True)
    code = subprocess.run(words, cwd=ROOT, env=environment(extra)).returncode
    if code:
        sys.exit(f"{words[0]} ended with {code}")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def sanitized(module: Path) -> dict[str, str]:
    """What Python needs to take the sanitized engine."""
    libraries = [output("g++", f"-print-file-name=lib{name}.so") for name in ("asan", "ubsan")]
    return {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONPATH": str(Path(__file__).parent),
        "SUBBYTE_NATIVE": str(module),
    }


def build() -> Path:
    """Path of the sanitized extension module."""
    nanobind = output(sys.executable, "-m", "nanobind", "--cmake_dir")
    options = {
        "SUBBYTE_SANITIZE": "ON",
        "SUBBYTE_TESTS": "ON",
        "CMAKE_CXX_COMPILER": "g++",
        "SKBUILD": "1",  # the extension module too
        "Python_EXECUTABLE": sys.executable,
        "nanobind_DIR": nanobind,
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    run("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *defined)
    run("cmake", "--build", BUILD)
    (module,) = BUILD.glob("_native*.so")
    return module


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--descriptors", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="under ThreadSanitizer")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    module = build()
    run(BUILD / "subbyte_kernel_test")
    env = sanitized(module)
    loaded = "from subbyte import _native; print('engine:', _native.__file__)"
    run(sys.executable, "-c", loaded, **env)
    tests = sorted((ROOT / "tests" / "contract").glob("test_engine*.py"))
    tests = [path for path in tests if path.stem != "test_engine_memory"]  # its limits know no red zones
    run(sys.executable, "-m", "pytest", *tests, ROOT / "tests" / "contract" / "test_executors.py", **env)
    fuzz = ["--engine", "--memory", "0", "--count", str(args.mutants), "--seed", str(args.seed)]
    for only in ([], ["--only", "sparse"]):
        run(sys.executable, "-m", "tests.fuzz.run", *fuzz, *only, **env)
    sets = ["--memory", "0", "--count", str(args.descriptors), "--seed", str(args.seed)]
    run(sys.executable, "-m", "tests.fuzz.descriptors", *sets, **env)
    run(sys.executable, "-m", "tests.sanitize.threads", "--seconds", str(args.seconds))


if __name__ == "__main__":
    main()

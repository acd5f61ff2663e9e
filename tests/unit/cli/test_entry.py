"""The `subbyte` process: what it imports, and how signals, closed pipes and full disks end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import subbyte

ROOT = str(Path(subbyte.__file__).parents[1])
#: What is slow to import, and the commands' own modules.
HEAVY = {"numpy", "torch", "scipy", "plotly", "onnx", "pydantic", "rich", "PIL", "jinja2", "subbyte.artifact"}

#: Runs a command line, and sends its own process a signal when a module is about to be imported; or makes an
#: ImportError of what comes of that, as extension modules do, or nothing at all.
CHILD = """
import os, sys
moment, number, becomes, *arguments = sys.argv[1:]

class Trigger:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            sys.meta_path.remove(self)
            try:
                exec("os.kill(os.getpid(), int(number))")  # where Python looks for KeyboardInterrupt
            except KeyboardInterrupt:
                if becomes == "ImportError":
                    raise ImportError("initialization failed")
                if becomes == "KeyboardInterrupt":
                    raise

sys.meta_path.insert(0, Trigger())
from subbyte.cli import main
assert moment not in sys.modules, "too late"
sys.argv = ["subbyte", *arguments]
main()
"""


def run_process(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": ROOT, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in a shell's background inherits that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{"stdout": subprocess.PIPE, **options},
    )


@pytest.mark.parametrize(
    ("moment", "becomes"),
    [
        ("subbyte.cli.app", "KeyboardInterrupt"),
        ("typer.main", "KeyboardInterrupt"),
        ("typer.main", "ImportError"),
        ("subbyte.cli.run", "KeyboardInterrupt"),
        ("numpy", "KeyboardInterrupt"),
        ("numpy.linalg", "ImportError"),
        ("PIL.Image", "nothing"),
        ("subbyte._native", "KeyboardInterrupt"),
    ],
)
def test_an_interrupt_during_imports(
    moment: str, becomes: str, int8: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "child.py").write_text(CHILD)  # run as a module, as `python -m subbyte` is
    command = ("run", str(int8), str(images / "00.png"))
    number = str(int(signal.SIGINT))
    result = run_process("-m", "child", moment, number, becomes, *command, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_termination(int8: Path, images: Path) -> None:
    command = ("run", str(int8), str(images / "00.png"))
    result = run_process("-c", CHILD, "numpy", str(int(signal.SIGTERM)), "KeyboardInterrupt", *command)
    assert (result.returncode, result.stdout, result.stderr) == (143, "", "terminated\n")


@pytest.mark.parametrize(("number", "line"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_while_a_file_is_written(
    number: signal.Signals, line: str, source: Path, tmp_path: Path
) -> None:
    program = (
        "import os, sys\n"
        f"os.fsync = lambda file: os.kill(os.getpid(), {int(number)})\n"
        "from subbyte.cli import main\n"
        "main()\n"
    )
    command = (
        "compress",
        f"{source}:build",
        "--input-size",
        "16",
        "--recipe",
        "fp32",
        "--output",
        "a.subbyte",
    )
    result = run_process("-c", program, *command, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", f"{line}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(int8: Path, images: Path) -> None:
    """As for a job in the background of a script."""
    child = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + CHILD
    command = ("run", str(int8), str(images / "00.png"))
    result = run_process("-c", child, "numpy", str(int(signal.SIGINT)), "KeyboardInterrupt", *command)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_fault_of_the_program_shows_where_and_nothing_else_of_a_name(tmp_path: Path) -> None:
    program = (
        "import subbyte.recipes, sys\n"
        "def list_recipes(): raise ValueError('\\x1b[31m\\u202e')\n"
        "subbyte.recipes.list_recipes = list_recipes\n"
        "from subbyte.cli import main\n"
        "main()\n"
    )
    result = run_process("-c", program, "recipes", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert r"ValueError: \x1b[31m\u202e" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()


def test_a_warning_of_a_library_is_one_line() -> None:
    program = (
        "import warnings, subbyte.recipes\n"
        "def list_recipes(): warnings.warn('odd\\n\x1b[31m'); return []\n"
        "subbyte.recipes.list_recipes = list_recipes\n"
        "from subbyte.cli import main\n"
        "main()\n"
    )
    result = run_process("-W", "always", "-c", program, "recipes", "--json")
    assert (result.returncode, result.stdout) == (0, "[]\n")
    assert result.stderr == "warning: odd \\x1b[31m\n"


def test_nobody_reads_on() -> None:
    """`subbyte models | head -1` when head is gone before anything is written."""
    read, write = os.pipe()
    os.close(read)
    for command in (("models",), ("recipes", "--json"), ("--help",)):
        result = run_process("-m", "subbyte", *command, stdout=write)
        assert (result.returncode, result.stderr) == (141, "")
    os.close(write)


def test_output_that_cannot_be_written() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        result = run_process("-m", "subbyte", "models", "--json", stdout=full)
    assert result.returncode == 1
    assert result.stderr == "error: cannot write the output: No space left on device\n"


def test_streams_that_are_closed() -> None:
    program = (
        "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'subbyte', 'models'])"
    )
    result = run_process("-c", program)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_of_few_characters(int8: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run_process("-m", "subbyte", "evaluate", str(int8), "--data", str(images))
    assert (result.returncode, result.stderr) == (0, "")
    assert r"\u2013" in result.stdout  # the dash of an interval


# --------------------------------------------------------------------------- imports


def imported(program: str, *arguments: str) -> set[str]:
    program += "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    result = run_process("-c", program, *arguments)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("-h",), ()])
def test_help_imports_nothing_slow(arguments: tuple[str, ...]) -> None:
    program = "from subbyte.cli import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
    modules = imported(program, *arguments)
    assert "typer.main" in modules
    assert not HEAVY & modules
    commands = {name for name in modules if name.startswith("subbyte.")}
    own = {f"subbyte.cli{module}" for module in ("", ".app", ".console", ".once", ".signals")}
    below = {f"subbyte.system{module}" for module in ("", ".printable", ".version")}
    assert commands - below == own | {"subbyte.errors"}

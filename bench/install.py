"""What an installation that only runs artifacts takes: bytes, and the time of its start.

    python -m bench.install lite0-w8a8.subbyte [--wheel dist/subbyte-....whl] [--output result.json]

Builds a wheel unless one is given, and installs it into two fresh environments with the versions of
constraints.txt: without extras, where it runs the network, and with the extra `cli`, where it runs the
commands (bench/commands.py). Counts what lies in site-packages beside pip: MB are 10^6 bytes, with the
compiled bytecode that pip writes. Times are the least of 20 processes': of `import subbyte`, each timing its
own, and of `subbyte --help`, from start to end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
COMMANDS = ROOT / "bench" / "commands.py"
REPEATS = 20
TIMED = "import time; t = time.perf_counter(); import subbyte; print(time.perf_counter() - t)"
#: Prints the packages that are imported to load and run a network, in JSON.
NETWORK = """
import json, sys
import numpy as np
import subbyte

artifact = subbyte.load(sys.argv[1])
session = subbyte.Session(artifact)
session.run(np.zeros((1, *artifact.graph.value(artifact.graph.input).shape), np.float32))
session.plan()
names = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps(sorted(name for name in names - set(sys.stdlib_module_names) if not name.startswith("_"))))
"""
PLACE = "import sysconfig; print(sysconfig.get_path('purelib'))"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--wheel", type=Path, help="one that fits this Python; otherwise one is built")
    parser.add_argument("--output", type=Path, help="JSON file to write the result to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = built(Path(folder)) if options.wheel is None else options.wheel.resolve()
        result = measure(Path(folder), wheel, options.artifact.resolve())
    print(table(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


def measure(folder: Path, wheel: Path, artifact: Path) -> dict[str, Any]:
    """Installs into `folder`; everything of it is JSON values. "cli": what the extra of that name adds."""
    base = environment(folder / "base", wheel)
    packages = sizes(Path(output(base, "-c", PLACE).strip()))
    imported = json.loads(output(base, "-c", NETWORK, str(artifact)))
    seconds = [float(output(base, "-c", TIMED)) for _ in range(REPEATS)]
    cli = environment(folder / "cli", wheel, ("cli",))
    added = sizes(Path(output(cli, "-c", PLACE).strip()))
    return {
        "python": sys.version.split()[0],
        "wheel": wheel.name,
        "wheel_bytes": wheel.stat().st_size,
        "bytes": sum(packages.values()),
        "packages": packages,
        "import_ms": 1e3 * min(seconds),
        "imported": imported,
        "cli": {
            "bytes": sum(added.values()),
            "packages": added,
            "help_ms": 1e3 * min(_help_seconds(cli) for _ in range(REPEATS)),
            "commands": commands(cli),
        },
    }


def built(folder: Path) -> Path:
    """A wheel of this checkout for the Python that runs, in `folder`."""
    wheels = folder / "wheels"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("subbyte-*.whl")
    return wheel


def environment(folder: Path, wheel: Path, extras: Sequence[str] = (), python: str = sys.executable) -> Path:
    """The Python of a fresh environment in `folder` with the wheel and what it, and its extras, require."""
    run(python, "-m", "venv", str(folder))
    own = folder / "bin" / "python"
    wanted = f"{wheel.resolve()}[{','.join(extras)}]" if extras else str(wheel.resolve())
    run(str(own), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), wanted)
    return own


def commands(python: Path) -> dict[str, Any]:
    """What bench/commands.py says there; CalledProcessError if anything fails."""
    found: dict[str, Any] = json.loads(output(python, str(COMMANDS)))
    return found


def _help_seconds(python: Path) -> float:
    start = time.perf_counter()
    output(python, "-m", "subbyte", "--help")
    return time.perf_counter() - start


def sizes(site: Path) -> dict[str, int]:
    """Bytes by what lies at the top of site-packages, largest first; NAME.libs is of NAME."""
    found: dict[str, int] = {}
    for entry in site.iterdir():
        name = entry.name.partition("-")[0].partition(".")[0]
        if name not in {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils"}:
            files = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
            found[name] = found.get(name, 0) + sum(path.stat().st_size for path in files)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    base, cli = result["packages"], result["cli"]["packages"]
    lines = ["| package | MB | with `cli` |", "|---|---|---|"]
    for name in cli:
        lines.append(f"| {name} | {base.get(name, 0) / 1e6:.1f} | {cli[name] / 1e6:.1f} |")
    for title, left_out in (("together", ()), ("without numpy", ("numpy",))):
        counts = [sum(n for name, n in each.items() if name not in left_out) / 1e6 for each in (base, cli)]
        lines.append(f"| **{title}** | **{counts[0]:.1f}** | **{counts[1]:.1f}** |")
    lines += ["", f"{result['wheel']}: {result['wheel_bytes'] / 1e6:.2f} MB"]
    lines += [
        f"`import subbyte`: {result['import_ms']:.1f} ms; `subbyte --help`: {result['cli']['help_ms']:.0f} ms"
    ]
    lines += [f"a network's run imports: {', '.join(result['imported'])}"]
    return "\n".join([*lines, f"without torch or a compiler: {json.dumps(result['cli']['commands'])}"])


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def output(python: Path, *arguments: str) -> str:
    """What Python prints, in an empty place, where the checkout cannot be imported by mistake."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), *arguments]
    result = subprocess.run(
        command, cwd=python.parents[1], env=variables, check=True, stdout=subprocess.PIPE, text=True
    )
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())

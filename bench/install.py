"""What an installation that only runs artifacts takes: bytes, and the time of `import subbyte`.

    python -m bench.install lite0-w8a8.subbyte [--output result.json]

Builds a wheel, installs it without extras into a fresh environment with the versions of constraints.txt, runs
the network there, and counts what lies in site-packages beside pip: MB are 10^6 bytes, with the compiled
bytecode that pip writes. The time is the least of 20 processes', each timing its own import.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
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
    parser.add_argument("--output", type=Path, help="JSON file to write the result to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.artifact.resolve())
    print(table(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


def measure(folder: Path, artifact: Path) -> dict[str, Any]:
    """Installs into `folder`; everything of it is JSON values."""
    python = installed(folder)
    packages = sizes(Path(output(python, "-c", PLACE).strip()))
    imported = json.loads(output(python, "-c", NETWORK, str(artifact)))
    seconds = [float(output(python, "-c", TIMED)) for _ in range(REPEATS)]
    return {
        "python": sys.version.split()[0],
        "bytes": sum(packages.values()),
        "packages": packages,
        "import_ms": 1e3 * min(seconds),
        "imported": imported,
    }


def installed(folder: Path) -> Path:
    """The Python of a fresh environment with subbyte and what it requires."""
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", str(environment))
    python = environment / "bin" / "python"
    wheels = folder / "wheels"
    run(str(python), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
    (wheel,) = wheels.glob("subbyte-*.whl")
    run(str(python), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), str(wheel))
    return python


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
    lines = ["| package | MB |", "|---|---|"]
    lines += [f"| {name} | {count / 1e6:.1f} |" for name, count in result["packages"].items()]
    lines.append(f"| **together** | **{result['bytes'] / 1e6:.1f}** |")
    lines += ["", f"`import subbyte`: {result['import_ms']:.1f} ms"]
    return "\n".join([*lines, f"a network's run imports: {', '.join(result['imported'])}"])


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def output(python: Path, *arguments: str) -> str:
    """What Python prints, in an empty place, where the checkout cannot be imported by mistake."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), *arguments]
    result = subprocess.run(
        command, cwd=python.parents[1], env=environment, check=True, capture_output=True, text=True
    )
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())

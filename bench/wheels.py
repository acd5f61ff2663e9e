"""An sdist, and from it a wheel for each Python given, each tried in an empty environment.

    python -m bench.wheels [--output dist] [PYTHON ...]      # make wheels PYTHONS="python3.10 python3.12"

The wheel of CPython 3.12 has the stable ABI, so it serves all later ones: for those it is tried, not built
again. Under Linux, auditwheel names the oldest systems that a wheel runs on, which follow from this one's C
library; wheels for older ones are made by cibuildwheel in a container.
CMAKE_CXX_COMPILER_LAUNCHER=ccache saves time as ever.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.install import CONSTRAINTS, ROOT, commands, environment

SDIST = "import sys; from scikit_build_core.build import build_sdist; print(build_sdist(sys.argv[1]))"
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
STABLE_FROM = (3, 12)
STABLE = "cp312-abi3"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    source = sdist(options.output)
    print(f"{source.name}: {source.stat().st_size / 1e6:.2f} MB", flush=True)
    built: dict[str, Path] = {}
    for python in map(found, options.pythons):
        tag = tag_of(python)
        if tag not in built:
            built[tag] = wheel(python, source, options.output)
            print(f"{built[tag].name}: {built[tag].stat().st_size / 1e6:.2f} MB", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            tried = commands(environment(Path(folder), built[tag], ("cli",), python))
        print(f"tried: {json.dumps(tried)}", flush=True)
    return 0


def found(python: str) -> str:
    """The path of an interpreter."""
    path = shutil.which(python)
    if path is None:
        sys.exit(f"error: there is no {python}")
    return os.path.abspath(path)


def sdist(output: Path) -> Path:
    """Makes the sdist of this checkout."""
    name = subprocess.run(
        [sys.executable, "-c", SDIST, str(output.resolve())],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()[-1]
    return output / name


def tag_of(python: str) -> str:
    """Python and ABI tag of the wheel that this CPython gets."""
    text = subprocess.run([python, "-c", VERSION], check=True, stdout=subprocess.PIPE, text=True).stdout
    major, minor = map(int, text.split("."))
    return STABLE if (major, minor) >= STABLE_FROM else f"cp{major}{minor}-cp{major}{minor}"


def wheel(python: str, source: Path, output: Path) -> Path:
    """Builds from the sdist, with the versions of constraints.txt, where nothing of the checkout is."""
    constraints = dict.fromkeys(
        ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), str(CONSTRAINTS)
    )  # pip's old name, and new
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                python,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--wheel-dir",
                folder,
                str(source.resolve()),
            ],
            cwd=folder,
            env=os.environ | constraints,
            check=True,
        )
        (made,) = Path(folder).glob("*.whl")
        if sys.platform == "linux":
            repaired = Path(folder) / "repaired"
            subprocess.run(
                [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", str(repaired), str(made)],
                env=os.environ
                | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
                check=True,
                stderr=subprocess.DEVNULL,
            )
            (made,) = repaired.glob("*.whl")
        kept = output / made.name
        kept.write_bytes(made.read_bytes())
    return kept


if __name__ == "__main__":
    sys.exit(main())

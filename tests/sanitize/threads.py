"""The engine under ThreadSanitizer: four threads, four callers, every result equal to one thread's.

    python -m tests.sanitize.threads [--seconds 60]

Builds native/tools/stress.cc into build/tsan and gives it networks with every kind of step. Ends with
an error on a race or a difference.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tests.fuzz import graphs
from tests.library.program import saved
from tests.sanitize.__main__ import ROOT, run

BUILD = ROOT / "build" / "tsan"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    options = ["-DSUBBYTE_SANITIZE=thread", "-DSUBBYTE_TESTS=ON", "-DCMAKE_CXX_COMPILER=g++"]
    run("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *options)
    run("cmake", "--build", BUILD, "--target", "subbyte_stress")
    networks = {
        "quantized": graphs.quantized(random.Random(1), 4),
        "folded": graphs.folded(random.Random(2)),
        "mixed": graphs.mixed(random.Random(3)),
        "middle": graphs.middle(random.Random(4)),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, graph in networks.items():
            (Path(folder) / name).mkdir()
            paths.append(saved(Path(folder) / name, graph))
        run(BUILD / "subbyte_stress", str(args.seconds), *paths, TSAN_OPTIONS="halt_on_error=1")


if __name__ == "__main__":
    main()

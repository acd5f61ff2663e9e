"""EfficientNet-Lite0 at 32, 8 and 4 bits, beside ONNX Runtime: the commands a user would type.

    python -m demo [--output demo-out] [--threads 1] [--seconds 10]

Everything it writes goes to the output folder; open report.html there. The images that are evaluated
(demo/images) are others than those that calibrate (demo/calibration): see demo/IMAGES.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from demo.table import markdown_of

MODEL = "tf_efficientnet_lite0"
RECIPES = ("fp32", "w8a8", "w4a8")
PEERS = "onnxruntime"
HERE = Path(os.path.relpath(Path(__file__).parent))
IMAGES, CALIBRATION = HERE / "images", HERE / "calibration"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("demo-out"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="of timing, all candidates together")
    options = parser.parse_args()
    start = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    files = compress_all(options.output)
    bench = options.output / "bench.json"
    evaluate_and_time(files, bench, options.threads, options.seconds)
    results = options.output / "results.json"
    report(files, bench, results, options.threads)
    print("\n" + markdown_of(results.read_text("utf-8")))
    print(f"done in {time.monotonic() - start:.0f} s; open {options.output / 'report.html'}")


def compress_all(output: Path) -> list[str]:
    files = []
    for recipe in RECIPES:
        file = str(output / f"lite0-{recipe}.subbyte")
        subbyte(
            *("compress", MODEL, "--weights", "package", "--recipe", recipe),
            *("--calibration", str(CALIBRATION), "--output", file),
        )
        files.append(file)
    return files


def evaluate_and_time(files: list[str], bench: Path, threads: int, seconds: float) -> None:
    for file in files[1:]:
        subbyte("evaluate", file, "--data", str(IMAGES), "--reference", files[0])
    subbyte(
        *("bench", *files, "--against", PEERS, "--calibration", str(CALIBRATION)),
        *("--threads", str(threads), "--seconds", str(seconds), "--json"),
        into=bench,
    )


def report(files: list[str], bench: Path, results: Path, threads: int) -> None:
    subbyte(
        *("report", *files, "--data", str(IMAGES), "--bench", str(bench)),
        *("--against", PEERS, "--calibration", str(CALIBRATION), "--threads", str(threads)),
        *("--corruptions", "all", "--severities", "3", "--corrupted", "25"),
        *("--title", "EfficientNet-Lite0 with subbyte", "--json"),
        *("--output", str(results.with_name("report.html"))),
        into=results,
    )


def subbyte(*arguments: str, into: Path | None = None) -> None:
    """Runs one `subbyte` command, shown as one would type it; its output goes to `into` if given."""
    shown = f"$ subbyte {shlex.join(arguments)}"
    print(shown if into is None else f"{shown} > {into}", flush=True)
    command = [sys.executable, "-m", "subbyte", *arguments]
    if into is None:
        status = subprocess.run(command).returncode
    else:
        with into.open("w", encoding="utf-8") as stream:
            status = subprocess.run(command, stdout=stream).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

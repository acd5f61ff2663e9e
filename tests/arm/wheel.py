"""The wheel for 64-bit ARM: cross-built here, and tried under qemu by Debian's Python for that processor.

    python -m tests.arm.wheel [--output dist]

Needs Debian, its g++-aarch64-linux-gnu and qemu-user, and a Python of the version that this Debian has.
Packages for the other processor are unpacked into build/arm-python and installed nowhere. Takes some minutes,
most of them the compiler's: CMAKE_CXX_COMPILER_LAUNCHER=ccache. Releases are made by cibuildwheel instead, on
such a machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from bench.install import COMMANDS, CONSTRAINTS
from tests.arm.test_arm64 import TOOLCHAIN
from tests.library.program import ROOT

PLACE = ROOT / "build" / "arm-python"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
DEBIAN = (f"python{VERSION}", f"libpython{VERSION}-dev", "libstdc++6")
PLATFORMS = ("linux", "manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    output = parser.parse_args().output.resolve()
    root = unpacked()
    wheel = cross_built(root, output)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
    site = installed(wheel)
    emulated = [
        "qemu-aarch64",
        "-cpu",
        "max",
        "-L",
        str(root),
        str(root / "usr" / "bin" / f"python{VERSION}"),
    ]
    run(*emulated, "-B", str(COMMANDS), PYTHONPATH=str(site))
    return 0


def unpacked() -> Path:
    """A folder with Debian's Python for arm64 and what it needs; apt works in folders of its own."""
    state, cache, root = (PLACE / name for name in ("state", "cache", "root"))
    if not (root / "usr" / "bin" / f"python{VERSION}").exists():
        for folder in (state / "lists" / "partial", cache / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        settings = {
            **{"APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": state},
            **{"Dir::State::status": state / "status", "Dir::Cache": cache},
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
        run(*apt, "update")
        run(*apt, "install", "--download-only", "--yes", "--no-install-recommends", *DEBIAN)
        for package in sorted((cache / "archives").glob("*.deb")):
            run("dpkg", "-x", str(package), str(root))
    return root


def cross_built(root: Path, output: Path) -> Path:
    """The wheel. CMake gets the other processor's headers of Python and, of packages, this machine's."""
    headers = root / "usr" / "include"
    (toolchain,) = TOOLCHAIN
    options = (
        toolchain,
        f"-DPython_INCLUDE_DIR={headers / f'python{VERSION}'}",
        "-DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH",  # nanobind is here
    )
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *(f"--config-settings=cmake.define.{option.removeprefix('-D')}" for option in options),
        *("--wheel-dir", str(output), str(ROOT)),
        _PYTHON_HOST_PLATFORM="linux-aarch64",
        SETUPTOOLS_EXT_SUFFIX=f".cpython-{VERSION.replace('.', '')}-aarch64-linux-gnu.so",
        CXXFLAGS=f"-isystem {headers} -isystem {headers / 'aarch64-linux-gnu'}",
    )
    return max(output.glob("subbyte-*linux_aarch64.whl"), key=lambda path: path.stat().st_mtime)


def installed(wheel: Path) -> Path:
    """A folder with the wheel and what its extra `cli` brings, for arm64."""
    site = PLACE / "site"
    run(
        *(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--no-compile",
            "--target",
            str(site),
        ),
        *(f"--platform={name}_aarch64" for name in PLATFORMS),
        *(
            f"--python-version={VERSION}",
            "--only-binary=:all:",
            f"--constraint={CONSTRAINTS}",
            f"{wheel}[cli]",
        ),
    )
    return site


def run(*command: str, **variables: str) -> None:
    subprocess.run(command, env=os.environ | variables, check=True)


if __name__ == "__main__":
    sys.exit(main())

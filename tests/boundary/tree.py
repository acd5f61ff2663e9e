"""The repository's files, for rules about their names and contents."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {".git", ".venv", "build", "dist", "__pycache__"}
_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def tracked() -> list[Path]:
    """Every file under version control, relative to the root; of an unpacked archive, every file."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        return [
            Path(name) for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()
        ]
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not GENERATED.intersection(path.parts)]


def text(path: Path) -> str | None:
    """A file's text; None if it is binary."""
    data = (ROOT / path).read_bytes()
    return None if b"\0" in data else data.decode(errors="replace")


def includes(path: Path) -> set[str]:
    """What a C++ file includes directly."""
    return set(_INCLUDE.findall(text(path) or ""))


def native() -> list[Path]:
    """The C++ files on disk, relative to the root."""
    files = (p.relative_to(ROOT) for p in (ROOT / "native").rglob("*"))
    return sorted(p for p in files if p.suffix in {".cc", ".h", ".inc"})

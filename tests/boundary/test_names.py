"""No drawers for odds and ends, no classes named after nothing, nothing of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.boundary.tree import ROOT, text, tracked

VAGUE_FILE = re.compile(r"(^|_)(utils?|helpers?|misc|common|managers?|factory|factories)$")
VAGUE_CLASS = re.compile(r"(Utils?|Helpers?|Managers?|Factory|Factories)$")

#: Absolute paths of a home or a workplace, and addresses that resolve on one network only. Written in
#: pieces, so that this file does not contain what it looks for.
PATHS = ["/" + root for root in ("work/", "root/", "home/", "Users/", "tmp/notes", "opt/pypi", "opt/wheels")]
MACHINE = re.compile(
    "|".join(
        [
            *(rf"(?:(?<![\w.~}}/])|(?<=-[IL])){re.escape(path)}" for path in PATHS),
            r"file:" + r"///",
            r"https?://(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d",
            r"https?://[\w.-]+\.(?:internal|intranet|corp|lan)\b",
            r"(?:artifactory|nexus|devpi)\.[\w-]+\.",
        ]
    )
)


def test_no_vague_files_or_folders() -> None:
    vague = [p for p in tracked() if any(VAGUE_FILE.search(Path(part).stem.lower()) for part in p.parts)]
    assert vague == []


def test_no_vague_classes() -> None:
    vague = []
    for path in tracked():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name):
                    vague.append((path, node.name))
        elif path.suffix in {".cc", ".h"}:
            names = re.findall(r"\b(?:class|struct)\s+(\w+)", text(path) or "")
            vague += [(path, name) for name in names if VAGUE_CLASS.search(name)]
    assert vague == []


def test_the_pattern_finds_machine_paths() -> None:
    for line in (
        *PATHS,
        "-I" + PATHS[0] + "x",
        '"' + PATHS[1],
        "http:" + "//10.0.0.7/simple",
        "https:" + "//pip.corp/",
    ):
        assert MACHINE.search(line), line
    for line in ("some/work/here", "https://example.org/simple", "~/home", "${HOME}/root/", "1/root/2"):
        assert not MACHINE.search(line), line


def test_nothing_of_one_machine() -> None:
    found = []
    for path in tracked():
        for number, line in enumerate((text(path) or "").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert found == []


#: What a document writes as a place in the repository.
PLACE = re.compile(r"(?<![\w./<-])(?:subbyte|native|tests|bench|demo|docs)/[\w./-]*\w")


def test_places_in_documents_exist() -> None:
    """Documents of today; the log, the changelog and decisions tell of what was."""
    places = {str(parent) for path in tracked() for parent in (path, *path.parents)}
    old = {"docs/log.md", "CHANGELOG.md"}
    lost = []
    for path in tracked():
        if path.suffix == ".md" and str(path) not in old and path.parent != Path("docs/decisions"):
            found = set(PLACE.findall(text(path) or "")) - {"bench/results/serving"}  # which a command makes
            lost += [f"{path}: {place}" for place in found if not {place, f"{place}.py"} & places]
    assert lost == []


def holding(pattern: str) -> set[str]:
    """The package's Python files in which a pattern occurs."""
    files = [
        path for path in tracked() if path.suffix == ".py" and path.parts[0] in ("subbyte", "bench", "demo")
    ]
    return {str(path) for path in files if re.search(pattern, text(path) or "")}


def test_only_one_place_replaces_files() -> None:
    """Beside it, a folder that another engine's tool filled is put in place as a whole."""
    replacing = holding(r"\bos\.(replace|rename)\(|\bmkstemp\(")
    assert replacing == {"subbyte/system/whole_file.py", "subbyte/benchmark/quantized_cache.py"}


def test_only_one_place_silences_output() -> None:
    """Beside it, the command line ends when nobody reads any more, and what tries a wheel reads it."""
    silencing = holding(r"\bredirect_std(out|err)\b|\bos\.dup2\(")
    assert silencing == {"subbyte/system/quiet.py", "subbyte/cli/__init__.py", "bench/commands.py"}

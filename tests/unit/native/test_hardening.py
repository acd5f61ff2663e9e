"""The flags of CMakeLists.txt, read back from the extension as it was built."""

from __future__ import annotations

import os
import sys

import pytest

from subbyte import _native
from tests.library.program import run, tool

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF")
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")


def read(*options: str) -> str:
    return run(tool("readelf"), "--wide", *options, str(_native.__file__))


def test_relocations_are_read_only_and_the_stack_holds_no_code() -> None:
    assert "BIND_NOW" in read("--dynamic")
    segments = {line.split()[0]: line for line in read("--segments").splitlines() if line.strip()}
    assert "GNU_RELRO" in segments
    assert " RW " in segments["GNU_STACK"]
    assert "RWE" not in segments["GNU_STACK"]


def test_nothing_is_exported_but_what_python_looks_for() -> None:
    rows = [line.split() for line in read("--dyn-syms").splitlines()]
    symbols = {row[7].partition("@")[0]: row[6] for row in rows if len(row) >= 8 and row[0][:-1].isdigit()}
    assert {name for name, section in symbols.items() if section != "UND"} == {"PyInit__native"}


@pytest.mark.skipif(SANITIZED, reason="the sanitizer build is not a release")
def test_stacks_have_canaries_and_copies_are_checked() -> None:
    wanted = read("--dyn-syms")
    assert "__stack_chk_fail" in wanted
    assert "__memcpy_chk" in wanted or "__memset_chk" in wanted

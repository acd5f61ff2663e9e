"""Nothing that comes from a file is markup in Markdown."""

from __future__ import annotations

import pytest

from subbyte.report.markdown_text import plain, row


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("`code`", "\\`code\\`"),
        ("[x](javascript:alert)", "\\[x\\](javascript:alert)"),
        ("![x](y)", "\\!\\[x\\](y)"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("two\nlines\r\n\u2028three", "two lines three"),
        ("**bold** ~~no~~", "\\*\\*bold\\*\\* \\~\\~no\\~\\~"),
        ("_soft_ tf_efficientnet_lite0", "\\_soft\\_ tf_efficientnet_lite0"),
        ("# heading", "\\# heading"),
        ("back\\slash\\|", "back\\\\slash\\\\\\|"),
        (7, "7"),
    ],
)
def test_plain(text: object, escaped: str) -> None:
    assert plain(text) == escaped


def test_a_row_has_as_many_cells_as_given() -> None:
    assert row([plain("a|b"), plain("c")]) == "| a\\|b | c |"

"""Names and texts from anywhere, as what a terminal or a file can show."""


def printable(text: str) -> str:
    """The text with escapes like \\x1b in place of what a terminal would obey or not show: control
    characters, line ends, bidirectional overrides, bytes of file names that are no UTF-8."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

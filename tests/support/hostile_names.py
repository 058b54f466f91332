"""Names as a hostile model has them, and what may be seen of them."""

from __future__ import annotations

FORGED = "FORGED"
LONG = 10_000


def hostile(name: str) -> str:
    """A name that sets a terminal's title and colours, ends the line, turns the direction of text, and is long."""
    return f"{name}\x1b]0;title\x07\x1b[31m\0\n{FORGED} line\r\x85\u2028\u202eevil\u2066" + "x" * LONG + name


def assert_readable(text: str) -> None:
    """`text` shows a name, and every line of it can be printed, is the program's own, and shows names cut."""
    assert "evil" in text or "xxx" in text, f"no name of the model is in {text!r}"
    for line in text.split("\n"):
        assert line.isprintable(), repr(line[:500])
        assert not line.startswith(FORGED)
    assert "x" * 100 not in text

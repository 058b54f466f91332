"""A line on the terminal that says what is being done; nothing where standard error is no terminal."""

from __future__ import annotations

import sys


class Progress:
    """Call it with what is being done; `clear` before anything else is printed."""

    def __call__(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{text}\033[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

"""Lines on standard error while kernels are compiled, so that a first run does not look like a hang."""

from __future__ import annotations

import math
import os
import sys
import time
from types import TracebackType

from cpuruntime.compiler import isa

PAUSE = 5.0
"""Seconds between two lines where standard error is no terminal."""


_speakers: dict[int, CompileProgress] = {}
"""The one that speaks, by process: in a forked child the parent's does not."""


class CompileProgress:
    """Says at once that kernels are compiled, if any are, then how many are done and how long the rest may take.

    On a terminal the line is rewritten, elsewhere there is one every five seconds. Of several at a time one speaks.
    """

    def __init__(self) -> None:
        self._spoken = 0.0

    def __enter__(self) -> CompileProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._spoken:
            _speakers.pop(os.getpid(), None)
            if sys.stderr.isatty():
                sys.stderr.write("\r\033[K")

    def __call__(self, done: int, total: int, left: float) -> None:
        """`done` of `total` kernels are compiled, and the others will be in `left` seconds, about."""
        now, is_terminal = time.monotonic(), sys.stderr.isatty()
        if done == total or not (is_terminal or not self._spoken or now - self._spoken >= PAUSE):
            return
        if _speakers.setdefault(os.getpid(), self) is not self:
            return
        self._spoken = now
        text = (
            f"cpuruntime: compiling kernels for {isa.current().name}, cached for the next time: {done} of {total}, "
            f"about {math.ceil(left)} s left"
        )
        sys.stderr.write(f"\r{text}\033[K" if is_terminal else f"{text}\n")
        sys.stderr.flush()

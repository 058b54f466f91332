"""A line on standard error while kernels are being compiled, so that a first run does not look like a hang."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from cpuruntime.compiler import build, isa

PATIENCE = 1.0
"""Seconds before the first message."""


class CompileProgress:
    """Counts the kernels of a program; speaks once compiling has taken longer than a second.

    On a terminal the line is rewritten for each kernel, elsewhere it is written once.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._done = self._total = 0
        self._compiling = self._spoken = False

    def __enter__(self) -> CompileProgress:
        build.on_compile.append(self._on_compile)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        build.on_compile.remove(self._on_compile)
        if self._spoken and sys.stderr.isatty():
            sys.stderr.write("\r\033[K")

    def __call__(self, done: int, total: int) -> None:
        """Kernel number `done` of `total` is next."""
        self._done, self._total = done, total

    def _on_compile(self, name: str) -> None:
        if time.monotonic() - self._begin < PATIENCE:
            return
        terminal = sys.stderr.isatty()
        if terminal or not self._spoken:
            text = (
                f"cpuruntime: compiling kernels for {isa.current().name}, cached for the next time: "
                f"{self._done + 1} of {self._total}"
            )
            sys.stderr.write(f"\r{text}\033[K" if terminal else f"{text}\n")
            sys.stderr.flush()
        self._spoken = True

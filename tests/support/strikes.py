"""Ctrl-C at each moment of a piece of code at which CPython may raise it, one after another.

CPython runs the handler of a signal where a function begins, after a call of a C function, and where a loop jumps back.
"""

from __future__ import annotations

import gc
import inspect
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import cpuruntime

PACKAGE = str(Path(cpuruntime.__file__).parent)

PATIENCE = 20.0
"""Seconds that a piece of code and what is done after it may take; more is a hang."""


class Strike:
    """Within, SIGINT's handler runs on this thread at one moment in the package; KeyboardInterrupt ends it.

    `place` tells where it was, and stays empty if there are fewer moments than `number`, which counts from 0.
    """

    def __init__(self, number: int) -> None:
        self.place = ""
        self._left = number

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.disable()  # or it strikes where another test's objects end
        sys.settrace(self._trace)
        sys.setprofile(self._profile)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        sys.setprofile(None)
        sys.settrace(None)
        gc.enable()
        signal.signal(signal.SIGINT, self._before)
        return isinstance(error, KeyboardInterrupt) and bool(self.place)

    def __repr__(self) -> str:
        return self.place

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_moment = event == "c_return" or (event == "call" and not code.co_flags & inspect.CO_GENERATOR)
        if is_moment and code.co_filename.startswith(PACKAGE):
            self._moment(frame, event)

    def _trace(self, frame: FrameType, _event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        last = frame.f_lasti

        def follow(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                if frame.f_lasti < last:
                    self._moment(frame, "jump")
                last = frame.f_lasti
            return follow

        return follow

    def _moment(self, frame: FrameType, event: str) -> None:
        self._left -= 1
        if self._left < 0 and not self.place:
            self.place = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name} {event}"
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, frame)


@contextmanager
def limited(what: object) -> Iterator[None]:
    """Within, TimeoutError tells of a hang after `what`."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"The program hangs: {what}")

    before = signal.signal(signal.SIGALRM, fail)
    try:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def strikes(step: int = 1) -> Iterator[Strike]:
    """A strike for each moment there is, or of `step` of them one, and a last one that does not strike."""
    for number in count(step=step):
        strike = Strike(number)
        with limited(strike):
            yield strike
        if not strike.place:
            return

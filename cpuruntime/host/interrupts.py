"""Ctrl-C at moments at which it would leave something half changed: it is held back until they are over."""

from __future__ import annotations

import _signal  # `signal` makes enumerations of all arguments and results, which takes longer than the rest here
from collections.abc import Callable
from functools import wraps
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, TypeVar, cast

from cpuruntime.host import forks

F = TypeVar("F", bound=Callable[..., Any])


class _Held:
    """A handler of SIGINT that notes the signal, in place of `handler`, while `thread` must not be interrupted."""

    arrived: tuple[int, FrameType | None] | None = None
    handler: Any = None
    thread: object = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.arrived = number, frame


_held = _Held()
"""The handler while one is held back: signals are handled on the main thread alone, and functions here nest."""


def uninterrupted(function: F) -> F:
    """A function during which no handler of SIGINT runs; it runs afterwards and may raise.

    An interrupt strikes before the function begins or after it has returned. What must not be left out is called again
    where it has not begun: streams/handover.py says where interrupts strike.
    """

    @wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        thread = current_thread()
        handler = _signal.getsignal(_signal.SIGINT) if thread is main_thread() else None
        if handler is _held or not callable(handler):
            return function(*arguments, **named)
        _held.arrived, _held.handler, _held.thread = None, handler, thread
        _signal.signal(_signal.SIGINT, _held)
        try:
            return function(*arguments, **named)
        finally:
            _signal.signal(_signal.SIGINT, handler)
            if _held.arrived is not None:
                arrived, _held.arrived = _held.arrived, None
                handler(*arrived)

    return cast("F", run)


def _in_child() -> None:
    """After a fork: where another thread made it, nothing is held back here."""
    if _signal.getsignal(_signal.SIGINT) is _held and current_thread() is not _held.thread:
        _signal.signal(_signal.SIGINT, _held.handler)


forks.functions.append(_in_child)

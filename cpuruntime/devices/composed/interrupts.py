"""Ctrl-C at moments at which it would leave a queue half changed: it is held back until they are over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class _Held:
    """A handler of SIGINT that notes the signal."""

    arrived: tuple[int, FrameType | None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.arrived = number, frame


def is_interruptible() -> bool:
    """Whether Ctrl-C may strike on this thread."""
    return threading.current_thread() is threading.main_thread()


def uninterrupted(function: F) -> F:
    """A function during which no handler of SIGINT runs; it runs afterwards and may raise."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        handler = signal.getsignal(signal.SIGINT) if is_interruptible() else None
        if not callable(handler) or isinstance(handler, _Held):
            return function(*arguments)
        held = _Held()
        signal.signal(signal.SIGINT, held)
        try:
            return function(*arguments)
        finally:
            signal.signal(signal.SIGINT, handler)
            if held.arrived is not None:
                handler(*held.arrived)

    return cast("F", run)

"""Calling users' callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from cpuruntime.errors import WrongTypeError
from cpuruntime.streams.running_callbacks import name_of, running

log = logging.getLogger("cpuruntime")

SLOW = 20_000_000
"""Nanoseconds from which on a callback is called slow; arbitrary."""


class Callback:
    """A user's callback. A slow call is logged: the first, and each that takes twice as long as those before."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise WrongTypeError(f"The callback must be callable, not {type(function).__name__}.")
        self._function = function
        self._limit = SLOW

    def after(self, request: Any, error: BaseException | None) -> None:
        """Call it at the end of a request's inference."""
        self(request.userdata)

    def __call__(self, *arguments: Any) -> None:
        """Call it; raises what it raises."""
        begin = perf_counter_ns()
        try:
            running[begin] = self._function
            self._function(*arguments)
        finally:
            running.pop(begin, None)
            taken = perf_counter_ns() - begin
            if taken >= self._limit:
                self._limit = 2 * taken
                log.warning("callback '%s' took %.0f ms", name_of(self._function), taken / 1e6)
            del self, arguments  # the traceback of its error refers to this frame

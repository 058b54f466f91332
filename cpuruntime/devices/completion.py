"""The end of inferences, for devices that have no faster means to wait and notify."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from time import perf_counter_ns
from typing import Any, Protocol

from cpuruntime.host.interrupts import uninterrupted


class Completion:
    """The end of one inference. Any thread may wait for it, and be interrupted: it leaves no lock locked.

    `error` is None if the inference succeeded; `ended` is on the clock of perf_counter_ns.
    """

    is_over = False
    error: BaseException | None = None
    ended = 0
    _functions: deque[Callable[[], object]] | tuple[()] = ()

    def complete(self, error: BaseException | None = None) -> None:
        """The inference is over: let the waiters go on and call the functions."""
        self.error = error
        self.ended = perf_counter_ns()
        self.announce()

    def announce(self) -> None:
        """`complete` for an inference of which `error` and `ended` are known."""
        self.is_over = True
        if self._functions:
            self._call_functions()

    @uninterrupted
    def _call_functions(self) -> None:
        while self._functions:
            try:
                function = self._functions.popleft()
            except IndexError:  # another thread was faster
                return
            function()

    def notify(self, function: Callable[[], object]) -> None:
        """Call a function, which does not raise, once when the inference is over; now if it is already."""
        self.__dict__.setdefault("_functions", deque()).append(function)
        if self.is_over:
            self.announce()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the inference is over, at most for so many seconds: whether it is."""
        if not self.is_over:
            _wait(self.__dict__.setdefault("_functions", deque()), lambda: self.is_over, timeout)
        return self.is_over


OVER = Completion()
"""What a request has before its first inference."""
OVER.announce()


def call_elsewhere(function: Callable[[], object], name: str) -> None:
    """Call a function on a thread of its own, since the caller may hold locks; here where there are no more threads."""
    try:
        threading.Thread(target=function, name=name, daemon=True).start()
    except RuntimeError:
        function()


class OneInference:
    """The methods of a DeviceRequest about the end of its latest inference, which `_inference` tells."""

    _inference: Completion = OVER

    @property
    def is_over(self) -> bool:
        return self._inference.is_over

    def wait(self, timeout: float | None = None) -> bool:
        return self._inference.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self._inference.error, self._inference.ended

    def notify(self, function: Callable[[], None]) -> None:
        self._inference.notify(function)


def _wait(functions: deque[Callable[[], object]], is_over: Callable[[], bool], timeout: float | None) -> None:
    """Wait until a function of this call's, which it adds to `functions`, is called, unless `is_over()` by then."""
    gate = threading.Lock()
    gate.acquire()
    try:
        functions.append(gate.release)
        if not is_over():
            gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
    finally:
        with suppress(ValueError):
            functions.remove(gate.release)


class AnyCompletion(Protocol):
    """Wakes threads that wait for an inference of any of some requests: its end changes `count`, as does `wake`."""

    @property
    def count(self) -> int: ...

    def wait(self, count: int, in_flight: Iterable[Any] = (), timeout: float | None = None) -> None:
        """Wait until the count is no longer `count`; it may return earlier. From any thread; Ctrl-C interrupts it.

        `count` is from before the caller looked whether an inference is over; `in_flight` are the requests with one to
        wait for; `timeout` is in seconds.
        """

    def wake(self) -> None:
        """Change the count."""


class AnyNotified:
    """An AnyCompletion for any requests, by their `notify`, or by another function, which may call from any thread."""

    def __init__(self, notify: Callable[[Any, Callable[[], None]], None] | None = None) -> None:
        self._notify = notify or (lambda request, function: request.notify(function))
        self._numbers = count(1)
        self.count = 0
        self._waiting: deque[Callable[[], object]] = deque()
        self._asked: set[Any] = set()

    def wait(self, count: int, in_flight: Iterable[Any] = (), timeout: float | None = None) -> None:
        for request in in_flight:
            if request not in self._asked:
                try:
                    self._asked.add(request)
                    self._notify(request, partial(self._over, request))
                except BaseException:
                    self._asked.discard(request)
                    raise
        _wait(self._waiting, lambda: self.count != count, timeout)

    @uninterrupted
    def _over(self, request: Any) -> None:
        self._asked.discard(request)
        self.wake()

    def wake(self) -> None:
        self.count = next(self._numbers)
        while self._waiting:
            with suppress(IndexError):
                self._waiting.popleft()()

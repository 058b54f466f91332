"""A pool of infer requests that share the work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Any

from cpuruntime.compiled_model import CompiledModel
from cpuruntime.errors import BusyError, InvalidArgumentError
from cpuruntime.infer_request import InferRequest

Callback = Callable[[InferRequest, Any], None]


class _State:
    """What requests in flight report to. It refers to no request, so a dropped queue is gone at once.

    There is no lock, which an interrupt could leave locked: each step is one operation of a deque or set.
    """

    def __init__(self, jobs: int) -> None:
        self.idle = deque(range(jobs))
        self.waiters: deque[threading.Lock] = deque()
        self.userdata: list[Any] = [None] * jobs
        self.callback: Callback | None = None
        self.errors: deque[BaseException] = deque()
        self.callers: set[int] = set()

    def over(self, index: int, request: InferRequest, error: BaseException | None) -> None:
        """An inference of the request at `index` is over."""
        if error is None and self.callback is not None:
            self.callers.add(get_ident())
            try:
                self.callback(request, self.userdata[index])
            except BaseException as raised:
                error = raised
            self.callers.discard(get_ident())
        if error is not None:
            self.errors.append(error)
        self.give_back(index)
        del self, request, error  # the traceback of a callback's error refers to this frame

    def give_back(self, index: int) -> None:
        """The request at `index` is idle: let all who wait for one try."""
        self.idle.append(index)
        while self.waiters:
            with suppress(IndexError):
                self.waiters.popleft().release()

    def wait_idle(self) -> int | None:
        """Wait until a request is idle, raise a kept error, and return the next one's index; None if it was taken."""
        while not self.idle:
            self.check_may_wait()
            gate = threading.Lock()
            gate.acquire()
            self.waiters.append(gate)
            if not self.idle:
                gate.acquire()
        if self.errors:
            raise self.errors[0]
        with suppress(IndexError):
            return self.idle[0]
        return None

    def claim(self, index: int) -> bool:
        """Take the request at `index` from the idle ones; False if another thread was faster."""
        try:
            self.idle.remove(index)
        except ValueError:
            return False
        return True

    def check_may_wait(self) -> None:
        """Raise BusyError in a callback."""
        if get_ident() in self.callers:
            raise BusyError(
                "A callback cannot wait for its own queue, whose requests may be waiting for this very callback. "
                "Start the next inference from elsewhere, or let the queue have more jobs."
            )


class AsyncInferQueue:
    """A pool of `jobs` infer requests, each started when it is idle; safe to use from several threads.

    Which request finishes first is not determined. An error, of an inference or of the callback, is kept until
    `wait_all` raises the first one; until then `start_async` and `get_idle_request_id` raise it too, so that a loop
    that only starts inferences does not go on unaware.

    Args:
        model: the compiled model.
        jobs: the number of requests; 0 for OPTIMAL_NUMBER_OF_INFER_REQUESTS.
    """

    def __init__(self, model: CompiledModel, jobs: int = 0) -> None:
        if isinstance(jobs, bool) or not hasattr(jobs, "__index__") or jobs < 0:
            raise InvalidArgumentError(f"The number of jobs must be an integer >= 0, not {jobs!r}.")
        jobs = int(jobs) or model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = tuple(model.create_infer_request() for _ in range(jobs))
        self._state = _State(jobs)
        self._hooks = tuple(partial(self._state.over, index) for index in range(jobs))

    def start_async(self, inputs: Any = None, userdata: Any = None, share_inputs: bool = False) -> None:
        """Start an inference in the next idle request, as `InferRequest.start_async`; waits until there is one.

        The request is the one that `get_idle_request_id` returns. Wrong inputs raise here.
        """
        state = self._state
        index = None
        try:
            while index is None:
                index = state.wait_idle()
                if index is not None and not state.claim(index):
                    index = None
            state.userdata[index] = userdata
            self._requests[index].start(inputs, userdata, share_inputs, self._hooks[index])
        except BaseException:
            if index is not None and index not in state.idle and not self._requests[index].is_busy():
                state.give_back(index)
            raise

    def get_idle_request_id(self) -> int:
        """The index of the request that the next `start_async` takes; waits until one is idle."""
        index = None
        while index is None:
            index = self._state.wait_idle()
        return index

    def is_ready(self) -> bool:
        """Whether a request is idle, so that `start_async` would not wait."""
        return bool(self._state.idle)

    def wait_all(self) -> None:
        """Wait until all inferences are over and their callbacks have returned.

        Raises the first error of any, as it was raised, and forgets the others: the queue can be used again.
        """
        self._state.check_may_wait()
        for request in self._requests:
            request.wait_over()
        if self._state.errors:
            error = self._state.errors.popleft()
            self._state.errors.clear()
            try:
                raise error
            finally:
                del self, request, error  # the error's traceback refers to this frame

    def set_callback(self, callback: Callback) -> None:
        """Call `callback(request, userdata)` after each inference that succeeds.

        It runs on threads of the runtime, for several requests at the same time, so it must be thread-safe; a request
        is idle for `start_async` when it has returned. It may start the next inference while a request is idle; it may
        not wait for one, nor call `wait_all` (BusyError).
        """
        if not callable(callback):
            raise InvalidArgumentError(f"The callback must be callable, not {type(callback).__name__}.")
        self._state.callback = callback

    @property
    def userdata(self) -> list[Any]:
        """What was last passed to `start_async` for each request."""
        return list(self._state.userdata)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[InferRequest]:
        return iter(self._requests)

    def __getitem__(self, index: int) -> InferRequest:
        try:
            return self._requests[index]
        except (IndexError, TypeError):
            raise IndexError(f"No request {index!r}: indexes go from 0 to {len(self) - 1}.") from None

    def __repr__(self) -> str:
        return f"<AsyncInferQueue: {len(self)} jobs>"

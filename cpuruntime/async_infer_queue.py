"""A pool of infer requests that share the work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from threading import get_ident
from typing import Any

from cpuruntime.compiled_model import CompiledModel
from cpuruntime.errors import BusyError, InvalidArgumentError
from cpuruntime.infer_request import InferRequest, without_frame

Callback = Callable[[InferRequest, Any], None]


class _State:
    """What requests in flight report to. It refers to no request, so a dropped queue is gone at once."""

    def __init__(self, jobs: int) -> None:
        self.idle = deque(range(jobs))
        self.changed = threading.Condition()
        self.userdata: list[Any] = [None] * jobs
        self.callback: Callback | None = None
        self.errors: list[BaseException] = []
        self.callers: set[int] = set()

    def over(self, index: int, request: InferRequest, error: BaseException | None) -> None:
        """An inference of the request at `index` is over."""
        if error is None and self.callback is not None:
            self.callers.add(get_ident())
            try:
                self.callback(request, self.userdata[index])
            except BaseException as raised:
                error = without_frame(raised)
            self.callers.discard(get_ident())
        with self.changed:
            if error is not None:
                self.errors.append(error)
            self.idle.append(index)
            self.changed.notify()


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
            index = self._idle(state.idle.popleft)
            state.userdata[index] = userdata
            self._requests[index].start(inputs, userdata, share_inputs, self._hooks[index])
        except BaseException:
            if index is not None and not self._requests[index].is_busy():
                with state.changed:
                    state.idle.appendleft(index)
                    state.changed.notify()
            raise

    def get_idle_request_id(self) -> int:
        """The index of the request that the next `start_async` takes; waits until one is idle."""
        idle = self._state.idle
        return self._idle(lambda: idle[0])

    def _idle(self, take: Callable[[], int]) -> int:
        state = self._state
        with state.changed:
            while not state.idle:
                self._check_may_wait()
                state.changed.wait()
            if state.errors:
                raise state.errors[0]
            return take()

    def _check_may_wait(self) -> None:
        if get_ident() in self._state.callers:
            raise BusyError(
                "A callback cannot wait for its own queue, whose requests may be waiting for this very callback. "
                "Start the next inference from elsewhere, or let the queue have more jobs."
            )

    def is_ready(self) -> bool:
        """Whether a request is idle, so that `start_async` would not wait."""
        return bool(self._state.idle)

    def wait_all(self) -> None:
        """Wait until all inferences are over and their callbacks have returned.

        Raises the first error of any, as it was raised, and forgets the others: the queue can be used again.
        """
        self._check_may_wait()
        for request in self._requests:
            request.wait_over()
        with self._state.changed:
            errors, self._state.errors = self._state.errors, []
        if errors:
            try:
                raise errors[0]
            finally:
                del errors, self  # the error's traceback refers to this frame

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

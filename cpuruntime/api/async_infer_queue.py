"""A pool of infer requests that share the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from cpuruntime.api.callback import Callback
from cpuruntime.api.compiled_model import CompiledModel
from cpuruntime.api.infer_request import InferRequest
from cpuruntime.api.refusals import COMPILED_THERE, not_pickled
from cpuruntime.api.request.bindings import InferenceRun
from cpuruntime.api.request.terms import parse_terms
from cpuruntime.devices.interface import TERMS
from cpuruntime.errors import BusyError, CancelledError, DeadlineExceededError, OverloadedError, WrongTypeError
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.streams.handover import collect

_REFUSALS = (CancelledError, DeadlineExceededError, OverloadedError)
"""Errors of single inferences that say nothing about others: starting others goes on."""


class _State:
    """What requests in flight report to. It refers to no request, so a dropped queue is gone at once.

    There is no lock, which an interrupt could leave locked: each step is one operation of a deque or set.

    Attributes:
        errors: what `start_async` and `wait_all` raise.
        refusals: the first refusal, which only `wait_all` raises.
    """

    def __init__(self, requests: Sequence[InferRequest]) -> None:
        devices = [request._device for request in requests]
        self.idle = deque(range(len(requests)))
        self.in_flight: dict[int, InferenceRun] = {}
        self.any_completion = devices[0].any_completion(devices)
        self.waiting: deque[int] = deque()
        self.userdata: list[Any] = [None] * len(requests)
        self.callback: Callback | None = None
        self.on_error: Callback | None = None
        self.errors: deque[BaseException] = deque()
        self.refusals: deque[BaseException] = deque()
        self.callers: set[int] = set()

    def over(self, index: int, request: InferRequest, error: BaseException | None) -> None:
        """An inference of the request at `index` is over."""
        callback = self.callback if error is None else self.on_error
        if callback is not None:
            self.callers.add(get_ident())
            try:
                callback(request, self.userdata[index])
                error = None
            except BaseException as raised:
                error = raised
            self.callers.discard(get_ident())
        if error is not None:
            if hasattr(error, "add_note"):  # since Python 3.11
                error.add_note(f"In an AsyncInferQueue, of the inference with userdata {self.userdata[index]!r:.80}.")
            self.place_of(error).append(error)
        self.give_back(index)
        del self, request, error  # the traceback of a callback's error refers to this frame

    def place_of(self, error: BaseException) -> deque[BaseException]:
        """Where an error is stored; only the first of the refusals is."""
        if not isinstance(error, _REFUSALS):
            return self.errors
        return deque(maxlen=0) if self.refusals else self.refusals

    def give_back(self, index: int) -> None:
        """The request at `index` is idle: let all who wait for one try."""
        self.idle.append(index)
        if self.waiting:
            self.wake()

    def wake(self) -> None:
        """Let those who wait look again."""
        if self.waiting:
            self.any_completion.wake()

    def add(self, index: int, run: InferenceRun) -> None:
        """The request at `index` has started an inference that calls nothing when it is over."""
        self.in_flight[index] = run
        if self.waiting:
            self.wake()

    def collect(self, requests: Sequence[InferRequest]) -> None:
        """Take note of such inferences that are over."""
        for index, run in list(self.in_flight.items()):
            if run.is_over or not requests[index].is_busy():
                errors = self.errors if run.error is None else self.place_of(run.error)
                collect(self.in_flight, self.idle, index, run, errors)

    def wait_idle(self, requests: Sequence[InferRequest], deadline: int = 0) -> int | None:
        """Wait until a request is idle, raise a stored error, and return the next one's index; None if it was taken.

        DeadlineExceededError when the clock of perf_counter_ns has passed a `deadline` that is not 0.
        """
        while not self.idle:
            self.collect(requests)
            if not self.idle:
                self.check_may_wait()
                if 0 < deadline <= perf_counter_ns():
                    raise DeadlineExceededError("The inference's deadline passed before a request was idle.")
                self.wait(requests, deadline)
        if self.errors:
            raise self.errors[0]
        try:
            return self.idle[0]
        except IndexError:
            return None

    def wait(self, requests: Sequence[InferRequest], deadline: int) -> None:
        """Wait until a request may have become idle, or for a deadline that is not 0."""
        thread = get_ident()
        self.waiting.append(thread)
        try:
            count = self.any_completion.count
            self.collect(requests)
            if not self.idle:
                timeout = max(0.0, (deadline - perf_counter_ns()) / 1e9) if deadline else None
                self.any_completion.wait(count, (requests[index]._device for index in list(self.in_flight)), timeout)
        finally:
            self.waiting.remove(thread)

    def check_may_wait(self) -> None:
        """Raise BusyError in a callback."""
        if get_ident() in self.callers:
            raise BusyError(
                "A callback cannot wait for its own queue, whose requests may be waiting for this very callback. "
                "Start the next inference from elsewhere, or let the queue have more jobs."
            )


class AsyncInferQueue:
    """A pool of `jobs` infer requests, each started when it is idle; safe to use from several threads.

    Which request finishes first is not determined. The first error, of an inference or of a callback, is stored until
    `wait_all` raises it. Until then `start_async` and `get_idle_request_id` raise it too, so that a loop that only
    starts inferences does not go on unaware; but not a DeadlineExceededError, OverloadedError or CancelledError, which
    say nothing about other inferences: raised by `start_async` they are about the inference to be started. To hear of
    each inference that fails, give `set_callback` an `on_error`.

    Args:
        model: the compiled model.
        jobs: the number of requests; 0 for OPTIMAL_NUMBER_OF_INFER_REQUESTS.
    """

    def __init__(self, model: CompiledModel, jobs: int = 0) -> None:
        if not isinstance(model, CompiledModel):
            raise WrongTypeError(f"{model!r:.60} is no CompiledModel: give what Core.compile_model returns.")
        if isinstance(jobs, bool) or not hasattr(jobs, "__index__") or jobs < 0:
            raise WrongTypeError(f"The number of jobs must be an integer >= 0, not {jobs!r}.")
        jobs = int(jobs) or model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = tuple(model.create_infer_request() for _ in range(jobs))
        self._state = _State(self._requests)
        self._is_polled = self._requests[0]._is_polled
        self._hooks = tuple(partial(self._state.over, index) for index in range(jobs))
        forks.objects.add(self)

    def start_async(
        self,
        inputs: Any = None,
        userdata: Any = None,
        share_inputs: bool = False,
        *,
        priority: Any = None,
        deadline_ms: float | None = None,
    ) -> None:
        """Start an inference in the next idle request, as `InferRequest.start_async`; waits until there is one.

        The request is the one that `get_idle_request_id` returns.

        Raises:
            InvalidArgumentError: an input has a wrong name, dtype or shape.
            DeadlineExceededError: the deadline passed before a request was idle. One that passes later is an error of
                the inference.
            OverloadedError: the inference was refused at once, as it would miss LATENCY_TARGET_MS.
            BusyError: called in a callback of this queue while no request is idle.
            Exception: what an earlier inference or its callback raised, as said above. Nothing was started.
        """
        state = self._state
        index: int | None = None
        previous: InferenceRun | None = None
        if priority is not None or deadline_ms is not None:
            terms = parse_terms(priority, deadline_ms)
        elif self._starts_again(inputs, userdata, share_inputs):
            return
        else:
            terms = TERMS
        try:
            while index is None:
                if state.errors or not state.idle:
                    state.wait_idle(self._requests, terms.deadline)
                try:
                    index = state.idle[0]
                    previous = self._requests[index]._run
                    state.idle.remove(index)
                except (IndexError, ValueError):  # another thread was faster
                    index = None
            state.userdata[index] = userdata
            request = self._requests[index]
            hook = None if state.callback is None and self._is_polled else self._hooks[index]
            run = request._start(inputs, userdata, share_inputs, terms, hook)
            if hook is None:
                if run.is_over and run.error is None:
                    state.give_back(index)
                else:
                    state.add(index, run)
        except BaseException:
            if index is not None:
                taken = [index]
                try:
                    self._recover(taken, previous)
                finally:
                    if taken:  # an interrupt struck before
                        self._recover(taken, previous)
            raise

    def _starts_again(self, inputs: Any, userdata: Any, share_inputs: bool) -> bool:
        """Whether an inference that calls nothing back ran again in the next idle request, and is over.

        Another thread may have taken that request and not begun yet; it begins then after this inference.
        """
        state = self._state
        if state.callback is not None or state.errors or not state.idle:
            return False
        try:
            index = state.idle[0]
        except IndexError:  # another thread was faster
            return False
        if not self._requests[index]._starts_again(inputs, share_inputs):
            return False
        state.userdata[index] = userdata
        state.idle.rotate(-1)
        return True

    @uninterrupted
    def _recover(self, taken: list[int], previous: InferenceRun | None) -> None:
        """After a start that failed: the request that was taken is idle, or in flight, or its hook gives it back."""
        index, state = taken.pop(), self._state
        request = self._requests[index]
        run = request._run
        if index not in state.idle and index not in state.in_flight:
            if run is None or (run is previous and not request.is_busy()):
                state.give_back(index)
            elif run.hook is not self._hooks[index]:
                state.add(index, run)
        state.wake()

    def _forked(self) -> None:
        """In a forked child: the requests that other threads were to give back are idle, and that is an error."""
        state = self._state
        state.callers &= {get_ident()}
        for index, request in enumerate(self._requests):
            if index not in state.idle and index not in state.in_flight and not request._calls_back_here:
                state.errors.append(forks.threads_are_gone())
                state.give_back(index)

    def get_idle_request_id(self) -> int:
        """The index of the request that the next `start_async` takes; waits until one is idle."""
        self._state.collect(self._requests)
        index = None
        while index is None:
            index = self._state.wait_idle(self._requests)
        return index

    def is_ready(self) -> bool:
        """Whether a request is idle, so that `start_async` would not wait."""
        self._state.collect(self._requests)
        return bool(self._state.idle)

    def wait_all(self) -> None:
        """Wait until all inferences are over and their callbacks have returned.

        Raises the first error, as it was raised, and forgets the others: the queue can be used again. A
        DeadlineExceededError, OverloadedError or CancelledError is raised only if there are no others.
        """
        self._state.check_may_wait()
        for request in self._requests:
            request._wait_over()
        self._state.collect(self._requests)
        if self._state.errors or self._state.refusals:
            error = (self._state.errors or self._state.refusals)[0]
            self._state.errors.clear()
            self._state.refusals.clear()
            try:
                raise error
            finally:
                del self, request, error  # the error's traceback refers to this frame

    def set_callback(
        self,
        callback: Callable[[InferRequest, Any], None],
        *,
        on_error: Callable[[InferRequest, Any], None] | None = None,
    ) -> None:
        """Call a function after each inference started from now on, on threads of the runtime.

        Several calls may be made at the same time, so the functions must be thread-safe. A request is idle for
        `start_async` when they have returned. They may start the next inference while a request is idle; they may not
        wait for one, nor call `wait_all` (BusyError). What they raise is stored as an error of the queue.

        Args:
            callback: called as `callback(request, userdata)` after an inference that succeeds.
            on_error: called likewise in its place after one that fails, whose error `request.wait()` raises there. If
                it returns, that error is handled and not stored. Without it nothing is called.
        """
        function, on_error = Callback(callback), None if on_error is None else Callback(on_error)
        self._state.on_error = on_error
        self._state.callback = function

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

    __reduce__ = not_pickled("An AsyncInferQueue", COMPILED_THERE)

    def __repr__(self) -> str:
        return f"<AsyncInferQueue: {len(self)} jobs>"

"""A whole device from one method that computes: `SerialPlugin.prepare`.

Each stream is a thread that computes one inference at a time; a queue orders those that wait by their terms.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from heapq import heappop, heappush
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any, ClassVar

import numpy as np

from cpuruntime.devices.completion import OVER, Completion, OneInference, call_elsewhere
from cpuruntime.devices.explanation import Explanation, ProfilingInfo, Row
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Plugin, Terms
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.errors import (
    CancelledError,
    DeadlineExceededError,
    Error,
    InternalError,
    UnsupportedError,
    printable,
)
from cpuruntime.graph import Graph, Kind, Type
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.properties import Settings

Compute = Callable[[Sequence[np.ndarray], Callable[[int], None]], Sequence[Any]]
"""`compute(inputs, begin)` returns the outputs of one inference, in the graph's order, as the inputs are.

It may run in several threads at a time and does not write to the inputs. Before it computes node `index` it calls
`begin(index)`, which times nodes and raises where the inference is cancelled or its deadline has passed. Outputs are
copied, so they may share memory with inputs and constants.
"""

_numbers = itertools.count()
_RANKS = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


class SerialPlugin(Plugin):
    """A device of which only `prepare` must be written."""

    kernel: ClassVar[str] = ""
    """What `explain` and profiling call the way in which nodes are computed."""

    fallback: ClassVar[bool] = False
    """Whether that is no kernel of the device's own."""

    @abstractmethod
    def prepare(self, graph: Graph, settings: Settings) -> Compute:
        """What computes inferences of a graph, which is the model's own and went through the passes.

        Raises ModelError and UnsupportedError, naming the node, for a graph that cannot be computed.
        """

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        graph = self.optimise(graph)
        return SerialModel(self, graph, settings, self.prepare(graph, settings))


class SerialModel(DeviceModel):
    """A graph, its function `compute`, and the threads that call it, one for each stream.

    Args:
        compute: None where requests of a class of the device's own compute.
        streams: their number, and why, where the device has a rule of its own.
        facts: properties of the model that differ from the settings.
    """

    def __init__(
        self, plugin: SerialPlugin, graph: Graph, settings: Settings, compute: Compute | None,
        streams: tuple[int, str] | None = None, facts: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.plugin = plugin
        self.graph = graph
        self.compute = compute
        self.streams, self._reason = streams or _streams(settings)
        self.profiled: bool = settings.times_steps
        resolved = settings.resolved() | {
            "NETWORK_NAME": graph.name,
            "NUM_STREAMS": self.streams,
            "EXECUTION_DEVICES": [str(plugin.target)],
            "INFERENCE_PRECISION_HINT": Type.f32,
            "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(self.streams, 1),
            **(facts or {}),
        }
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), resolved)
        for port in (*self.inputs, *self.outputs):
            if port.kind is not Kind.TENSOR:
                what = f"'{printable(port.name)}' is a {port.kind.value}"
                raise UnsupportedError(f"{what}; device {plugin.target} takes and gives tensors only. Use device CPU.")
        self.generation = forks.generation
        self.queue = _Queue()
        threads = max(self.streams, 1)
        self._end = weakref.finalize(self, self.queue.end, threads)  # also of a model that was never handed out
        self._end.atexit = False
        for index in range(threads):
            self.queue.start_thread(f"cpuruntime-{plugin.name.lower()}-{index}")

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return SerialRequest(self)

    def explain(self, measure: bool = False) -> Explanation:
        rows = [
            Row(tuple(node.origins), node.op_type, self.plugin.kernel, "plain", fallback=self.plugin.fallback)
            for node in self.graph.nodes
        ]
        return Explanation(str(self.plugin.target), rows, [f"streams: {self.streams}, {self._reason}"])

    def close(self) -> None:
        """Let the threads end when they come to the end of the queue. It takes no lock."""
        self.closed = True
        self._end()


def _streams(settings: Settings) -> tuple[int, str]:
    if settings.get("NUM_STREAMS", -1) >= 0:
        return settings["NUM_STREAMS"], "as NUM_STREAMS says"
    if settings.get("NUM_STREAMS") != -1 and settings.value("PERFORMANCE_HINT") == "LATENCY":
        return 1, "for latency"
    streams = len(os.sched_getaffinity(0))
    requests = settings.value("PERFORMANCE_HINT_NUM_REQUESTS")
    if 0 < requests < streams:
        return requests, "for throughput, as many as PERFORMANCE_HINT_NUM_REQUESTS says"
    return streams, "for throughput, one for each processor"


class _Queue:
    """The inferences that wait for a stream. Threads refer to it and not to the model, which so can be dropped.

    A stream waits for a turn, then takes the first of the waiting inferences: a turn may find none.
    """

    def __init__(self) -> None:
        self._turns: SimpleQueue[bool] = SimpleQueue()  # its `put` is safe in finalizers
        self._waiting: list[tuple[int, float, int, _Inference]] = []
        self._lock = threading.Lock()

    def start_thread(self, name: str) -> None:
        """Let one more thread compute."""
        threading.Thread(target=self.serve, name=name, daemon=True).start()

    @uninterrupted
    def put(self, inference: _Inference) -> None:
        """Queue an inference."""
        with self._lock:
            heappush(self._waiting, (*inference.order, next(_numbers), inference))
        self._turns.put(True)

    @property
    def is_waiting(self) -> bool:
        """Whether an inference waits for a stream."""
        return bool(self._waiting)

    @uninterrupted
    def end(self, threads: int) -> None:
        """Let so many threads end after the inferences that were queued before."""
        for _ in range(threads):
            self._turns.put(False)

    def serve(self) -> None:
        """Compute inferences until the end; refer to none while waiting for the next."""
        while self._turns.get():
            while (inference := self._take()) is not None and not inference.run():
                pass  # that one had ended
            if inference is not None and inference.is_abandoned:
                return
            del inference

    def _take(self) -> _Inference | None:
        with self._lock:
            return heappop(self._waiting)[-1] if self._waiting else None


class _Inference(Completion):
    """One inference. The thread that locks `claim` ends it."""

    def __init__(self, request: SerialRequest, terms: Terms) -> None:
        self.request = request
        self.model = request.model
        self.claim = threading.Lock()
        self.cancelled = False
        self.is_abandoned = False
        self.began = 0
        self._deadline = terms.deadline
        self._node = -1
        self._node_began = 0
        self._alarm: threading.Timer | None = None
        self.order = (_RANKS[terms.priority], terms.deadline or math.inf)

    def watch_deadline(self) -> None:
        """End the inference when its deadline passes while it waits."""
        if self._deadline:
            seconds = max(0, self._deadline - perf_counter_ns()) / 1e9
            alarm = self._alarm = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._expire)
            alarm.daemon = True
            with suppress(RuntimeError):  # no more threads: it ends when it is to begin
                alarm.start()

    def _expire(self) -> None:
        if self.claim.acquire(blocking=False):
            name = printable(self.model.graph.name)
            self.end(DeadlineExceededError(f"The deadline passed while model '{printable(name)}' was busy."))

    @uninterrupted
    def withdraw(self) -> None:
        """End the inference with CancelledError if no stream has begun it; callbacks are on another thread."""
        if self.claim.acquire(blocking=False):
            error = CancelledError(f"The inference of model '{printable(self.model.graph.name)}' was cancelled.")
            call_elsewhere(partial(self.end, error), "cpuruntime-cancel")

    def run(self) -> bool:
        """Compute it, unless it has ended: whether it had not."""
        if not self.claim.acquire(blocking=False):
            return False
        self.began = self._node_began = perf_counter_ns()
        error: BaseException | None = None
        try:
            self.request.compute(self)
        except Exception as raised:
            error = raised
            if not isinstance(raised, Error | MemoryError):
                name, model = self.model.plugin.target, self.model.graph.name
                what = f"Device {name} failed in model '{printable(model)}'"
                error = InternalError(f"{what}: {type(raised).__name__}: {raised}.")
                error.__cause__ = raised
        except BaseException as raised:
            error = raised
        self.is_abandoned = not self.end(error)
        return True

    def end(self, error: BaseException | None) -> bool:
        """End it, also while its thread is still in a driver's call: whether it had not ended."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self.__dict__.pop("request", None) is None:  # which keeps the model open
            return False
        self.complete(error)
        return True

    def begin(self, index: int) -> None:
        """Node `index` begins: raise where the inference is to end, and note the time of the node before."""
        name = self.model.graph.name
        if self.cancelled:
            raise CancelledError(f"The inference of model '{printable(name)}' was cancelled.")
        now = perf_counter_ns()
        if 0 < self._deadline <= now:
            raise DeadlineExceededError(f"The deadline passed before node {index} of model '{printable(name)}'.")
        self.note(now)
        self._node, self._node_began = index, now

    def note(self, now: int) -> None:
        """The node that began last is over, or a part of it."""
        if self.model.profiled and 0 <= self._node < len(self.request.times):
            before = self.request.times[self._node] or timedelta()
            self.request.times[self._node] = before + timedelta(microseconds=(now - self._node_began) / 1000)


class SerialRequest(BoundArrays, OneInference, DeviceRequest):
    """The bound arrays of one inference at a time."""

    def __init__(self, model: SerialModel) -> None:
        self.model = model
        self.times: list[timedelta | None] = [None] * len(model.graph.nodes)
        self.bind_own(model.inputs, model.outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._inputs[index] = array

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array

    def run(self) -> None:
        """Compute in a stream's thread and wait; with NUM_STREAMS 0 in the caller's."""
        if self.model.streams:
            super().run()
            return
        self.model.check_open()
        inference = self._inference = _Inference(self, TERMS)
        inference.run()
        if inference.error is not None:
            raise inference.error

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> None:
        self._inference = OVER
        self.model.check_open()
        forks.check(self.model.generation)  # a forked child has no threads
        inference = self._inference = _Inference(self, terms)
        if function is not None:
            inference.notify(function)
        inference.watch_deadline()
        self.model.queue.put(inference)
        if self.model.closed and inference.claim.acquire(blocking=False):
            self._inference = OVER
            self.model.check_open()

    def notify(self, function: Callable[[], None]) -> None:
        """Call a function once the inference is over, and never on this thread: its caller may hold a lock."""
        caller = threading.get_ident()

        def call() -> None:
            if threading.get_ident() == caller:
                call_elsewhere(function, "cpuruntime-notify")
            else:
                function()

        super().notify(call)

    def cancel(self) -> bool:
        inference = self._inference
        if not isinstance(inference, _Inference) or inference.is_over:
            return False
        inference.cancelled = True
        inference.withdraw()
        return True

    def moments(self) -> tuple[int, int, int]:
        began = self._inference.began if isinstance(self._inference, _Inference) else 0
        return began, began, self._inference.ended

    def profiling(self) -> list[ProfilingInfo]:
        rows = []
        for node, duration in zip(self.model.graph.nodes, self.times):
            status = ProfilingInfo.NOT_RUN if duration is None else ProfilingInfo.EXECUTED
            taken = duration or timedelta()
            rows.append(ProfilingInfo(status, taken, taken, node.name, node.op_type, self.model.plugin.kernel))
        return rows

    def compute(self, inference: _Inference) -> None:
        inputs = self.bound_inputs()
        self.times = [None] * len(self.times)
        inference.begin(0)
        assert self.model.compute is not None
        results = self.model.compute(inputs, inference.begin)
        inference.note(perf_counter_ns())
        for index, (info, result) in enumerate(zip(self.model.outputs, results, strict=True)):
            self._deliver(index, info, np.asarray(result, info.element_type.to_dtype()))

    def _deliver(self, index: int, info: PortInfo, result: np.ndarray) -> None:
        if self._outputs[index].shape != result.shape:
            if info.partial_shape.is_static:
                raise InternalError(
                    f"Device {self.model.plugin.target} computed shape {list(result.shape)} for output "
                    f"'{printable(info.name)}' {info.partial_shape} of model '{printable(self.model.graph.name)}'."
                )
            self._outputs[index] = aligned_zeros(result.shape, result.dtype)
        self._outputs[index][...] = result

"""Compiled models and requests of the REFERENCE device."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np

from cpuruntime.devices.completion import Completion
from cpuruntime.devices.explanation import Explanation, ProfilingInfo, Row
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import CancelledError, DeadlineExceededError, Error, InvalidArgumentError
from cpuruntime.graph import Graph, Node, Value
from cpuruntime.host.forks import threads_are_gone
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.operators.shape_inference import evaluate
from cpuruntime.properties import Settings


def _streams(settings: Settings) -> tuple[int, str]:
    """The number of streams, and the reason for it."""
    if settings.get("NUM_STREAMS", -1) >= 0:
        return settings["NUM_STREAMS"], "as NUM_STREAMS says"
    if settings.get("NUM_STREAMS") != -1 and settings.value("PERFORMANCE_HINT") == "LATENCY":
        return 1, "for latency"
    streams = len(os.sched_getaffinity(0))
    requests = settings.value("PERFORMANCE_HINT_NUM_REQUESTS")
    if 0 < requests < streams:
        return requests, "for throughput, as many as PERFORMANCE_HINT_NUM_REQUESTS says"
    return streams, "for throughput, one for each processor"


class ReferenceModel(DeviceModel):
    """A graph and the threads that interpret it, one for each stream."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self.graph = graph
        self.streams, self._reason = _streams(settings)
        self.profiled: bool = settings.value("PERF_COUNT")
        resolved = settings.resolved() | {
            "NETWORK_NAME": graph.name,
            "NUM_STREAMS": self.streams,
            "EXECUTION_DEVICES": ["REFERENCE"],
            "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(self.streams, 1),
        }
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), resolved)
        self.closed = False
        self._process = os.getpid()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = max(self.streams, 1)
        for index in range(self._threads):
            threading.Thread(
                target=_work, args=(self._jobs,), name=f"cpuruntime-reference-{index}", daemon=True
            ).start()

    def create_request(self) -> DeviceRequest:
        """A new request."""
        self.check_open()
        return ReferenceRequest(self)

    def queue(self, job: _Job) -> None:
        """Let a stream run `job`."""
        self._jobs.put(job)

    def check_open(self) -> None:
        """Raise Error when the model is closed."""
        if self.closed:
            raise Error(f"Model '{self.graph.name}' on device REFERENCE is closed; compile it again.")

    def explain(self, measure: bool = False) -> Explanation:
        """Every node, as a fallback: none has a kernel here, and none is timed."""
        rows = [Row((n.name,), n.op_type, "onnx.reference", "plain", fallback=True) for n in self.graph.nodes]
        return Explanation("REFERENCE", rows, [f"streams: {self.streams}, {self._reason}"])

    def check_threads(self) -> None:
        """Raise Error in a forked child, which has none."""
        if os.getpid() != self._process:
            raise threads_are_gone()

    def close(self) -> None:
        """Let each thread end when it comes to the end of the queue. `SimpleQueue.put` is safe in finalizers."""
        if not self.closed:
            self.closed = True
            for _ in range(self._threads):
                self._jobs.put(None)


class _Job(Completion):
    """One inference in the queue. The thread that locks `claim` runs it, so that queuing it twice is harmless."""

    def __init__(self, request: ReferenceRequest, deadline: int = 0) -> None:
        self.request = request
        self.claim = threading.Lock()
        self.cancelled = False
        self.deadline = deadline
        self.began = 0

    def run(self) -> None:
        """Run it, unless another stream did."""
        if not self.claim.acquire(blocking=False):
            return
        error: BaseException | None = None
        self.began = time.perf_counter_ns()
        try:
            self.request.interpret(self)
        except BaseException as raised:
            error = raised
        del self.request
        self.complete(error)


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    """Run queued inferences until the model is closed; keep no reference to one while waiting for the next."""
    while (job := jobs.get()) is not None:
        job.run()
        del job


_NONE = Completion()
_NONE.announce()


class ReferenceRequest(DeviceRequest):
    """The bound arrays of one inference at a time."""

    def __init__(self, model: ReferenceModel) -> None:
        self._model = model
        self._own: list[np.ndarray | None] = [None] * len(model.inputs)
        self._inputs: list[np.ndarray | None] = [None] * len(model.inputs)
        self._outputs = [self._first_output(info) for info in model.outputs]
        self._times: list[timedelta | None] = [None] * len(model.graph.nodes)
        self._job: Completion = _NONE
        for index, info in enumerate(model.inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))

    @staticmethod
    def _first_output(info: PortInfo) -> np.ndarray:
        return aligned_zeros(info.partial_shape.get_min_shape(), info.element_type.to_dtype())

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Memory of the request's own for an input, bound."""
        own = self._own[index]
        if own is None or own.shape != shape:
            own = self._own[index] = aligned_zeros(shape, self._model.inputs[index].element_type.to_dtype())
        self._inputs[index] = own
        return own

    def set_input(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to an input."""
        self._inputs[index] = array

    def output_array(self, index: int) -> np.ndarray:
        """The memory bound to an output."""
        return self._outputs[index]

    def set_output(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to an output."""
        self._outputs[index] = array

    def run(self) -> None:
        """Run in a stream's thread and wait; with NUM_STREAMS 0 in the caller's."""
        if self._model.streams:
            super().run()
            return
        self._model.check_open()
        job = self._job = _Job(self)
        job.run()
        if job.error is not None:
            raise job.error

    def start(self, terms: Terms = TERMS) -> None:
        """Queue one inference."""
        self._job = _NONE
        self._model.check_open()
        self._model.check_threads()
        job = self._job = _Job(self, terms.deadline)
        self._model.queue(job)
        if self._model.closed and job.claim.acquire(blocking=False):
            self._job = _NONE
            self._model.check_open()

    @property
    def is_over(self) -> bool:
        """Whether the inference started last is over."""
        return self._job.is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the inference started last."""
        return self._job.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        """The error of the inference, and when it ended."""
        return self._job.error, self._job.ended

    def notify(self, function: Callable[[], None]) -> None:
        """Call a function once the inference is over."""
        self._job.notify(function)

    def cancel(self) -> bool:
        """End the inference at the next node."""
        job = self._job
        if not isinstance(job, _Job) or job.is_over:
            return False
        job.cancelled = True
        self._model.queue(job)  # an interrupt may have struck `start` before it queued the job
        return True

    def moments(self) -> tuple[int, int, int]:
        """When the last inference was taken from the queue, began and ended."""
        began = self._job.began if isinstance(self._job, _Job) else 0
        return began, began, self._job.ended

    def profiling(self) -> list[ProfilingInfo]:
        """A row for each node."""
        rows = []
        for node, duration in zip(self._model.graph.nodes, self._times):
            status = ProfilingInfo.NOT_RUN if duration is None else ProfilingInfo.EXECUTED
            taken = duration or timedelta()
            rows.append(ProfilingInfo(status, taken, taken, node.name, node.op_type, "onnx.reference"))
        return rows

    def interpret(self, job: _Job) -> None:
        """Run the nodes one after the other and deliver the outputs."""
        graph = self._model.graph
        arrays: dict[Value, np.ndarray] = dict(zip(graph.inputs, self._filled()))
        for index, node in enumerate(graph.nodes):
            if job.cancelled:
                raise CancelledError(f"The inference of model '{graph.name}' was cancelled.")
            begin = time.perf_counter_ns()
            if 0 < job.deadline <= begin:
                raise DeadlineExceededError(f"The deadline passed before node {index} of model '{graph.name}'.")
            arrays.update(_evaluate(node, arrays))
            if self._model.profiled:
                self._times[index] = timedelta(microseconds=(time.perf_counter_ns() - begin) / 1000)
        for index, value in enumerate(graph.outputs):
            self._deliver(index, arrays[value] if value.constant is None else value.constant)

    def _filled(self) -> Iterator[np.ndarray]:
        for info, array in zip(self._model.inputs, self._inputs):
            if array is None:
                raise InvalidArgumentError(f"Input '{info.name}' {info.partial_shape} has no data yet.")
            yield array

    def _deliver(self, index: int, result: Any) -> None:
        info = self._model.outputs[index]
        result = np.asarray(result, info.element_type.to_dtype())
        if info.partial_shape.is_dynamic and self._outputs[index].shape != result.shape:
            self._outputs[index] = aligned_zeros(result.shape, result.dtype)
        self._outputs[index][...] = result


def _evaluate(node: Node, arrays: dict[Value, np.ndarray]) -> Iterator[tuple[Value, np.ndarray]]:
    inputs = [None if v is None else arrays[v] if v.constant is None else v.constant for v in node.inputs]
    return zip(node.outputs, evaluate(node, inputs))

"""Models and requests that record their inferences for a timeline, in front of those of any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np

from cpuruntime.devices.completion import AnyCompletion
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.forwarding import ForwardingRequest
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Exported, Terms
from cpuruntime.errors import printable
from cpuruntime.graph import Graph
from cpuruntime.host import cgroup
from cpuruntime.trace.events import Inference
from cpuruntime.trace.recorder import Recorder, opened, this_thread


def traced(model: DeviceModel, path: str, device: str, has_steps: bool) -> TracedModel:
    """The model with inferences that are recorded for the timeline at `path`; of each step if it `has_steps`.

    Raises InvalidArgumentError where the file cannot be written.
    """
    recorder = opened(path)
    if recorder.sampler is None and cgroup.cpu_quota() is not None:
        recorder.sampler = cgroup.throttled_periods
    return TracedModel(model, recorder, device, has_steps)


class TracedModel(DeviceModel):
    """Another device's model, whose requests record."""

    def __init__(self, model: DeviceModel, recorder: Recorder, device: str, has_steps: bool) -> None:
        self.model = model
        self.inputs, self.outputs, self.properties = model.inputs, model.outputs, model.properties
        self.recorder = recorder
        self.has_steps = has_steps
        self.group = len(recorder.groups)
        shapes = ", ".join(str(port.partial_shape) for port in model.inputs[:1])
        recorder.groups.append(f"{device}: {printable(model.properties['NETWORK_NAME'])} {shapes}")
        recorder.models += 1

    @property
    def live(self) -> frozenset[str]:  # type: ignore[override]
        return self.model.live

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return self.model.closed

    def create_request(self) -> DeviceRequest:
        request = self.model.create_request()
        return TracedRequest(self, request) if self.recorder.is_open else request

    def get_property(self, name: str) -> Any:
        return self.model.get_property(name)

    def set_property(self, values: Mapping[str, Any]) -> None:
        self.model.set_property(values)

    def explain(self, measure: bool = False) -> Explanation:
        return self.model.explain(measure)

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        return self.model.wait_until_optimized(timeout)

    def export(self) -> Exported:
        return self.model.export()

    def when_planned(self, function: Callable[[], None]) -> None:
        self.model.when_planned(function)

    def replace(self, graph: Graph) -> None:
        self.model.replace(graph)

    def release_memory(self) -> None:
        self.model.release_memory()

    def close(self) -> None:
        if not self.model.closed:
            self.recorder.models -= 1
        self.model.close()


class TracedRequest(ForwardingRequest):
    """A request that records each inference when its result is taken note of, or the next one starts."""

    def __init__(self, model: TracedModel, request: DeviceRequest) -> None:
        self.worker = request
        self.model = model
        self._recorder = model.recorder
        self._number = next(model.recorder.requests)
        self._running: dict[str, int] = {}

    def choose(self) -> DeviceRequest:
        return self.worker

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        return self.worker.input_array(index, shape)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self.worker.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        return self.worker.output_array(index)

    def set_output(self, index: int, array: np.ndarray) -> None:
        self.worker.set_output(index, array)

    def run(self) -> None:
        self._record()
        self._running["started"] = perf_counter_ns()
        error: BaseException | None = None
        try:
            self.worker.run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._record(error)
            del error  # its traceback refers to this frame

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        self._record()
        self._running["started"] = perf_counter_ns()
        return self.worker.start(terms, function and partial(self._call, function))

    def _call(self, function: Callable[[], None]) -> None:
        """Call what is to be called after an inference, and record when that was."""
        number = self._record(self.worker.result()[0])
        called = perf_counter_ns()
        function()
        if number:
            self._recorder.callbacks.append((number, this_thread(), called, perf_counter_ns()))

    def _record(self, error: BaseException | None = None) -> int:
        """Record the inference that is over, unless that was done; returns its number or 0."""
        started = self._running.pop("started", 0)
        recorder = self._recorder
        if not started or not recorder.is_open:
            return 0
        request, model = self.worker, self.model
        now = perf_counter_ns()
        taken, began, ended = request.moments() or (0, started, now)
        stream, first, steps = request.executed() if model.has_steps else ("", 0, ())
        number = next(recorder.numbers)
        if not started <= ended <= now:
            ended = now
        text = f"{type(error).__name__}: {error}" if error is not None else ""
        recorder.inferences.append(
            Inference(number, model.group, self._number, started, taken, began, ended, stream, first, steps, text)
        )
        recorder.sample(now)
        return number

    def result(self) -> tuple[BaseException | None, int]:
        found = self.worker.result()
        self._record(found[0])
        return found

    def any_completion(self, requests: Sequence[DeviceRequest]) -> AnyCompletion:
        return _AnyCompletion(self.worker.any_completion([_inner(one) for one in requests]))


class _AnyCompletion:
    """That of the requests behind."""

    def __init__(self, completion: AnyCompletion) -> None:
        self._completion = completion

    @property
    def count(self) -> int:
        return self._completion.count

    def wait(self, count: int, in_flight: Sequence[DeviceRequest] = (), timeout: float | None = None) -> None:
        self._completion.wait(count, [_inner(one) for one in in_flight], timeout)

    def wake(self) -> None:
        self._completion.wake()


def _inner(request: DeviceRequest) -> DeviceRequest:
    return request.worker if isinstance(request, TracedRequest) else request

"""Requests that own their tensors and lend the memory to requests of other devices, which run their inferences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import numpy as np

from cpuruntime.devices.completion import OVER, AnyCompletion, AnyNotified, OneInference
from cpuruntime.devices.composed.dispatcher import Dispatcher
from cpuruntime.devices.composed.members import Inference, Member, Worker
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.errors import CancelledError, Error, detached, runs_elsewhere
from cpuruntime.graph import Kind
from cpuruntime.host.memory import GrowingMemory
from cpuruntime.streams.call import Call

_NOT_BEGUN = CancelledError("The inference did not begin.")
_NONE: tuple[DeviceRequest | None, int] = None, -1
_SHORT = 20_000
"""Nanoseconds that an inference may take which is run where it is started: to hand it over takes longer."""


class VirtualRequest(BoundArrays, OneInference, DeviceRequest):
    """A request whose inferences a dispatcher's workers run, on its memory: nothing is copied.

    Results of dynamic shape are the exception: they are copied out of the worker's memory. Where there is one device
    only, the request's own on that device runs them all, without the dispatcher: `straight` is that request if it has
    the latest inference.
    """

    def __init__(
        self, dispatcher: Dispatcher, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo], profiled: bool
    ) -> None:
        self.taken: Worker | None = None
        self.latest: Member | None = None
        self._version = 0
        """Changes whenever other memory is bound."""
        self._requests: dict[Member, tuple[DeviceRequest, int]] = {}
        """Its own request on each device, and the version that it works on."""
        self._again: tuple[DeviceRequest | None, Callable[..., Any] | None] = None, None
        self._dispatcher = dispatcher
        self._profiled = profiled
        self._running: DeviceRequest | None = None
        self.straight: DeviceRequest | None = None
        self._moments: tuple[int, int, int] | None = None
        self._transferred = 0
        self._profiling: list[ProfilingInfo] = []
        is_static = [port.partial_shape.is_static and port.kind is Kind.TENSOR for port in outputs]
        self._static = [index for index, static in enumerate(is_static) if static]
        self._dynamic = [index for index, static in enumerate(is_static) if not static]
        self._results = [GrowingMemory() for _ in outputs]
        self.bind_own(inputs, outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        if self._inputs[index] is not array:
            self._inputs[index] = array
            self._version += 1

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._outputs[index] = array
        self._version += 1

    def output_array(self, index: int) -> np.ndarray:
        if self.straight is not None and index in self._dynamic:
            return self.straight.output_array(index)
        return super().output_array(index)

    def request_on(self, member: Member) -> DeviceRequest:
        """The own request on a device, with the memory of all inputs and of outputs of static shape bound to it."""
        request, version = self._requests.get(member) or (self._create_on(member), -1)
        if version != self._version:
            self._requests[member] = request, -1
            for index, array in enumerate(self.bound_inputs()):
                request.set_input(index, array)
            for index in self._static:
                request.set_output(index, self._outputs[index])
            self._requests[member] = request, self._version
        return request

    def _create_on(self, member: Member) -> DeviceRequest:
        for other in [one for one in self._requests if one.retired]:
            del self._requests[other]
        return member.model.create_request()

    def sole_request(self) -> DeviceRequest | None:
        """The own request on the sole device; None where there is none."""
        member = self._dispatcher.sole
        if member is None:
            return None
        if member not in self._requests:
            self._requests[member] = self._create_on(member), -1
        return self._requests[member][0]

    def _go_straight(self, run: Callable[[DeviceRequest], bool | None]) -> tuple[bool, bool | None]:
        """Have the sole device run an inference: whether there is one, and what `run` of the request there returns."""
        self.straight = None
        member = self._dispatcher.sole
        if member is None:
            return False, None
        try:
            request = self.request_on(member)
            self._dispatcher.count(member)
            self.straight = request
            return True, run(request)
        except Error:
            if self._dispatcher.sole is member:
                raise
        self.straight = None  # the device was removed at this moment
        return False, None

    def collect(self, worker: DeviceRequest) -> None:
        """Copy the results of dynamic shape from a worker, whose inference is over; and its times."""
        for index in self._dynamic:
            result = worker.output_array(index)
            if result.dtype.hasobject:
                self._outputs[index] = result.copy()
                continue
            if self._outputs[index].shape != result.shape:
                self._outputs[index] = self._results[index].array(result.shape, result.dtype)
            self._outputs[index][...] = result
        self._moments, self._transferred = worker.moments(), worker.transferred()
        if self._profiled:
            self._profiling = worker.profiling()

    def run(self) -> None:
        """Run one inference, on this thread where a worker is idle."""
        if self._dispatcher.sole is not None and self._go_straight(_run)[0]:
            return
        self.straight = None
        try:
            if self._run_here():
                return
        except Exception as error:
            member = self.latest
            if member is None or not runs_elsewhere(error) or not self._dispatcher.has_others(member):
                raise
        super().run()

    def _run_here(self, longest: float = math.inf) -> bool:
        """Run one inference on this thread by a worker that takes so many nanoseconds at most: whether there was one.

        Raises what the device raises.
        """
        self._recover()
        error: BaseException | None = _NOT_BEGUN
        try:
            self._dispatcher.take(self)
            worker = self.taken
            if worker is None or (worker.member.service or math.inf) > longest < math.inf:
                return False
            worker.bind(self)
            self._running = worker.request
            worker.request.run()
            self.collect(worker.request)
            error = None
            return True
        except BaseException as raised:
            error = raised
            raise detached(error) from error.__cause__  # the worker, which the model holds, has the error
        finally:
            self._running = None
            if self.taken is not None:
                try:
                    self._dispatcher.give_back(self, error)
                finally:
                    if self.taken is not None:  # an interrupt struck before
                        self._dispatcher.give_back(self, error)
            del error  # its traceback refers to this frame

    def _recover(self) -> None:
        """Give back what interrupts in a row have left."""
        if self.taken is not None:
            self._dispatcher.give_back(self, _NOT_BEGUN)

    def infer_again(self, call: Call) -> Callable[..., Any] | None:
        return partial(self._infer_again, call) if call.is_static and not (self._dynamic or self._profiled) else None

    def _infer_again(self, call: Call, *arguments: Any) -> Any:
        """What the device of the latest inference does again, if it is the one to be taken; None where it is not."""
        dispatcher = self._dispatcher
        if dispatcher.sole is not None:
            return self._infer_straight_again(call, arguments)
        member = self.latest
        request, version = self._requests.get(member, _NONE) if member is not None else _NONE
        if request is None or version != self._version:
            return None
        function = self._function_of(request, call)
        if function is None:
            return None
        self._recover()
        result = None
        error: BaseException | None = _NOT_BEGUN
        try:
            dispatcher.take(self)
            if self.taken is not None and self.taken.member is member:
                result = function(*arguments)
            if result is not None and result is not False:
                error = None
                self._inference, self.straight = OVER, None
                self._moments, self._transferred = request.moments(), 0
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self.taken is not None:
                try:
                    self._dispatcher.give_back(self, error)
                finally:
                    if self.taken is not None:  # an interrupt struck before
                        self._dispatcher.give_back(self, error)
            del error  # its traceback refers to this frame
        return result

    def _infer_straight_again(self, call: Call, arguments: Sequence[Any]) -> Any:
        """What the own request on the sole device does again."""
        member = self._dispatcher.sole
        request, version = self._requests.get(member, _NONE) if member is not None else _NONE
        if request is None or version != self._version:
            return None
        function = self._function_of(request, call)
        result = None if function is None else function(*arguments)
        if result is not None and result is not False:
            self.straight = request
            self._dispatcher.count(cast("Member", member))
        return result

    def _function_of(self, request: DeviceRequest, call: Call) -> Callable[..., Any] | None:
        owner, function = self._again
        if owner is not request or function is None:
            function = request.infer_again(call)
            self._again = request, function
        return function

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        self.straight = None
        if self._dispatcher.sole is not None:
            started, result = self._go_straight(lambda worker: worker.start(terms, function))
            if started:
                return result
        if function is None and terms is TERMS:
            with suppress(Exception):  # it is run again below, and ends with the error
                if self._run_here(_SHORT):
                    self._inference = OVER
                    return True
        inference = Inference(self, terms)
        if function is not None:
            inference.notify(function)
        self._inference = inference
        try:
            self._dispatcher.submit(inference)
        except Exception:
            self._inference = OVER
            raise
        return inference.is_over and inference.error is None

    @property
    def is_over(self) -> bool:
        if self.straight is not None:
            return self.straight.is_over
        inference = self._inference
        return inference.is_over or self._dispatcher.settle(cast("Inference", inference))

    def wait(self, timeout: float | None = None) -> bool:
        if self.straight is not None:
            return self.straight.wait(timeout)
        inference = self._inference
        return inference.is_over or self._dispatcher.wait(cast("Inference", inference), timeout)

    def result(self) -> tuple[BaseException | None, int]:
        if self.straight is not None:
            return self.straight.result()
        error, ended = super().result()
        if self._inference is OVER and self._moments is not None:  # it was run where it was started
            ended = self._moments[2]
        return None if error is None else detached(error), ended

    def notify(self, function: Callable[[], None]) -> None:
        if self.straight is not None:
            self.straight.notify(function)
            return
        inference = self._inference
        inference.notify(function)
        if not inference.is_over:
            self._dispatcher.watch(cast("Inference", inference))

    def any_completion(self, requests: Sequence[DeviceRequest]) -> AnyCompletion:
        return AnyOver(cast("Sequence[VirtualRequest]", requests))

    def cancel(self) -> bool:
        if self.straight is not None:
            return self.straight.cancel()
        running, inference = self._running, self._inference
        if running is not None:
            return running.cancel()
        return isinstance(inference, Inference) and self._dispatcher.cancel(inference)

    def moments(self) -> tuple[int, int, int] | None:
        return self._moments if self.straight is None else self.straight.moments()

    def transferred(self) -> int:
        return self._transferred if self.straight is None else self.straight.transferred()

    def profiling(self) -> list[ProfilingInfo]:
        return self._profiling if self.straight is None else self.straight.profiling()


def _run(worker: DeviceRequest) -> None:
    worker.run()


class AnyOver:
    """An AnyCompletion for requests: the sole device's own while that runs them, else by their `notify`."""

    def __init__(self, requests: Sequence[VirtualRequest]) -> None:
        self._notified = AnyNotified()
        workers = [worker for request in requests if (worker := request.sole_request()) is not None]
        self._workers = {id(worker): worker for worker in workers} if len(workers) == len(requests) else {}
        self._own = workers[0].any_completion(workers) if self._workers else AnyNotified()

    @property
    def count(self) -> int:
        return self._notified.count + self._own.count

    def wait(self, count: int, in_flight: Iterable[VirtualRequest] = (), timeout: float | None = None) -> None:
        requests = [*in_flight]
        if all(id(request.straight) in self._workers for request in requests):
            workers = [cast("DeviceRequest", request.straight) for request in requests]
            self._own.wait(count - self._notified.count, workers, timeout)
        else:
            self._notified.wait(count - self._own.count, requests, timeout)

    def wake(self) -> None:
        self._own.wake()
        self._notified.wake()

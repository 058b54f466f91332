"""Requests of a model under a latency target, and how requests that wait are coalesced into a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import cast

import numpy as np

from cpuruntime.devices.cpu.latency.admission import Ticket
from cpuruntime.devices.cpu.latency.batches import Batch, Batches
from cpuruntime.devices.cpu.latency.gate import BatchSize, Gate
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.forwarding import ForwardingRequest
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.errors import CancelledError
from cpuruntime.host.interrupts import uninterrupted
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream, Task


class LatencyTargetRequest(ForwardingRequest):
    """A request for each variant's model, all on the same memory; the gate's ticket names the variant that runs."""

    def __init__(self, gate: Gate, models: Sequence[CpuModel], batches: Sequence[Batches]) -> None:
        self._gate = gate
        self._variants = [
            CoalescingRequest(gate, model, own) if own.times else VariantRequest(gate, model)
            for model, own in zip(models, batches)
        ]
        self.worker: VariantRequest = self._variants[0]
        for index, info in enumerate(models[0].inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))
        if len(self._variants) > 1:
            for index in range(len(models[0].outputs)):
                self.set_output(index, self.output_array(index))

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        array = self._variants[0].input_array(index, shape)
        for request in self._variants[1:]:
            request.set_input(index, array)
        return array

    def set_input(self, index: int, array: np.ndarray) -> None:
        for request in self._variants:
            request.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        return self._variants[0].output_array(index)

    def set_output(self, index: int, array: np.ndarray) -> None:
        for request in self._variants:
            request.set_output(index, array)

    def run(self) -> None:
        error: BaseException | None = None
        try:
            self.choose().run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            worker = self.worker
            if worker.is_counted:
                try:
                    worker.end(error)
                finally:
                    if worker.is_counted:  # an interrupt struck before
                        worker.end(error)
            del error  # its traceback refers to this frame

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool:
        try:
            return self.choose().start(terms, function)
        except BaseException as error:
            # What a signal handler raised may have struck after it was queued.
            if not self.worker.is_in_flight:
                self.worker.end(error)
            raise

    @uninterrupted
    def choose(self) -> VariantRequest:
        ticket = self._gate.arrive()
        request = self.worker = self._variants[ticket.variant]
        request.ticket, request.is_counted = ticket, True
        return request


class VariantRequest(CpuRequest):
    """A request for one variant's model. The gate counts the inference of `ticket` while `is_counted`."""

    def __init__(self, gate: Gate, model: CpuModel) -> None:
        super().__init__(model.programs, model.executor)
        self._gate = gate
        self.ticket: Ticket | None = None
        self.is_counted = False

    def begin(self, stream: Stream) -> Job | None:
        """Start the inference, or refuse it now."""
        assert self.ticket is not None
        self._gate.begin(self.ticket, self._coalesce)
        job = self._begin_admitted(stream)
        self.whole = False
        return job

    def _begin_admitted(self, stream: Stream) -> Job | None:
        return super().begin(stream)

    def _coalesce(self, batch_size: BatchSize) -> Sequence[Ticket]:
        return ()

    def conclude(self, error: BaseException | None) -> BaseException | None:
        self.end(error)
        return error

    @uninterrupted
    def end(self, error: BaseException | None) -> None:
        """The inference is over; a second call does nothing."""
        if self.is_counted:
            assert self.ticket is not None
            self.is_counted = False
            self._gate.end(self.ticket, error, self.ended)


class CoalescingRequest(VariantRequest):
    """A request that runs one batch of itself and the requests that wait after it, or runs in the batch of another.

    Its deadline ends when it begins. A request that is cancelled in a batch ends with the batch and drops its results.
    """

    def __init__(self, gate: Gate, model: CpuModel, batches: Batches) -> None:
        super().__init__(gate, model)
        self._batches = batches
        self._batch: Batch | None = None
        self._others: list[CoalescingRequest] = []
        # Whether it began in a batch, and was cancelled since.
        self._is_coalesced = self._is_dropped = False

    def run(self) -> None:
        DeviceRequest.run(self)

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool:
        self._is_dropped = False
        self.control.deadline = terms.deadline
        return super().start(terms, function)

    def _begin_admitted(self, stream: Stream) -> Job | None:
        if not self._others:
            return super()._begin_admitted(stream)
        members = [self, *self._others]
        self.control.deadline = 0
        self._batch = self._batches.take(len(members))
        self._batch.gather(members)
        self._instance = None
        return self._batch.begin(stream)

    def _coalesce(self, batch_size: BatchSize) -> Sequence[Ticket]:
        """Called with the gate's lock held, which `cancel` takes, so a request cancelled before is in no batch."""

        def choose(tasks: Sequence[Task]) -> int:
            tickets = [self.ticket]
            for task in cast("Sequence[CoalescingRequest]", tasks):
                if task.control.is_cancelled or 0 < task.control.deadline <= now:
                    break
                tickets.append(task.ticket)
            return batch_size(cast("Sequence[Ticket]", tickets)) - 1

        self._others = []
        if not self.control.is_cancelled:
            now = perf_counter_ns()
            found = self._executor.coalesce(self._batches.most - 1, choose)
            self._others = cast("list[CoalescingRequest]", found)
        for member in (self, *self._others):
            member._is_coalesced = bool(self._others)
        return [cast("Ticket", other.ticket) for other in self._others]

    def cancel(self) -> bool:
        """End the inference at the next step, or its batch with the results dropped."""
        with self._gate.lock:
            if self._is_coalesced and not self.is_lost:
                self._is_dropped = True
                return True
            self.control.cancel()
        return super().cancel()

    def conclude(self, error: BaseException | None) -> BaseException | None:
        batch, self._batch = self._batch, None
        others, self._others = self._others, []
        if batch is not None:
            if error is None:
                batch.hand_out([self, *others])
            self._batches.give(batch)
        for other in others:
            other._instance = None
            other.control.began, other.control.ended = self.control.began, self.control.ended
            other.complete(error)
        self._is_coalesced = False
        if self._is_dropped and error is None:
            error = CancelledError("The inference was cancelled while it ran in a batch.")
        return super().conclude(error)

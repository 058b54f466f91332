"""Requests of a model under a latency target, and how those that wait are served together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter_ns
from typing import cast

import numpy as np

from cpuruntime.devices.cpu.latency.admission import Ticket
from cpuruntime.devices.cpu.latency.batches import Batch, Batches
from cpuruntime.devices.cpu.latency.gate import BatchSize, Gate
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Done, Terms
from cpuruntime.errors import CancelledError
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream, Task


class BoundedRequest(DeviceRequest):
    """A request of each setting's model, all on the same memory."""

    def __init__(self, gate: Gate, models: Sequence[CpuModel], batches: Sequence[Batches]) -> None:
        self._gate = gate
        self._parts = [
            Companion(gate, model, own) if own.times else Part(gate, model) for model, own in zip(models, batches)
        ]
        self._last = self._parts[0]
        for index, info in enumerate(models[0].inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))
        if len(self._parts) > 1:
            for index in range(len(models[0].outputs)):
                self.set_output(index, self.output_array(index))

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Memory of the request's own for an input, bound."""
        array = self._parts[0].input_array(index, shape)
        for part in self._parts[1:]:
            part.set_input(index, array)
        return array

    def set_input(self, index: int, array: np.ndarray) -> None:
        """Bind memory to an input."""
        for part in self._parts:
            part.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        """The memory bound to an output."""
        return self._parts[0].output_array(index)

    def set_output(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to an output."""
        for part in self._parts:
            part.set_output(index, array)

    def run(self) -> None:
        """Run one inference, unless it is refused."""
        part, ticket = self._admit()
        error: BaseException | None = None
        try:
            part.run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._gate.end(ticket, error, part.ended)
            del error

    def start(self, done: Done, terms: Terms = TERMS) -> None:
        """Queue one inference, unless it is refused."""
        part, ticket = self._admit()

        def over(error: BaseException | None) -> None:
            self._gate.end(ticket, error, part.ended)
            done(error)

        try:
            part.start(over, terms)
        except BaseException as error:
            # What a signal handler raised may have struck after it was queued.
            if not part.cancel():
                self._gate.end(ticket, error, part.ended)
            raise

    def _admit(self) -> tuple[Part, Ticket]:
        ticket = self._gate.arrive()
        part = self._last = self._parts[ticket.setting]
        part.ticket = ticket
        return part, ticket

    def cancel(self) -> bool:
        """End the inference at the next step."""
        return self._last.cancel()

    def moments(self) -> tuple[int, int, int]:
        """When the last inference was taken from the queue, began and ended."""
        return self._last.moments()

    def profiling(self) -> list[ProfilingInfo]:
        """A row for each step of the last inference."""
        return self._last.profiling()


class Part(CpuRequest):
    """The request of one setting; it tells when an inference begins."""

    def __init__(self, gate: Gate, model: CpuModel) -> None:
        super().__init__(model.programs, model.executor)
        self._gate = gate
        self.ticket: Ticket | None = None

    def begin(self, stream: Stream) -> Job | None:
        """Start the inference, or refuse it now."""
        assert self.ticket is not None
        self._gate.begin(self.ticket, self._take_along)
        return super().begin(stream)

    def _take_along(self, together: BatchSize) -> Sequence[Ticket]:
        return ()


class Companion(Part):
    """A request that runs those that wait after it as one batch, or is run in that of another one.

    Its deadline counts until it begins. Cancelled in a batch it ends with that, and its results are dropped.
    """

    def __init__(self, gate: Gate, model: CpuModel, batches: Batches) -> None:
        super().__init__(gate, model)
        self._batches = batches
        self._batch: Batch | None = None
        self._others: list[Companion] = []
        # Whether it began together with others, and was cancelled since.
        self._accompanied = self._dropped = False

    def run(self) -> None:
        """Run one inference, with others or alone."""
        outcome: list[BaseException | None] = []
        try:
            self.start(outcome.append)
            self.wait()
        except BaseException:
            # Further interrupts do not end the wait: what is in flight uses the request's memory.
            while not outcome and self.cancel():
                with suppress(BaseException):
                    self.wait()
            raise
        if outcome[0] is not None:
            raise outcome[0]

    def start(self, done: Done, terms: Terms = TERMS) -> None:
        """Queue one inference."""
        self._dropped = False
        self.control.deadline = terms.deadline
        super().start(done, terms)

    def begin(self, stream: Stream) -> Job | None:
        """Start the batch."""
        assert self.ticket is not None
        self._gate.begin(self.ticket, self._take_along)
        if not self._others:
            return CpuRequest.begin(self, stream)
        members = [self, *self._others]
        self.control.deadline = 0
        self._batch = self._batches.take(len(members))
        self._batch.gather(members)
        job = self._batch.begin(stream)
        self.whole = True
        return job

    def _take_along(self, together: BatchSize) -> Sequence[Ticket]:
        """Called under the model's lock, as `cancel` is: what is cancelled before has no others, nor is it one."""

        def choose(tasks: Sequence[Task]) -> int:
            tickets = [self.ticket]
            for task in cast("Sequence[Companion]", tasks):
                if task.control.is_cancelled or 0 < task.control.deadline <= now:
                    break
                tickets.append(task.ticket)
            return together(cast("Sequence[Ticket]", tickets)) - 1

        self._others = []
        if not self.control.is_cancelled:
            now = perf_counter_ns()
            found = self._executor.take_along(self._batches.most - 1, choose)
            self._others = cast("list[Companion]", found)
        for member in (self, *self._others):
            member._accompanied = bool(self._others)
        return [cast("Ticket", other.ticket) for other in self._others]

    def cancel(self) -> bool:
        """End the inference at the next step, or with its batch."""
        with self._gate.lock:
            if self._accompanied and not self.is_lost:
                self._dropped = True
                return True
            return super().cancel()

    def done(self, error: BaseException | None) -> None:
        """Tell the public request, and have the others of the batch told."""
        batch, self._batch = self._batch, None
        others, self._others = self._others, []
        if batch is not None:
            if error is None:
                batch.hand_out([self, *others])
            self._batches.give(batch)
        for other in others:
            other.whole = True
            other.control.began, other.control.ended = self.control.began, self.control.ended
            self._executor.tell(other, error)
        self._accompanied = False
        if self._dropped and error is None:
            error = CancelledError("The inference was cancelled while it ran in a batch.")
        super().done(error)

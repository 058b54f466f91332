"""Requests of a model under a latency target, and how those that wait are served together."""

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
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.errors import CancelledError
from cpuruntime.streams.job import Job
from cpuruntime.streams.task import Stream, Task


class BoundedRequest(DeviceRequest):
    """A request of each setting's model, all on the same memory."""

    def __init__(self, gate: Gate, models: Sequence[CpuModel], batches: Sequence[Batches]) -> None:
        self._gate = gate
        self._parts = [
            CoalescedPart(gate, model, own) if own.times else Part(gate, model) for model, own in zip(models, batches)
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
        self._admit().run()

    def start(self, terms: Terms = TERMS) -> None:
        """Queue one inference, unless it is refused."""
        self._admit().start(terms)

    def _admit(self) -> Part:
        ticket = self._gate.arrive()
        part = self._last = self._parts[ticket.variant]
        part.ticket, part.is_open = ticket, True
        return part

    @property
    def is_over(self) -> bool:
        """Whether the inference started last is over."""
        return self._last.is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the inference started last."""
        return self._last.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        """The error of the inference, and when it ended."""
        return self._last.result()

    def notify(self, function: Callable[[], None]) -> None:
        """Call a function once the inference is over."""
        self._last.notify(function)

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
    """The request of one setting; the model learns when an inference begins and ends.

    Attributes:
        ticket: of the inference started last.
        is_open: whether the model has yet to learn of its end.
    """

    def __init__(self, gate: Gate, model: CpuModel) -> None:
        super().__init__(model.programs, model.executor)
        self._gate = gate
        self.ticket: Ticket | None = None
        self.is_open = False

    def run(self) -> None:
        """Run one inference."""
        error: BaseException | None = None
        try:
            super().run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(error)
            del error

    def start(self, terms: Terms = TERMS) -> None:
        """Queue one inference."""
        try:
            super().start(terms)
        except BaseException as error:
            # What a signal handler raised may have struck after it was queued.
            if not self.is_in_flight:
                self._end(error)
            raise

    def begin(self, stream: Stream) -> Job | None:
        """Start the inference, or refuse it now."""
        assert self.ticket is not None
        self._gate.begin(self.ticket, self._coalesce)
        job = super().begin(stream)
        self.whole = False
        return job

    def _coalesce(self, together: BatchSize) -> Sequence[Ticket]:
        return ()

    def conclude(self, error: BaseException | None) -> BaseException | None:
        """The inference has ended."""
        self._end(error)
        return error

    def _end(self, error: BaseException | None) -> None:
        if self.is_open:
            assert self.ticket is not None
            self.is_open = False
            self._gate.end(self.ticket, error, self.ended)


class CoalescedPart(Part):
    """A request that runs those that wait after it as one batch, or is run in that of another one.

    Its deadline counts until it begins. Cancelled in a batch it ends with that, and its results are dropped.
    """

    def __init__(self, gate: Gate, model: CpuModel, batches: Batches) -> None:
        super().__init__(gate, model)
        self._batches = batches
        self._batch: Batch | None = None
        self._others: list[CoalescedPart] = []
        # Whether it began together with others, and was cancelled since.
        self._accompanied = self._dropped = False

    def run(self) -> None:
        """Run one inference, with others or alone."""
        DeviceRequest.run(self)

    def start(self, terms: Terms = TERMS) -> None:
        """Queue one inference."""
        self._dropped = False
        self.control.deadline = terms.deadline
        super().start(terms)

    def begin(self, stream: Stream) -> Job | None:
        """Start the batch."""
        assert self.ticket is not None
        self._gate.begin(self.ticket, self._coalesce)
        self.whole = False
        if not self._others:
            job = CpuRequest.begin(self, stream)
            self.whole = False
            return job
        members = [self, *self._others]
        self.control.deadline = 0
        self._batch = self._batches.take(len(members))
        self._batch.gather(members)
        self._instance = None
        return self._batch.begin(stream)

    def _coalesce(self, together: BatchSize) -> Sequence[Ticket]:
        """Called under the model's lock, as `cancel` is: what is cancelled before has no others, nor is it one."""

        def choose(tasks: Sequence[Task]) -> int:
            tickets = [self.ticket]
            for task in cast("Sequence[CoalescedPart]", tasks):
                if task.control.is_cancelled or 0 < task.control.deadline <= now:
                    break
                tickets.append(task.ticket)
            return together(cast("Sequence[Ticket]", tickets)) - 1

        self._others = []
        if not self.control.is_cancelled:
            now = perf_counter_ns()
            found = self._executor.coalesce(self._batches.most - 1, choose)
            self._others = cast("list[CoalescedPart]", found)
        for member in (self, *self._others):
            member._accompanied = bool(self._others)
        return [cast("Ticket", other.ticket) for other in self._others]

    def cancel(self) -> bool:
        """End the inference at the next step, or with its batch."""
        with self._gate.lock:
            if self._accompanied and not self.is_lost:
                self._dropped = True
                return True
            self.control.cancel()
        return super().cancel()

    def conclude(self, error: BaseException | None) -> BaseException | None:
        """The inference has ended, and so have the others of its batch."""
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
        self._accompanied = False
        if self._dropped and error is None:
            error = CancelledError("The inference was cancelled while it ran in a batch.")
        return super().conclude(error)

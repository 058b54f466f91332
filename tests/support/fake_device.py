"""A device whose inferences do what the test says, to make every state of a request reachable without timing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np

from cpuruntime.api.compiled_model import CompiledModel
from cpuruntime.api.infer_request import Shared
from cpuruntime.devices.completion import Completion
from cpuruntime.devices.explanation import Explanation, Row
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import CancelledError, Error
from cpuruntime.graph import PartialShape, Type
from cpuruntime.host.memory import aligned_zeros

PORT = PartialShape([1, 4])


class FakeRequest(DeviceRequest):
    """y = x, after `model.work()`."""

    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.source = self.own = aligned_zeros((1, 4), np.dtype(np.float32))
        self.target = aligned_zeros((1, 4), np.dtype(np.float32))
        self.cancelled = False
        self.completion = Completion()
        self.completion.announce()

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        self.source = self.own
        return self.own

    def set_input(self, index: int, array: np.ndarray) -> None:
        self.source = array

    def output_array(self, index: int) -> np.ndarray:
        return self.target

    def set_output(self, index: int, array: np.ndarray) -> None:
        self.target = array

    def run(self) -> None:
        self.model.work()
        if self.cancelled:
            self.cancelled = False
            raise CancelledError("The inference was cancelled.")
        self.target[...] = self.source

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> None:
        self.terms = terms
        if self.model.refusal is not None:
            raise self.model.refusal
        self.completion = Completion()
        if function is not None:
            self.completion.notify(function)
        self.model.jobs.put((self, self.completion))
        if self.model.interrupt is not None:
            raise self.model.interrupt

    @property
    def is_over(self) -> bool:
        return self.completion.is_over

    def wait(self, timeout: float | None = None) -> bool:
        return self.completion.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self.completion.error, self.completion.ended

    def notify(self, function: Callable[[], None]) -> None:
        self.completion.notify(function)

    def cancel(self) -> bool:
        self.cancelled = not self.is_over
        return self.cancelled


class FakeModel(DeviceModel):
    """Runs `work` in each inference, on one thread. `refusal` and `interrupt` are raised by `start`: before and after
    the inference was queued."""

    def __init__(self, work: Callable[[], object] = lambda: None) -> None:
        ports = [PortInfo("x", Type.f32, PORT)], [PortInfo("y", Type.f32, PORT)]
        super().__init__(*ports, {"NETWORK_NAME": "fake", "OPTIMAL_NUMBER_OF_INFER_REQUESTS": 3})
        self.work = work
        self.refusal: Exception | None = None
        self.interrupt: BaseException | None = None
        self.closed = threading.Event()
        self.jobs: queue.SimpleQueue[tuple[FakeRequest, Completion] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name="fake", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            request, completion = job
            error: BaseException | None = None
            try:
                request.run()
            except BaseException as raised:
                error = raised
            completion.complete(error)
            del job, request, completion, error

    def create_request(self) -> FakeRequest:
        if self.closed.is_set():
            raise Error("The model is closed.")
        return FakeRequest(self)

    def explain(self, measure: bool = False) -> Explanation:
        return Explanation("FAKE", [Row(("copy",), "Identity", "copy")], ["threads: one, enough for a test"])

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self.jobs.put(None)


def compile_fake(work: Callable[[], object] = lambda: None) -> tuple[CompiledModel, FakeModel]:
    """A compiled model on the fake device, and the device's side of it."""
    model = FakeModel(work)
    return CompiledModel(Shared(model, CompiledModel)), model


class Gate:
    """Holds inferences back: `Gate` as work stops each one until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Semaphore(0)

    def __call__(self) -> None:
        self.entered.release()
        assert self._open.acquire(timeout=30)

    def open(self, times: int = 1) -> None:
        """Let `times` inferences pass."""
        self._open.release(times)

    def wait_entered(self) -> None:
        """Wait until an inference has reached the gate."""
        assert self.entered.acquire(timeout=30)

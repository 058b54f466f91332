"""Requests that have others run their inferences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.trace.events import Steps


class ForwardingRequest(DeviceRequest):
    """A request whose inferences other requests run, on the memory that is bound to all of them.

    `worker` runs the latest inference, or will run the first.
    """

    worker: DeviceRequest

    @abstractmethod
    def choose(self) -> DeviceRequest:
        """Makes the request that is to run the next inference the `worker`, with the memory bound to it."""

    def run(self) -> None:
        self.choose().run()

    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        return self.choose().start(terms, function)

    @property
    def is_over(self) -> bool:
        return self.worker.is_over

    def wait(self, timeout: float | None = None) -> bool:
        return self.worker.wait(timeout)

    def result(self) -> tuple[BaseException | None, int]:
        return self.worker.result()

    def notify(self, function: Callable[[], None]) -> None:
        self.worker.notify(function)

    def cancel(self) -> bool:
        return self.worker.cancel()

    def moments(self) -> tuple[int, int, int] | None:
        return self.worker.moments()

    def transferred(self) -> int:
        return self.worker.transferred()

    def profiling(self) -> list[ProfilingInfo]:
        return self.worker.profiling()

    def executed(self) -> tuple[str, int, Steps]:
        return self.worker.executed()

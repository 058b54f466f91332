"""The dispatcher of MULTI and AUTO, with news that come early, late or twice."""

from __future__ import annotations

from collections.abc import Callable

from cpuruntime.devices.composed.dispatcher import Dispatcher
from cpuruntime.devices.composed.members import Inference, Member
from cpuruntime.devices.interface import TERMS, Terms
from cpuruntime.errors import DeviceUnavailableError


class Lender:
    """A request without memory."""

    def __init__(self) -> None:
        self.worker = Worker()

    def request_on(self, member: Member) -> Worker:
        return self.worker

    def collect(self, worker: object) -> None:
        pass


class Worker:
    """A device's request; `asked` is called when somebody asks whether its inference is over, which it is."""

    def __init__(self) -> None:
        self.starts = 0
        self.asked: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    def start(self, terms: Terms, function: Callable[[], None] | None) -> bool:
        self.starts += 1
        if function is not None:
            function()
        return False

    @property
    def is_over(self) -> bool:
        asked, self.asked = self.asked, lambda: None
        asked()
        return True

    def result(self) -> tuple[Exception | None, int]:
        return self.error, 0


class Model:
    """A device's model."""

    def create_request(self) -> Worker:
        return Worker()


def members(count: int) -> list[Member]:
    return [Member(str(number), Model(), 1, {}) for number in range(count)]  # type: ignore[arg-type]


def test_an_inference_that_is_over_before_its_start_returns_leaves_the_worker_idle() -> None:
    (member,) = members(1)
    dispatcher = Dispatcher("net", [member], lambda members, waiting, now: (member, 0) if member.idle else None)
    inference = Inference(Lender(), TERMS)
    inference.notify(lambda: None)
    dispatcher.submit(inference)
    assert inference.is_over
    assert inference.error is None
    (worker,) = member.idle
    assert not worker.started  # else what it runs next would seem to be over when it has not begun


def test_news_of_an_inference_that_runs_again_meanwhile_are_ignored() -> None:
    first, second = members(2)
    dispatcher = Dispatcher("net", [first, second], lambda members, waiting, now: (first, 0) if first.idle else None)
    lender = Lender()
    device = lender.worker
    device.error = DeviceUnavailableError("It is gone.")
    inference = Inference(lender, TERMS)
    dispatcher.submit(inference)
    learnt: list[bool] = []
    device.asked = lambda: learnt.append(dispatcher.settle(inference))  # as another thread that is faster
    assert not dispatcher.settle(inference)
    assert learnt == [False]
    assert device.starts == 2
    device.error = None
    assert dispatcher.settle(inference)
    assert inference.error is None

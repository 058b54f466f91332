"""Events of a timeline, and the rings that hold the latest of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

MOST_INFERENCES, MOST_EVENTS = 20_000, 20_000
"""Inferences, and other events, that a timeline has at most: the latest ones."""


class StepLabel(NamedTuple):
    """A step: its node, operator and kernel, and the floating-point operations of one inference, 0 where unknown."""

    name: str
    operator: str
    kernel: str
    flops: int = 0


class Times(Protocol):
    """Nanoseconds that steps took; what computes them when somebody looks takes less of the inference's time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[int]: ...


@runtime_checkable
class SharedTimes(Times, Protocol):
    """Those of steps that threads may share."""

    def shares(self) -> list[list[int]]:
        """Of each step the nanoseconds of each thread's share; none where one thread ran the step alone."""


Steps = Sequence[tuple[Sequence[StepLabel], Times]]
"""Steps in the order they ran, and the nanoseconds that each took."""


class Inference(NamedTuple):
    """An inference that is over; moments are nanoseconds on the clock of perf_counter_ns, 0 for those that never came.

    Attributes:
        group: the index of its model among `Rings.groups`.
        request: the number of its request among those of the recorder.
        stream: what ran it, with its processors; empty where the device does not know.
        first: when its first step began; 0 where that is not known.
        error: empty where it succeeded.
    """

    number: int
    group: int
    request: int
    started: int
    taken: int
    began: int
    ended: int
    stream: str
    first: int
    steps: Steps
    error: str


class Event(NamedTuple):
    """Something else: a span of `duration` nanoseconds in a thread, or a moment, of which the duration is -1."""

    name: str
    began: int
    duration: int
    thread: tuple[int, str]
    facts: dict[str, Any]


class Rings:
    """The latest events since the moment `began`.

    Attributes:
        groups: the names of the models.
        callbacks: (number of the inference, thread, when it was called, when it returned).
        throttled: (moment, how often the quota has stopped the process).
    """

    def __init__(self, began: int) -> None:
        self.began = began
        self.groups: list[str] = []
        self.inferences: deque[Inference] = deque(maxlen=MOST_INFERENCES)
        self.callbacks: deque[tuple[int, tuple[int, str], int, int]] = deque(maxlen=MOST_INFERENCES)
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.throttled: deque[tuple[int, int]] = deque(maxlen=MOST_EVENTS)

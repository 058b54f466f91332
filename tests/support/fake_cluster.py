"""A Ray cluster whose replicas answer what the test says: the calls of `devices/ray/cluster.py`, without Ray."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cpuruntime.devices.interface import TERMS, Terms
from cpuruntime.devices.ray.links import Load, Wish
from cpuruntime.devices.ray.loop import Inference, Loop
from cpuruntime.devices.ray.scaling import NodeState
from cpuruntime.devices.ray.schedule import Scheduler
from cpuruntime.errors import DeviceUnavailableError

SILENCE = "silence"


class Lost(Exception):
    """A replica's process ended."""


class Dead(Lost):
    """It will not come back."""


@dataclass(eq=False)
class FakeActor:
    """A replica, on a node."""

    node: str
    cpus: int
    threads: int
    name: str = ""
    killed: bool = False


@dataclass(eq=False)
class FakeCall:
    """A call that was made; the test answers it."""

    actor: FakeActor
    method: str
    arguments: tuple[Any, ...]
    answer: Callable[[Any, BaseException | None], None]


def facts(streams: int = 1) -> dict[str, Any]:
    """What a replica says of a model it has loaded."""
    properties = {"OPTIMAL_NUMBER_OF_INFER_REQUESTS": streams}
    return {"pid": 1, "machine": "", "cores": {0}, "properties": properties, "rows": [], "decisions": []}


class FakeCluster:
    """Nodes with CPUs. Calls of `infer` go to the queue `calls`.

    Those of `load` are answered with `loads(actor, arguments)`, and those of `ping` with `pings(actor)`, which may be
    an error, or SILENCE for no answer.
    """

    def __init__(self, *cpus: int) -> None:
        self.states = [NodeState(f"node{index}", number, number) for index, number in enumerate(cpus)]
        self.actors: list[FakeActor] = []
        self.calls: queue.SimpleQueue[FakeCall] = queue.SimpleQueue()
        self.cancelled: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.loads: Callable[[FakeActor, tuple[Any, ...]], Any] = lambda actor, arguments: facts()
        self.pings: Callable[[FakeActor], Any] = lambda actor: facts()["pid"]
        self.refusal: Exception | None = None
        self.has_left = False
        self.service = ""
        self.existing: list[tuple[str, str, int]] = []
        self.left: list[str] = []

    def check(self) -> None:
        if self.has_left:
            raise DeviceUnavailableError("left")

    def nodes(self) -> list[NodeState]:
        self.check()
        return self.states

    def put(self, value: Any) -> list[Any]:
        return [value]

    def named(self) -> list[tuple[str, str, int]]:
        return self.existing

    def start(self, kind: type, node: str, cpus: int, threads: int, name: str = "") -> FakeActor:
        self.actors.append(FakeActor(node, cpus, threads, name))
        return self.actors[-1]

    def call(self, actor: FakeActor, method: str, arguments: Any, done: Any, group: str = "") -> None:
        if method in ("load", "ping"):
            found = self.loads(actor, arguments) if method == "load" else self.pings(actor)
            if found is not SILENCE:
                done(None, found) if isinstance(found, Lost) else done(found, None)
            return
        if method == "share":
            done(1, None)
            return
        if method == "leave":
            self.left.append(actor.name)
            return
        if method == "cancel":
            self.cancelled.put(arguments)
            return
        if self.refusal is not None:
            raise self.refusal
        self.calls.put(FakeCall(actor, method, arguments, done))

    def kill(self, actor: FakeActor) -> None:
        actor.killed = True

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, Lost)

    def is_dead(self, error: BaseException) -> bool:
        return isinstance(error, Dead)


Make = Callable[..., tuple[FakeCluster, Loop]]


@pytest.fixture
def make() -> Iterator[Make]:
    """A cluster of nodes with so many CPUs each, and the loop of a model on it, which settles."""
    loops: list[Loop] = []

    def made(
        *cpus: int, wish: Wish | None = None, cluster: FakeCluster | None = None, settles: bool = True, **options: Any
    ) -> Any:
        cluster = cluster or FakeCluster(*cpus)
        load = Load(b"", "CPU", {}, ["graph"], "graph")
        loop = Loop("model", cluster, Scheduler(**options), wish or Wish(cpus=1), load)  # type: ignore[arg-type]
        loops.append(loop)
        assert not settles or loop.settled.wait(100)
        return cluster, loop

    yield made
    for loop in loops:
        loop.close()


def start(loop: Loop, terms: Terms = TERMS) -> tuple[Inference, list[Any]]:
    """An inference that was submitted, and the list that its results are added to."""
    results: list[Any] = []
    inference = Inference([np.zeros(1)], terms, results.append, time.perf_counter_ns())
    loop.submit(inference)
    return inference, results


def answer(call: FakeCall, error: Exception | None = None) -> None:
    """Answer a call: each request with its number in the call, or with an error."""
    sent = call.arguments[1]
    call.answer(([(error, [index], 1000, []) for index in range(len(sent))], 2000), None)


def next_call(cluster: FakeCluster) -> FakeCall:
    """The next call that is made."""
    return cluster.calls.get(timeout=100)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)

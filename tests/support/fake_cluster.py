"""A Ray cluster whose replicas answer what the test says: the calls of `devices/ray/cluster.py`, without Ray."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cpuruntime.devices.ray.scaling import NodeState


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
    return {"pid": 1, "properties": {"OPTIMAL_NUMBER_OF_INFER_REQUESTS": streams}, "rows": [], "decisions": []}


class FakeCluster:
    """Nodes with CPUs. Calls of `load` are answered with `loads(actor)`, others go to the queue `calls`."""

    def __init__(self, *cpus: int) -> None:
        self.states = [NodeState(f"node{index}", number, number) for index, number in enumerate(cpus)]
        self.actors: list[FakeActor] = []
        self.calls: queue.SimpleQueue[FakeCall] = queue.SimpleQueue()
        self.cancelled: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.loads: Callable[[FakeActor, tuple[Any, ...]], Any] = lambda actor, arguments: facts()
        self.refusal: Exception | None = None
        self.service = ""
        self.existing: list[tuple[str, str, int]] = []
        self.left: list[str] = []

    def nodes(self) -> list[NodeState]:
        return self.states

    def put(self, value: Any) -> list[Any]:
        return [value]

    def named(self) -> list[tuple[str, str, int]]:
        return self.existing

    def start(self, kind: type, node: str, cpus: int, threads: int, name: str = "") -> FakeActor:
        self.actors.append(FakeActor(node, cpus, threads, name))
        return self.actors[-1]

    def call(self, actor: FakeActor, method: str, arguments: Any, done: Any, control: bool = False) -> None:
        if method == "load":
            found = self.loads(actor, arguments)
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

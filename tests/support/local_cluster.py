"""A cluster in this process: nodes with replicas on threads, and arguments and results that travel as pickles."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from cpuruntime.devices.interface import DeviceHost, DeviceModel
from cpuruntime.devices.ray import plugin
from cpuruntime.devices.ray.cluster import GROUPS
from cpuruntime.devices.ray.scaling import NodeState


class ReplicaLost(Exception):
    """The replica was killed."""


class Actor:
    """A replica, whose calls run on threads of its own, and the models that it has compiled."""

    def __init__(self, kind: type, cpus: int, threads: int) -> None:
        self.cpus = cpus
        self.replica = kind()
        self.models: list[DeviceModel] = []
        self.calls = ThreadPoolExecutor(threads, "local-replica")
        self.control = ThreadPoolExecutor(sum(GROUPS.values()), "local-control")
        self.is_killed = False


class Compiling:
    """A host that notes what it compiles for an actor, whose end closes it."""

    def __init__(self, host: DeviceHost, actor: Actor) -> None:
        self._host, self._actor = host, actor

    def get_property(self, device: str, name: str) -> Any:
        return self._host.get_property(device, name)

    def compile(self, graph: Any, device: str, config: Mapping[str, Any]) -> DeviceModel:
        model = self._host.compile(graph, device, config)
        self._actor.models.append(model)
        return model


hosts: dict[int, Compiling] = {}


class LocalCluster:
    """Three nodes with 8 CPUs each, by the calls of `devices/ray/cluster.py`."""

    service = ""

    def __init__(self, *arguments: Any) -> None:
        self._actors: list[tuple[str, Actor]] = []

    def nodes(self) -> list[NodeState]:
        used = {name: sum(a.cpus for node, a in self._actors if node == name and not a.is_killed) for name in "abc"}
        return [NodeState(name, 8, 8 - cpus, False) for name, cpus in used.items()]

    def put(self, value: Any) -> list[Any]:
        return [_travelled(value)]

    def named(self) -> list[tuple[str, str, int]]:
        return []

    def start(self, kind: type, node: str, cpus: int, threads: int, name: str = "") -> Actor:
        actor = Actor(kind, cpus, threads)
        self._actors.append((node, actor))
        return actor

    def call(self, actor: Actor, method: str, arguments: Any, done: Any, group: str = "") -> None:
        if method == "load":
            version, host, *others = arguments
            hosts[id(actor)] = Compiling(pickle.loads(host), actor)
            arguments = version, pickle.dumps(_HostOf(id(actor))), *others
        else:
            arguments = _travelled(arguments)
        pool = actor.control if group else actor.calls
        future = pool.submit(lambda: _travelled(getattr(actor.replica, method)(*arguments)))
        future.add_done_callback(partial(_over, done))

    def kill(self, actor: Actor) -> None:
        actor.is_killed = True
        for pool in (actor.calls, actor.control):
            pool.shutdown(wait=False, cancel_futures=True)
        for model in actor.models:
            model.close()
        hosts.pop(id(actor), None)

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, ReplicaLost)

    is_dead = is_loss


class _HostOf:
    """Its pickle is the host of an actor."""

    def __init__(self, actor: int) -> None:
        self._actor = actor

    def __reduce__(self) -> Any:
        return host_of, (self._actor,)


def host_of(actor: int) -> Compiling:
    """The host of an actor, by number."""
    return hosts[actor]


def _travelled(value: Any) -> Any:
    """What arrives of a value: arrays in memory that nobody writes to."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytes(buffer) for buffer in buffers])


def _over(done: Any, future: Any) -> None:
    if future.cancelled():
        done(None, ReplicaLost("It was killed."))
    else:
        error = future.exception()
        done(None if error else future.result(), error)


def install(patch: pytest.MonkeyPatch) -> None:
    """Have device RAY use local clusters, one for each model."""
    ray = ModuleType("ray")
    ray.get = lambda reference: reference  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "ray", ray)
    patch.setattr(plugin, "Cluster", LocalCluster)
    patch.setattr(plugin, "unavailable_reason", lambda address: None)

"""The RAY device: a model compiled on nodes of a Ray cluster by the devices there."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np

from cpuruntime.devices import names
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.ray.cluster import Cluster, unavailable_reason
from cpuruntime.devices.ray.links import Load, Wish
from cpuruntime.devices.ray.loop import Loop
from cpuruntime.devices.ray.model import RayModel
from cpuruntime.devices.ray.schedule import Scheduler
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.graph import Graph, settle
from cpuruntime.properties import Property, Settings, of_device

_HERE = ("LATENCY_TARGET_MS", "LATENCY_PERCENTILE", "TRACE", "DEVICE_ID", "CPU_INSTANCES")
"""Properties that have their effect in this process, not in replicas."""


class RayPlugin(Plugin):
    """Has its own properties and those of the CPU device, which go to the replicas."""

    is_automatic = False

    def unavailable_reason(self) -> str | None:
        return unavailable_reason(self._settings.value("RAY_ADDRESS"))

    def properties(self) -> dict[str, Property]:
        remote = {name: one for name, one in of_device("CPU").items() if one.writable}
        return {**remote, **of_device("RAY")}

    def fact(self, name: str) -> Any:
        return "Ray cluster" if name == "FULL_DEVICE_NAME" else super().fact(name)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        device = settings.value("REMOTE_DEVICE")
        if "RAY" in names.called(device):
            raise InvalidArgumentError(f"REMOTE_DEVICE is {device!r}: device RAY cannot run RAY within itself.")
        wish = Wish(
            settings.value("NUM_REPLICAS"), settings.value("MIN_REPLICAS"), settings.value("MAX_REPLICAS"),
            settings.value("CPUS_PER_REPLICA"), settings.value("MAX_ONGOING_REQUESTS"),
        )  # fmt: skip
        address, namespace, environment = (
            settings.value(name) for name in ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_RUNTIME_ENV")
        )
        service = settings.value("RAY_SERVICE")
        if "/" in service:
            raise InvalidArgumentError(f"RAY_SERVICE is {service!r:.60}; the name of a service has no slash.")
        cluster = Cluster(address, namespace, environment, service)
        client = uuid4().hex if service else ""
        host = pickle.dumps(self.host)
        config = remote_config(settings)

        def load(graph: Graph) -> Load:
            graph = graph.clone()
            settle(graph)
            return Load(host, device, config, cluster.put(graph), digest_of(graph) if service else uuid4().hex, client)

        target = int(settings.value("LATENCY_TARGET_MS") * 1e6)
        queued = settings.value("MAX_QUEUED_REQUESTS")
        scheduler = Scheduler(settings.value("REQUESTS_PER_CALL"), queued, target)
        loop = Loop(graph.name, cluster, scheduler, wish, load(graph))
        return RayModel(graph, settings, cluster, load, loop)


def digest_of(graph: Graph) -> str:
    """A number of a graph's nodes and constants, the same in all processes."""
    digest = sha256(str(graph).encode())
    for value in graph.constants():
        digest.update(np.ascontiguousarray(value.data).data if value.data.dtype != object else str(value.data).encode())
    return digest.hexdigest()


def remote_config(settings: Mapping[str, Any]) -> dict[str, str]:
    """What the replicas' device is to be configured with, as text, which any version understands."""
    known = of_device("CPU")
    return {
        name: known[name].values.text(value)
        for name, value in settings.items()
        if name in known and name not in _HERE and name not in of_device("RAY").keys() - of_device("CPU").keys()
    }

"""A model on a Ray cluster: replicas, their requests, and the cluster. The names are Ray's and Ray Serve's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cpuruntime.properties.declaration import Group, Integer, Property, Text, Values


class Environment(Values):
    """A runtime environment of Ray."""

    rule = "a dict as Ray's runtime_env, or that as JSON"

    def parse(self, value: Any) -> dict[str, Any]:
        value = json.loads(value) if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            raise ValueError(value)
        return dict(value)

    def text(self, value: Any) -> str:
        return json.dumps(value)


def _property(name: str, values: Values, default: Any, doc: str) -> Property:
    return Property(name, values, default, group=Group.COMPOSED, devices=("RAY",), doc=doc)


num_replicas = _property(
    "NUM_REPLICAS", Integer(1, {"AUTO": 0}), 0,
    "How many replicas of the model the cluster runs. AUTO: one on each node that has the CPUs, as nodes come and go.",
)  # fmt: skip
min_replicas = _property(
    "MIN_REPLICAS", Integer(1), 1, "The fewest replicas, where MAX_REPLICAS lets their number follow the load."
)
max_replicas = _property(
    "MAX_REPLICAS", Integer(0), 0,
    "The most replicas: their number follows what waits and runs. 0: it stays that of NUM_REPLICAS.",
)  # fmt: skip
cpus_per_replica = _property(
    "CPUS_PER_REPLICA", Integer(1, {"AUTO": 0}), 0,
    "How many CPUs Ray reserves for a replica, which are its threads. AUTO: those of the node that are free.",
)  # fmt: skip
max_ongoing_requests = _property(
    "MAX_ONGOING_REQUESTS", Integer(1, {"AUTO": 0}), 0,
    "How many calls a replica has at a time at most; a call has several requests if they are short. "
    "AUTO: twice as many as it has streams.",
)  # fmt: skip
max_queued_requests = _property(
    "MAX_QUEUED_REQUESTS", Integer(0, {"UNLIMITED": -1}), -1,
    "How many requests may wait for a replica; further ones are refused with OverloadedError.",
)  # fmt: skip
requests_per_call = _property(
    "REQUESTS_PER_CALL", Integer(1, {"AUTO": 0}, maximum=1024), 0,
    "How many requests travel in one call at most. AUTO: 16 if they take less than 5 ms each, else 1.",
)  # fmt: skip
remote_device = _property(
    "REMOTE_DEVICE", Text(), "CPU", "The device that each replica compiles the model for, on its node."
)
ray_address = _property(
    "RAY_ADDRESS", Text(), "",
    "The cluster: HOST:PORT of its head, or auto for the one on this machine. Empty: the one that the process is "
    "connected to, else that of Ray's variable RAY_ADDRESS. No cluster is ever started.",
)  # fmt: skip
ray_namespace = _property("RAY_NAMESPACE", Text(), "", "Ray's namespace, for the names of services. Empty: cpuruntime.")
ray_service = _property(
    "RAY_SERVICE", Text(), "",
    "A name under which processes that compile the same model share its replicas, fairly. They end with the last of "
    "these processes. Empty: the replicas are this compiled model's own.",
)  # fmt: skip
ray_runtime_env = _property(
    "RAY_RUNTIME_ENV", Environment(), {}, "Ray's runtime environment of the replicas; nodes need cpuruntime installed."
)

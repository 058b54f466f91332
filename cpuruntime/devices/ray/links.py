"""What a user wishes of a model's replicas, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cpuruntime.devices.ray.health import Pulse


@dataclass
class Wish:
    """What the user wants of the replicas, as the properties say; 0 stands for AUTO."""

    number: int = 0
    least: int = 1
    most: int = 0
    cpus: int = 0
    ongoing: int = 0


@dataclass
class Load:
    """What a replica needs to have the model: arguments of `Replica.load` after the version.

    `digest` identifies the model, and `client` this process, which is empty where replicas are not shared.
    """

    host: bytes
    device: str
    config: dict[str, Any]
    graph: list[Any]
    digest: str
    client: str = ""


@dataclass(eq=False)
class Link:
    """A replica of the fleet.

    Attributes:
        state: "loading", "ready", "leaving" (it finishes what it has), "reloading" (likewise, and then takes another
            model), "failed" (it is asked again after a pause).
        turn: how often it was asked to load the model; `asked`: when it was last.
    """

    key: int
    node: str
    cpus: int
    actor: Any
    name: str = ""
    state: str = "loading"
    facts: dict[str, Any] = field(default_factory=dict)
    pulse: Pulse = field(default_factory=Pulse)
    turn: int = 0
    asked: int = 0


@dataclass
class Trouble:
    """Failures in a row of a node's replicas: the last one, how many, how many of them ended them while they loaded.

    None is started there before `until`.
    """

    error: BaseException
    failures: int = 0
    deaths: int = 0
    until: int = 0

"""The replicas of a model: where they are, how they come and go, and what is done when one fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from time import perf_counter_ns
from typing import Any

from cpuruntime.devices.ray.cluster import Cluster
from cpuruntime.devices.ray.replica import Replica
from cpuruntime.devices.ray.scaling import Autoscaler, NodeState, placements
from cpuruntime.devices.ray.schedule import Scheduler, pause
from cpuruntime.errors import Error
from cpuruntime.version import __version__

log = logging.getLogger("cpuruntime")

Post = Callable[[Callable[[], None]], None]
Later = Callable[[int, Callable[[], None]], None]


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

    `digest` is that of the model, `client` the name of this process, both empty where replicas are not shared.
    """

    host: bytes
    device: str
    config: dict[str, Any]
    graph: list[Any]
    digest: str = ""
    client: str = ""


@dataclass(eq=False)
class Link:
    """A replica of the fleet.

    Attributes:
        state: "loading", "ready", "leaving" (it finishes what it has), "reloading" (likewise, and then takes another
            model), "failed" (it is asked again after a pause).
    """

    key: int
    node: str
    cpus: int
    actor: Any
    name: str = ""
    state: str = "loading"
    facts: dict[str, Any] = field(default_factory=dict)
    failures: int = 0


@dataclass
class Rolling:
    """A change of the model, replica by replica: those that still have the old one, and what to call at the end."""

    old: Load
    left: deque[Link]
    done: Callable[[Error | None], None]
    current: Link | None = None


class Fleet:
    """Keeps as many replicas as are wished, on nodes as they come and go. Its methods run on one thread.

    Args:
        post: has a function called on that thread; from any thread.
        later: has one called there at a time on the clock of perf_counter_ns.
    """

    def __init__(
        self, cluster: Cluster, scheduler: Scheduler, wish: Wish, load: Load, post: Post, later: Later
    ) -> None:
        self.cluster, self.scheduler, self.wish, self.load = cluster, scheduler, wish, load
        self.links: dict[int, Link] = {}
        self.refusals: dict[str, Error] = {}
        """Why a node's replica cannot have the model."""
        self.events = 0
        """How many replicas failed or left with their nodes."""
        self.scaler: Autoscaler | None = None
        self._nodes: list[NodeState] = []
        self._post, self._later = post, later
        self._keys = count()
        self._rolling: Rolling | None = None
        self._closed = False

    @property
    def is_settled(self) -> bool:
        """Whether each replica has the model, or cannot."""
        return bool(self.links or self.refusals) and not any(one.state == "loading" for one in self.links.values())

    @property
    def ready(self) -> list[Link]:
        """The replicas that serve."""
        return [link for link in self.links.values() if link.state == "ready"]

    @property
    def facts(self) -> dict[str, Any]:
        """What a replica said of the model."""
        return next((link.facts for link in [*self.links.values()] if link.facts), {})

    def update(self, nodes: list[NodeState], shared: Sequence[tuple[str, str, int]] = ()) -> None:
        """The nodes as they are now, and the replicas that processes share: start replicas and let them go."""
        if self._closed:
            return
        known = {link.name for link in self.links.values()}
        for name, node, cpus in shared:
            if name not in known and node not in self.refusals:
                self._start(node, cpus, name)
        self._nodes = nodes
        alive = {node.id: node for node in nodes}
        for link in [*self.links.values()]:
            if link.node not in alive:
                log.warning("a node of the Ray cluster is gone, with a replica")
                self._drop(link)
                self.events += 1
            elif alive[link.node].is_draining and link.state == "ready":
                self._leave(link)
        wanted = self._wanted()
        staying = [link for link in self.links.values() if link.state != "leaving"]
        for link in staying[wanted:] if wanted else ():
            self._leave(link)
        usable = [node for node in nodes if node.id not in self.refusals]
        occupied = [link.node for link in self.links.values()]
        for node, cpus in placements(usable, occupied, wanted, self.wish.cpus):
            service = self.cluster.service
            number = sum(link.node == node for link in self.links.values())
            self._start(node, cpus, f"{service}/{node}/{cpus}/{number}" if service else "")
        if self.cluster.service:
            self._share()

    def _wanted(self) -> int:
        """How many replicas there are to be; 0: one on each node."""
        wish = self.wish
        if not wish.most:
            return wish.number
        if self.scaler is None:
            ready = self.ready
            if not ready:
                return wish.least
            self.scaler = Autoscaler(wish.least, wish.most, self.scheduler.replicas[ready[0].key].limit)
        requests = self.scheduler.waiting + self.scheduler.ongoing
        return self.scaler.update(requests, perf_counter_ns())

    def _share(self) -> None:
        """Say to replicas that are shared that this process is there, and what it has for each; they say how much."""
        ready = self.ready
        demand = -(-(self.scheduler.waiting + self.scheduler.on_way) // max(1, len(ready)))
        for link in ready:
            arguments = self.load.client, demand, self._slots(link)
            done = partial(self._shared, link)
            self.cluster.call(link.actor, "share", arguments, done, control=True)

    def _shared(self, link: Link, share: Any, error: BaseException | None) -> None:
        """On a thread of Ray's."""
        if error is None:
            self._post(partial(self._limit, link, share))

    def _limit(self, link: Link, share: int) -> None:
        if link.key in self.scheduler.replicas:
            self.scheduler.limit(link.key, share)

    def _slots(self, link: Link) -> int:
        """How many calls a replica takes at a time."""
        streams = max(1, int(link.facts["properties"]["OPTIMAL_NUMBER_OF_INFER_REQUESTS"]))
        return self.wish.ongoing or min(2 * streams, 2 * link.cpus)

    def _start(self, node: str, cpus: int, name: str) -> None:
        actor = self.cluster.start(Replica, node, cpus, self.wish.ongoing or 2 * cpus, name)
        link = Link(next(self._keys), node, cpus, actor, name)
        self.links[link.key] = link
        self._ask(link)

    def _ask(self, link: Link) -> None:
        """Have a replica load the model."""
        if link.key not in self.links or self._closed:
            return
        link.state = "loading"
        load = self.load
        config = {"INFERENCE_NUM_THREADS": link.cpus, **load.config}
        arguments = (__version__, load.host, load.device, config, load.graph, load.digest, load.client)
        try:
            self.cluster.call(link.actor, "load", arguments, partial(self._answered, link, load), control=True)
        except Exception as error:
            self._loaded(link, load, None, error)

    def _answered(self, link: Link, load: Load, facts: Any, error: BaseException | None) -> None:
        """On a thread of Ray's."""
        self._post(partial(self._loaded, link, load, facts, error))

    def _loaded(self, link: Link, load: Load, facts: Any, error: BaseException | None) -> None:
        if self.links.get(link.key) is not link or self._closed:
            return
        if load is not self.load:  # another model was wanted meanwhile
            self._ask(link)
            return
        if error is not None:
            self.fail(link.key, error)
            return
        rolling = self._rolling if self._rolling and self._rolling.current is link else None
        if isinstance(facts, Error):
            log.warning("a node of the Ray cluster cannot have the model: %s", facts)
            if rolling:
                self._give_up(rolling, facts)
            else:
                self.refusals[link.node] = facts
                self._drop(link)
            return
        link.facts, link.state, link.failures = facts, "ready", 0
        streams = max(1, int(facts["properties"]["OPTIMAL_NUMBER_OF_INFER_REQUESTS"]))
        self.scheduler.add(link.key, streams, self._slots(link))
        if rolling:
            rolling.current = None

    def fail(self, key: int, error: BaseException) -> None:
        """A replica did not answer: it gets nothing more until it has the model again."""
        link = self.links.get(key)
        if link is None or link.state == "failed":
            return
        if link.state == "leaving":
            self._drop(link)
            return
        log.warning("a replica failed and is asked again after a pause: %s: %.200s", type(error).__name__, error)
        self.scheduler.remove(key)
        self.events += 1
        if self.cluster.is_dead(error):
            self._drop(link)
            return
        link.state = "failed"
        self._later(perf_counter_ns() + pause(link.failures), partial(self._ask, link))
        link.failures += 1

    def _leave(self, link: Link) -> None:
        """Let a replica finish what it has, and go."""
        if link.state != "ready":
            self._drop(link)
            return
        link.state = "leaving"
        self.scheduler.drain(link.key)

    def _drop(self, link: Link) -> None:
        self.scheduler.remove(link.key)
        self.links.pop(link.key, None)
        if link.name:  # others may use it; it ends without any
            self._leave_shared(link)
        else:
            self.cluster.kill(link.actor)
        rolling = self._rolling
        if rolling is not None and rolling.current is link:
            rolling.current = None

    def _leave_shared(self, link: Link) -> None:
        with suppress(Exception):  # the cluster may be gone
            self.cluster.call(link.actor, "leave", (self.load.client,), lambda value, error: None, control=True)

    def step(self) -> None:
        """What follows when calls are over: replicas that leave go, and the next one takes another model."""
        for link in [*self.links.values()]:
            if link.state in ("leaving", "reloading"):
                replica = self.scheduler.replicas.get(link.key)
                if replica is None or not replica.calls:
                    if link.state == "leaving":
                        self._drop(link)
                    else:
                        self.scheduler.remove(link.key)
                        self._ask(link)
        rolling = self._rolling
        if rolling is None or rolling.current is not None:
            return
        while rolling.left:
            link = rolling.left.popleft()
            if link.state == "ready" and self.links.get(link.key) is link:
                rolling.current, link.state = link, "reloading"
                self.scheduler.drain(link.key)
                self.step()
                return
        self._rolling = None
        rolling.done(None)

    def replace(self, load: Load, done: Callable[[Error | None], None]) -> None:
        """Give all replicas another model, one after the other; `done(error)` at the end."""
        if self._rolling is not None or self._closed:
            done(Error("The model is closed." if self._closed else "Another change of the model is in progress."))
            return
        self._rolling = Rolling(self.load, deque(self.ready), done)
        self.load = load
        self.refusals.clear()
        self.step()

    def _give_up(self, rolling: Rolling, error: Error) -> None:
        """A replica cannot have the new model: all have the old one again."""
        self._rolling, self.load = None, rolling.old
        for link in [*self.ready]:
            if link not in rolling.left:
                link.state = "reloading"
                self.scheduler.drain(link.key)
        assert rolling.current is not None
        self._ask(rolling.current)
        rolling.done(error)

    def close(self) -> None:
        """End all replicas."""
        self._closed = True
        for link in [*self.links.values()]:
            self._drop(link)
        if self._rolling is not None:
            self._rolling.done(Error("The model is closed."))

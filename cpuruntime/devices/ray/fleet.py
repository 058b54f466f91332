"""The replicas of a model: where they are, how they come and go, and what is done when one fails."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter_ns
from typing import Any

from cpuruntime.devices.ray.cluster import Cluster, Done, brief
from cpuruntime.devices.ray.health import SILENCE, Health, Pulse
from cpuruntime.devices.ray.links import Link, Load, Trouble, Wish
from cpuruntime.devices.ray.replica import Replica
from cpuruntime.devices.ray.scaling import Autoscaler, NodeState, placements
from cpuruntime.devices.ray.schedule import Call, Scheduler, pause
from cpuruntime.errors import DeviceUnavailableError, Error
from cpuruntime.version import __version__

log = logging.getLogger("cpuruntime")

Post = Callable[[Callable[[], None]], None]
Later = Callable[[int, Callable[[], None]], None]

RESTARTED = "The replica was started again and has no model yet."

DEATHS = 3
"""So often in a row a replica may end while it loads a model that its node has never had; then the node gets none."""


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
        lose: has the requests of a call run elsewhere, for the error with which its replica was lost.
    """

    def __init__(
        self,
        cluster: Cluster,
        scheduler: Scheduler,
        wish: Wish,
        load: Load,
        post: Post,
        later: Later,
        lose: Callable[[Call, BaseException], None],
    ) -> None:
        self.cluster, self.scheduler, self.wish, self.load = cluster, scheduler, wish, load
        self.links: dict[int, Link] = {}
        self.refusals: dict[str, Error] = {}
        """Why a node's replica cannot have the model."""
        self.events = 0
        """How many replicas failed or left with their nodes."""
        self.scaler: Autoscaler | None = None
        self.troubles: dict[str, Trouble] = {}
        self._proven: set[str] = set()
        self._nodes: list[NodeState] = []
        self._post, self._later, self._lose = post, later, lose
        self._health = Health(cluster, post, later)
        self._keys = count()
        self._rolling: Rolling | None = None
        self._closed = False

    @property
    def is_settled(self) -> bool:
        """Whether each replica has the model, or cannot."""
        return bool(self.links or self.refusals) and all(
            one.state not in ("loading", "failed") for one in self.links.values()
        )

    @property
    def ready(self) -> list[Link]:
        """The replicas that serve."""
        return [link for link in [*self.links.values()] if link.state == "ready"]

    @property
    def facts(self) -> dict[str, Any]:
        """What a replica said of the model."""
        return next((link.facts for link in [*self.links.values()] if link.facts), {})

    def problems(self) -> list[str]:
        """Why there are not more replicas that serve."""
        now = perf_counter_ns()
        found = [f"node {node[:8]} has no replica: {error}" for node, error in [*self.refusals.items()]]
        for node, trouble in [*self.troubles.items()]:
            found.append(
                f"node {node[:8]}: a replica failed {trouble.failures} times in turn and is tried again; the last "
                f"time with {brief(trouble.error)}"
            )
        free = {node.id: node.free for node in self._nodes}
        for link in [*self.links.values()]:
            if link.state == "loading":
                what = "loads the model" if link.pulse.has_answered else (
                    f"waits for its process and {link.cpus} CPUs, where {free.get(link.node, 0):g} are free,"
                )  # fmt: skip
                found.append(f"node {link.node[:8]}: a replica {what} since {(now - link.asked) / 1e9:.0f} s")
        return found

    def update(self, nodes: list[NodeState], shared: Sequence[tuple[str, str, int]] = ()) -> None:
        """The nodes as they are now, and the replicas that processes share: start replicas and let them go."""
        if self._closed:
            return
        known = {link.name for link in self.links.values()}
        now = perf_counter_ns()
        barred = {*self.refusals, *(node for node, trouble in self.troubles.items() if now < trouble.until)}
        for name, node, cpus in shared:
            if name not in known and node not in barred:
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
        usable = [node for node in nodes if node.id not in barred]
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
            self.tell(link, "share", arguments, done)

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
        link.pulse = Pulse(actor, partial(self._give_up, link), partial(self._heard, link))
        self.links[link.key] = link
        self._ask(link)

    def _ask(self, link: Link) -> None:
        """Have a replica load the model."""
        if link.key not in self.links or self._closed:
            return
        if not link.pulse.has_answered:
            self._health.ask(link.pulse)
        link.state, link.asked = "loading", perf_counter_ns()
        link.turn += 1
        load = self.load
        config = {"INFERENCE_NUM_THREADS": link.cpus, **load.config}
        arguments = (__version__, load.host, load.device, config, load.graph, load.digest, load.client)
        try:
            done = partial(self._answered, link, load, link.turn)
            self.cluster.call(link.actor, "load", arguments, done, group="control")
        except Exception as error:
            self._loaded(link, load, link.turn, None, error)

    def _answered(self, link: Link, load: Load, turn: int, facts: Any, error: BaseException | None) -> None:
        """On a thread of Ray's."""
        self._post(partial(self._loaded, link, load, turn, facts, error))

    def _loaded(self, link: Link, load: Load, turn: int, facts: Any, error: BaseException | None) -> None:
        if self.links.get(link.key) is not link or turn != link.turn or self._closed:
            return
        if load is not self.load:  # another model was wanted meanwhile
            self._ask(link)
            return
        if error is not None:
            self.fail(link.key, error)
            return
        if isinstance(facts, Error):
            log.warning("a node of the Ray cluster cannot have the model: %s", facts)
            self._cannot(link, facts)
            return
        link.facts, link.state = facts, "ready"
        self._proven.add(link.node)
        self.troubles.pop(link.node, None)
        streams = max(1, int(facts["properties"]["OPTIMAL_NUMBER_OF_INFER_REQUESTS"]))
        self.scheduler.add(link.key, streams, self._slots(link))
        self._roll_on(link)

    def fail(self, key: int, error: BaseException) -> None:
        """A replica did not answer: it gets nothing more until it has the model again."""
        link = self.links.get(key)
        if link is None or link.state == "failed":
            return
        if link.state == "leaving":
            self._drop(link)
            return
        log.warning("a replica failed and is asked again after a pause: %s", brief(error))
        self.scheduler.remove(key)
        self.events += 1
        is_dead = self.cluster.is_dead(error)
        trouble = self.troubles.setdefault(link.node, Trouble(error))
        trouble.error = error
        trouble.deaths += link.state == "loading" and (is_dead or link.pulse.has_answered)
        trouble.until = perf_counter_ns() + pause(trouble.failures)
        trouble.failures += 1
        link.state, link.pulse.has_answered = "failed", False
        is_rolling = self._rolling is not None and self._rolling.current is link
        if trouble.deaths >= DEATHS and (is_rolling or link.node not in self._proven):
            self._refuse(link, trouble)
        elif is_dead:
            self._drop(link)
        else:
            self._later(trouble.until, partial(self._ask_again, link, link.turn))

    def _ask_again(self, link: Link, turn: int) -> None:
        if turn == link.turn and link.state == "failed":
            self._ask(link)

    def _refuse(self, link: Link, trouble: Trouble) -> None:
        """A replica ends whenever it loads the model: its node has none."""
        self._cannot(link, DeviceUnavailableError(
            f"A replica failed {trouble.deaths} times in turn while it loaded the model, which may need more memory "
            f"than the node has: {brief(trouble.error)}"
        ))  # fmt: skip

    def _cannot(self, link: Link, error: Error) -> None:
        """A replica cannot have the model: none on its node, or after a change of the model all keep the old one."""
        self.troubles.pop(link.node, None)
        if self._rolling is not None and self._rolling.current is link:
            self._restore(self._rolling, error)
        else:
            self.refusals[link.node] = error
            self._drop(link)

    def _roll_on(self, link: Link) -> None:
        """It has taken another model, or is gone: the next one may."""
        if self._rolling is not None and self._rolling.current is link:
            self._rolling.current = None

    def _heard(self, link: Link, process: Any, error: BaseException | None) -> None:
        """The process of a replica that serves may be gone, or another one that has no model."""
        if link.state == "ready" and process != link.facts["pid"]:
            self.fail(link.key, error or DeviceUnavailableError(RESTARTED))

    def _give_up(self, link: Link) -> None:
        """A replica is there and does not answer: what it has runs elsewhere, and another one takes its place."""
        error = DeviceUnavailableError(f"A replica did not answer for {SILENCE / 1e9:.0f} s and was ended.")
        log.warning("%s Its requests run elsewhere.", error)
        self.events += 1
        replica = self.scheduler.replicas.get(link.key)
        self._drop(link)
        self.cluster.kill(link.actor)
        for call in [*replica.calls] if replica else ():
            self._lose(call, error)

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
        link.pulse.is_over = True
        if link.name:  # others may use it; it ends without any
            self.tell(link, "leave", (self.load.client,))
        else:
            self.cluster.kill(link.actor)
        self._roll_on(link)

    def tell(self, link: Link, method: str, arguments: tuple[Any, ...], done: Done = lambda value, error: None) -> None:
        """Make a call that may be lost."""
        with suppress(Exception):  # the cluster may be gone
            self.cluster.call(link.actor, method, arguments, done, group="control")

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
        self.troubles.clear()
        self.step()

    def _restore(self, rolling: Rolling, error: Error) -> None:
        """A replica cannot have the new model: all have the old one again."""
        self._rolling, self.load = None, rolling.old
        for link in [*self.ready]:
            if link not in rolling.left:
                link.state = "reloading"
                self.scheduler.drain(link.key)
        assert rolling.current is not None
        self._ask(rolling.current)
        rolling.done(error)

    def forget(self, error: Error) -> None:
        """Drop all replicas; a change of the model ends with the error."""
        rolling, self._rolling = self._rolling, None
        for link in [*self.links.values()]:
            self._drop(link)
        if rolling is not None:
            rolling.done(error)

    def close(self) -> None:
        """End all replicas."""
        self._closed = True
        self.forget(Error("The model is closed."))

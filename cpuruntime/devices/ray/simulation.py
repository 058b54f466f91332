"""What a cluster would do under a load: a discrete-event simulation of drivers with the device's own scheduler.

Only time is simulated: each driver has a `Scheduler`, and makes a call when that says so. Assumed: requests arrive at
random, independently (Poisson); a node runs a request on each of its streams, in the order of arrival; a driver is busy
for CALL_COST with a call and for REQUEST_COST with each request in it; half of the trip lies before and half behind the
node. A node that fails answers nothing; its calls are noticed as lost after NOTICED, and it is back after REPAIRED.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Any

from cpuruntime.devices.ray.schedule import CALL_COST, Call, Item, Scheduler, fair_shares, pause

REQUEST_COST = 50_000
"""Nanoseconds of the driver for a small request in a call, and its result."""

NOTICED = 1_600_000_000
REPAIRED = 20_000_000_000
SECOND = 1_000_000_000
SHARED_EVERY = SECOND // 10
"""Nanoseconds between two divisions of the replicas among drivers."""

MEDIUM = 1


@dataclass(frozen=True)
class Scenario:
    """A cluster and its load.

    Attributes:
        nodes, streams: how many nodes, and streams on each.
        service, trip: nanoseconds of a request on a stream, and of its way there and back.
        rates: requests a second of each driver.
        seconds: of simulated time.
        failing: the share of the nodes that fail, at random moments.
        target: nanoseconds within which a request is good; also the latency target of the drivers if `refuses`.
    """

    nodes: int
    streams: int
    service: int
    trip: int
    rates: Sequence[float]
    seconds: float
    failing: float = 0.0
    target: int = 0
    refuses: bool = False
    seed: int = 0


@dataclass
class Outcome:
    """What was seen, in nanoseconds and requests.

    Attributes:
        latencies: those of answered requests, in order; of many a sample. `longest` is of all.
        served, good: by driver, how many were answered, and within the target.
    """

    latencies: list[int] = field(default_factory=list)
    longest: int = 0
    served: list[int] = field(default_factory=list)
    good: list[int] = field(default_factory=list)
    started: int = 0
    refused: int = 0
    failed: int = 0
    retries: int = 0
    calls: int = 0

    def quantile(self, part: float) -> int:
        """The latency that this part of the requests does not exceed; 0 without any."""
        return self.latencies[min(len(self.latencies) - 1, int(part * len(self.latencies)))] if self.latencies else 0

    @property
    def goodput(self) -> float:
        """The share of the requests that were answered within the target."""
        return sum(self.good) / max(1, self.started)

    def fairness(self, rates: Sequence[float]) -> float:
        """The least served driver's share of what it asked for, over that of the best served one."""
        shares = [served / rate for served, rate in zip(self.served, rates)]
        return min(shares) / max(max(shares), 1e-9)


class _Node:
    """A replica: when each of its streams is idle, and until when it is down."""

    __slots__ = ("alive", "free")

    def __init__(self, streams: int) -> None:
        self.free = [0] * streams
        self.alive = 0

    def run(self, now: int, requests: int, service: int) -> int:
        """When the last one of so many requests is over."""
        free, end = self.free, now
        for _ in range(requests):
            end = max(free[0], now) + service
            heapreplace(free, end)
        return end


class _Driver:
    """A scheduler, the moments at which its requests arrive, and what it does.

    Attributes:
        following: when the next request arrives.
        wakes, listens: whether an event is due at the end of the call that it makes, or at the next arrival.
    """

    __slots__ = ("following", "listens", "number", "random", "rate", "scheduler", "wakes")

    def __init__(self, number: int, scenario: Scenario) -> None:
        self.number = number
        self.scheduler = Scheduler(target=scenario.target if scenario.refuses else 0, seed=number)
        for key in range(scenario.nodes):
            self.scheduler.add(key, scenario.streams, 2 * scenario.streams)
        self.random = random.Random(f"{scenario.seed} {number}")
        self.rate = scenario.rates[number] / SECOND
        self.wakes = self.listens = False
        self.following = self.gap()

    def gap(self) -> int:
        """Nanoseconds between a request and the next."""
        return int(self.random.expovariate(self.rate))


class Simulation:
    """One run. `run` returns what was seen."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.outcome = Outcome(served=[0] * len(scenario.rates), good=[0] * len(scenario.rates))
        self._random = random.Random(scenario.seed)
        self._nodes = [_Node(scenario.streams) for _ in range(scenario.nodes)]
        self._drivers = [_Driver(number, scenario) for number in range(len(scenario.rates))]
        self._events: list[tuple[int, int, Any, Any]] = []
        self._numbers = count()
        self._end = int(scenario.seconds * SECOND)
        self._sample = max(1, int(sum(scenario.rates) * scenario.seconds) // 1_000_000)

    def run(self) -> Outcome:
        """Simulate until all requests are over."""
        scenario, events = self.scenario, self._events
        for driver in self._drivers:
            self._listen(driver)
        for node in self._random.sample(range(scenario.nodes), round(scenario.failing * scenario.nodes)):
            self._at(self._random.randrange(self._end), self._fail, node)
        if len(scenario.rates) > 1:
            self._at(SHARED_EVERY, self._share, None)
        while events:
            now, _, handle, what = heappop(events)
            handle(now, what)
        self.outcome.latencies.sort()
        self.outcome.retries = sum(driver.scheduler.retries for driver in self._drivers)
        self.outcome.calls = sum(driver.scheduler.calls for driver in self._drivers)
        return self.outcome

    def _at(self, when: int, handle: Any, what: Any) -> None:
        heappush(self._events, (when, next(self._numbers), handle, what))

    def _admit(self, now: int, driver: _Driver) -> None:
        """Queue what has arrived. Called before each change of a driver, so that it need not be at every arrival."""
        while driver.following <= now and driver.following < self._end:
            arrived = driver.following
            driver.following += driver.gap()
            self.outcome.started += 1
            if driver.scheduler.submit(Item(MEDIUM, 0, arrived), arrived) is not None:
                self.outcome.refused += 1

    def _listen(self, driver: _Driver) -> None:
        """Have an idle driver wake when a request arrives."""
        if not driver.listens and driver.following < self._end:
            driver.listens = True
            self._at(driver.following, self._arrive, driver)

    def _arrive(self, now: int, driver: _Driver) -> None:
        driver.listens = False
        self._admit(now, driver)
        self._send(now, driver)

    def _send(self, now: int, driver: _Driver) -> None:
        """Have a driver make its next call, when it is not busy with another."""
        if driver.wakes:
            return
        call = driver.scheduler.next_call(now)
        if call is None:
            self._listen(driver)
            return
        scenario, requests = self.scenario, len(call.items)
        busy_until = now + CALL_COST + REQUEST_COST * requests
        node = self._nodes[call.replica.key]
        there = busy_until + scenario.trip // 2
        if node.alive > there:
            self._at(there + SECOND // 30, self._lose, (driver, call))  # it is known to be gone: refused at once
        else:
            over = node.run(there, requests, scenario.service)
            self._at(over + scenario.trip // 2, self._answer, (driver, call, over - there, there))
        driver.wakes = True
        self._at(busy_until, self._wake, driver)

    def _wake(self, now: int, driver: _Driver) -> None:
        driver.wakes = False
        self._admit(now, driver)
        self._send(now, driver)

    def _answer(self, now: int, what: tuple[_Driver, Call, int, int]) -> None:
        driver, call, taken, there = what
        node = self._nodes[call.replica.key]
        if node.alive > now - self.scenario.trip // 2 and there < node.alive - REPAIRED:  # it failed in between
            self._at(max(now, node.alive - REPAIRED + NOTICED), self._lose, (driver, call))
            return
        self._admit(now, driver)
        outcome, target, number = self.outcome, self.scenario.target or now, driver.number
        driver.scheduler.completed(call, now, taken, [self.scenario.service] * len(call.items))
        for item in call.items:
            latency = now - item.arrived
            if latency > outcome.longest:
                outcome.longest = latency
            outcome.served[number] += 1
            outcome.good[number] += latency <= target
            if outcome.served[number] % self._sample == 0:
                outcome.latencies.append(latency)
        self._send(now, driver)

    def _lose(self, now: int, what: tuple[_Driver, Call]) -> None:
        driver, call = what
        self._admit(now, driver)
        scheduler = driver.scheduler
        _, given_up = scheduler.lost(call)
        self.outcome.failed += len(given_up)
        replica = call.replica
        if replica.accepts and scheduler.replicas.get(replica.key) is replica:
            scheduler.drain(replica.key)
            self._at(now + pause(replica.failures), self._ask, (driver, replica.key))
            replica.failures += 1
        self._send(now, driver)

    def _ask(self, now: int, what: tuple[_Driver, int]) -> None:
        """A driver asks a replica that failed whether it is back."""
        driver, key = what
        if self._nodes[key].alive <= now:
            self._admit(now, driver)
            driver.scheduler.resume(key)
            self._send(now, driver)
        else:
            replica = driver.scheduler.replicas[key]
            self._at(now + pause(replica.failures), self._ask, what)
            replica.failures += 1

    def _fail(self, now: int, node: int) -> None:
        self._nodes[node].alive = now + REPAIRED
        self._nodes[node].free = [now + REPAIRED] * self.scenario.streams

    def _share(self, now: int, _: None) -> None:
        schedulers = [driver.scheduler for driver in self._drivers]
        for driver in self._drivers:
            self._admit(now, driver)
        demands = {index: one.waiting + one.on_way for index, one in enumerate(schedulers)}
        slots = 2 * self.scenario.nodes * self.scenario.streams
        for index, share in fair_shares(demands, slots).items():
            schedulers[index].allowed = max(share, slots // len(schedulers))
            self._send(now, self._drivers[index])
        if now + SHARED_EVERY < self._end:
            self._at(now + SHARED_EVERY, self._share, None)
        else:
            for one in schedulers:
                one.allowed = float("inf")


def simulate(scenario: Scenario) -> Outcome:
    """What a cluster would do under a load."""
    return Simulation(scenario).run()

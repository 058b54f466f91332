"""Which waiting requests travel to which replica in one call. Pure: times come in, decisions go out; nothing waits.

The queue stays here, and a replica gets what it can begin soon, so that priorities, deadlines and cancelling work as on
one machine. The simulation runs the same code. All times are nanoseconds on one clock.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

SHORT = 5_000_000
"""Requests that take less travel together."""

MOST_IN_CALL = 16
CALL_COST = 400_000
"""What it costs the driver to make a call. Requests that take less in all are not spread over several calls."""

BEHIND = 2 * CALL_COST
"""A request that has waited so long, although replicas are free, waits for the driver."""

RETRIES = 3
PAUSE, LONGEST_PAUSE = 100_000_000, 5_000_000_000
"""How long a replica that failed is left alone; twice as long after each further failure."""

LOOKED_AT = 8
"""So many replicas, drawn at random and perhaps twice, are compared for a call where there are more."""

_WEIGHT = 0.1
_JUMP = 4.0
_numbers = itertools.count()


class Item:
    """What waits for a replica, runs there, or is over.

    Attributes:
        order: of those that wait the least is next: by priority, deadline and arrival.
        deadline: 0 for none.
        tries: on how many replicas it was lost; `failed` are these.
    """

    __slots__ = ("arrived", "deadline", "failed", "is_over", "is_queued", "order", "tries")

    def __init__(self, rank: int, deadline: int, arrived: int) -> None:
        self.order = (rank, deadline or math.inf, next(_numbers))
        self.deadline = deadline
        self.arrived = arrived
        self.tries = 0
        self.failed: frozenset[Any] = frozenset()
        self.is_queued = self.is_over = False


class Replica:
    """What is known of a replica.

    Attributes:
        streams: how many requests it runs at a time; `limit`: how many calls it is given at a time.
        calls: those it has; `requests`: how many requests are in them.
        accepts: whether it gets more: not while it starts, drains or has failed.
        served, failures: how many requests it answered, and how often it failed in a row.
        latest: the number of its latest call.
    """

    __slots__ = ("accepts", "calls", "failures", "key", "latest", "limit", "pace", "requests", "served", "streams")

    def __init__(self, key: Any, streams: int, limit: int) -> None:
        self.key = key
        self.streams = streams
        self.limit = limit
        self.calls: set[Call] = set()
        self.requests = 0
        self.accepts = True
        self.served = self.failures = self.latest = 0
        self.pace: float | None = None

    def backlog(self, service: float) -> float:
        """When it would finish one more request, from now, if each takes `service`, or what this replica takes."""
        return (self.requests // self.streams + 1) * (self.pace or service)


@dataclass(eq=False, slots=True)
class Call:
    """Some requests on their way to a replica, there, or back."""

    replica: Replica
    items: list[Item]
    began: int
    number: int = field(default_factory=lambda: next(_numbers))


class Scheduler:
    """The queue of one driver, and the replicas that it shares the work among. Not thread-safe.

    Args:
        per_call: how many requests travel in one call at most; 0: as many as are short.
        most_queued: how many may wait; -1: any number.
        target: within which time a request is to be over, or 0; one that would be late is refused.
    """

    def __init__(self, per_call: int = 0, most_queued: int = -1, target: int = 0, seed: int = 0) -> None:
        self.replicas: dict[Any, Replica] = {}
        self.allowed = math.inf
        """How many calls may be under way; less than the replicas take where drivers share them."""
        self.retries = self.refused = self.calls = self.requests = 0
        self.ongoing = self.waiting = 0
        """How many requests are in calls, and how many wait."""
        self.service: float | None = None
        self.trip: float = 0.0
        """What a request takes of late, and what its way there and back takes beside that."""
        self.on_way = 0
        """How many calls are under way."""
        self._per_call, self._most_queued, self._target = per_call, most_queued, target
        self._queue: list[tuple[tuple[int, float, int], Item]] = []
        self._due: list[tuple[int, int, Item]] = []
        self._random = random.Random(seed)
        self._free: list[Replica] = []
        self._place: dict[Replica, int] = {}

    def add(self, key: Any, streams: int, limit: int) -> Replica:
        """A replica that accepts requests from now on, in place of what was known of the same key."""
        self.remove(key)
        replica = self.replicas[key] = Replica(key, streams, limit)
        self._update(replica)
        return replica

    def drain(self, key: Any) -> Replica:
        """Give a replica nothing more; what it has it finishes."""
        replica = self.replicas[key]
        replica.accepts = False
        self._update(replica)
        return replica

    def limit(self, key: Any, calls: int) -> None:
        """Give a replica at most so many calls at a time from now on."""
        self.replicas[key].limit = calls
        self._update(self.replicas[key])

    def resume(self, key: Any) -> None:
        """Give a replica requests again."""
        self.replicas[key].accepts = True
        self._update(self.replicas[key])

    def remove(self, key: Any) -> None:
        """Forget a replica; its calls may still be completed or lost."""
        replica = self.replicas.pop(key, None)
        if replica is not None:
            replica.accepts = False
            self._update(replica)

    def submit(self, item: Item, now: int) -> str | None:
        """Queue an item: None, or the reason why it is refused."""
        if 0 <= self._most_queued <= self.waiting and self.waiting >= self._room():
            self.refused += 1
            return f"{self.waiting} requests wait already and MAX_QUEUED_REQUESTS is {self._most_queued}"
        late = self._late(item, now)
        if late:
            self.refused += 1
            return late
        self._wait(item)
        if item.deadline:
            heappush(self._due, (item.deadline, next(_numbers), item))
        return None

    def _room(self) -> int:
        """How many more calls there may be; requests that can begin are not counted as queued."""
        free = sum(replica.limit - len(replica.calls) for replica in self._free)
        return max(0, int(min(free, self.allowed - self.on_way)))

    def _late(self, item: Item, now: int) -> str:
        """Why an item would miss the latency target; empty if it would not."""
        if not self._target or self.service is None or not (self.waiting or self.ongoing):
            return ""
        streams = sum(replica.streams for replica in self.replicas.values() if replica.accepts) or 1
        left = (self.waiting + self.ongoing) // streams * self.service + self.service + self.trip
        if now + left <= item.arrived + self._target:
            return ""
        return (
            f"{self.waiting} others wait and {self.ongoing} run, one takes {self.service / 1e6:.3g} ms and its way "
            f"{self.trip / 1e6:.3g} ms, so LATENCY_TARGET_MS {self._target / 1e6:g} would be missed"
        )

    def _wait(self, item: Item) -> None:
        item.is_queued = True
        self.waiting += 1
        heappush(self._queue, (item.order, item))

    def withdraw(self, item: Item) -> bool:
        """Take an item out of the queue: whether it was in it."""
        if not item.is_queued:
            return False
        item.is_queued = False
        self.waiting -= 1
        return True

    def withdraw_all(self) -> list[Item]:
        """Take all items out of the queue."""
        return [item for _, item in self._queue if self.withdraw(item)]

    def expired(self, now: int) -> list[Item]:
        """The items that are not over and whose deadline has passed; those that wait are taken out of the queue."""
        found = []
        while self._due and self._due[0][0] <= now:
            item = heappop(self._due)[-1]
            if not item.is_over:
                self.withdraw(item)
                found.append(item)
        return found

    def next_deadline(self) -> int | None:
        """The earliest deadline of an item that is not over."""
        while self._due and self._due[0][-1].is_over:
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def next_call(self, now: int) -> Call | None:
        """The next call to make; None where nothing waits or no replica takes more."""
        first = self._first()
        if first is None or not self._free or self.on_way >= self.allowed:
            return None
        replica = self._choose(first)
        if replica is None:
            return None
        items = [self._take()]
        if not first.tries:  # one that was lost with a replica takes no others along
            for _ in range(self._count(replica, now - first.arrived) - 1):
                following = self._first()
                if following is None or following.tries:
                    break
                items.append(self._take())
        call = Call(replica, items, now)
        replica.calls.add(call)
        replica.latest = call.number
        replica.requests += len(items)
        self.ongoing += len(items)
        self.on_way += 1
        self.calls += 1
        self.requests += len(items)
        self._update(replica)
        return call

    def _first(self) -> Item | None:
        while self._queue and not self._queue[0][1].is_queued:
            heappop(self._queue)
        return self._queue[0][1] if self._queue else None

    def _take(self) -> Item:
        item = heappop(self._queue)[1]
        item.is_queued = False
        self.waiting -= 1
        return item

    def _count(self, replica: Replica, waited: int) -> int:
        """How many requests the next call has: short ones are spread over the replicas that are free.

        Those that a replica runs at the same time travel together, and more where they have waited for a driver that
        is busy with calls while replicas are free.
        """
        waiting = self.waiting + 1
        most = self._per_call
        if not most:
            most = MOST_IN_CALL if self.service is not None and self.service < SHORT else 1
        spread = -(-waiting // len(self._free))
        cheap = int(CALL_COST // max(self.service or CALL_COST, 1))
        idle = replica.streams * (1 + waited // BEHIND) - replica.requests
        return max(1, min(most, waiting, max(spread, cheap, idle)))

    def _choose(self, item: Item) -> Replica | None:
        """The free replica that is expected to finish first; one on which the item was lost only if there is no other.

        None where the item had better wait for another replica.
        """
        free = self._free
        if len(free) > LOOKED_AT:
            free = self._random.choices(free, k=LOOKED_AT)
        if item.failed:
            free = [replica for replica in self._free if replica.key not in item.failed]
            if not free:
                others = any(r.accepts and key not in item.failed for key, r in self.replicas.items())
                free = [] if others else self._free
        service = self.service or 0.0
        return min(free, key=lambda one: (one.backlog(service), len(one.calls), one.latest), default=None)

    def completed(self, call: Call, now: int, taken: int, executed: list[int]) -> None:
        """A call has come back after `taken` on its node, with the time that each request was executed, 0 if none."""
        replica = call.replica
        self._over(call)
        replica.failures = 0
        replica.served += len(call.items)
        self.trip += _WEIGHT * (max(0, now - call.began - taken) - self.trip) if self.trip else now - call.began - taken
        for one in filter(None, executed):
            self.service = _smoothed(self.service, one)
            replica.pace = _smoothed(replica.pace, one)

    def lost(self, call: Call) -> tuple[list[Item], list[Item]]:
        """A call whose replica failed: the items that wait again, and those that were lost too often.

        Items that are over are in neither.
        """
        self._over(call)
        again, given_up = [], []
        for item in call.items:
            if item.is_over:
                continue
            item.tries += 1
            item.failed |= {call.replica.key}
            if item.tries > RETRIES:
                given_up.append(item)
                continue
            self.retries += 1
            self._wait(item)
            again.append(item)
        return again, given_up

    def returned(self, call: Call) -> None:
        """A call that could not be made; its items are the caller's."""
        self._over(call)

    def _over(self, call: Call) -> None:
        call.replica.calls.discard(call)
        call.replica.requests -= len(call.items)
        self.ongoing -= len(call.items)
        self.on_way -= 1
        self._update(call.replica)

    def _update(self, replica: Replica) -> None:
        """Keep the list of replicas that take another call; removing swaps with the last one."""
        is_free = replica.accepts and len(replica.calls) < replica.limit
        place = self._place.get(replica)
        if is_free and place is None:
            self._place[replica] = len(self._free)
            self._free.append(replica)
        elif not is_free and place is not None:
            last = self._free.pop()
            del self._place[replica]
            if last is not replica:
                self._free[place] = last
                self._place[last] = place


def pause(failures: int) -> int:
    """How long a replica is left alone after so many failures in a row."""
    return min(PAUSE << min(failures, 16), LONGEST_PAUSE)


def _smoothed(old: float | None, new: float) -> float:
    """The mean of late; a value that is much larger than usual counts less."""
    return new if old is None else old + _WEIGHT * (min(new, _JUMP * old) - old)


def fair_shares(demands: dict[Any, int], slots: int) -> dict[Any, int]:
    """Slots for each client by its demand: no client gets more than it asks for while another one lacks as many.

    Each gets one at least, so that a client whose demand is new need not wait for the next division.
    """
    shares: dict[Any, int] = {}
    left, clients = slots, sorted(demands, key=demands.__getitem__)
    for index, client in enumerate(clients):
        fair = -(-left // (len(clients) - index))
        shares[client] = max(1, min(demands[client], fair))
        left -= shares[client]
    return shares

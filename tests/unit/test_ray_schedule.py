"""RAY's scheduling: which requests travel together, to which replica, and again after a loss. No Ray, no threads."""

from __future__ import annotations

from typing import Any

import pytest

from cpuruntime.devices.ray.scaling import DOWN, UP, Autoscaler, NodeState, placements
from cpuruntime.devices.ray.schedule import RETRIES, Call, Item, Scheduler, fair_shares, pause

MS = 1_000_000


def scheduler(replicas: int = 2, streams: int = 1, limit: int = 2, **options: Any) -> Scheduler:
    """A scheduler with so many replicas, 0, 1 and so on."""
    made = Scheduler(**options)
    for key in range(replicas):
        made.add(key, streams, limit)
    return made


def queued(made: Scheduler, count: int, rank: int = 1, deadline: int = 0) -> list[Item]:
    """So many items, queued."""
    items = [Item(rank, deadline, 0) for _ in range(count)]
    assert [made.submit(item, 0) for item in items] == [None] * count
    return items


def calls(made: Scheduler, now: int = 0) -> list[Call]:
    """All calls that can be made now."""
    found = []
    while (call := made.next_call(now)) is not None:
        found.append(call)
    return found


def learn(made: Scheduler, service: int) -> None:
    """Have the scheduler know what a request takes."""
    queued(made, 1)
    (call,) = calls(made)
    made.completed(call, 2 * service, service, [service])


def test_requests_are_spread_over_replicas_up_to_their_limits() -> None:
    made = scheduler(replicas=3, limit=2)
    queued(made, 10)
    found = calls(made)
    keys = [call.replica.key for call in found]
    assert (sorted(keys[:3]), sorted(keys[3:])) == ([0, 1, 2], [0, 1, 2])
    assert (made.waiting, made.ongoing) == (4, 6)
    made.completed(found[1], MS, MS, [MS])
    assert [call.replica.key for call in calls(made)] == [keys[1]]


def test_short_requests_travel_together_and_long_ones_alone() -> None:
    short, long = scheduler(replicas=1, limit=1), scheduler(replicas=1, limit=1)
    learn(short, MS)
    learn(long, 6 * MS)
    for made in (short, long):
        queued(made, 40)
    assert [len(call.items) for call in calls(short)] == [16]
    assert [len(call.items) for call in calls(long)] == [1]


def test_few_requests_are_spread_unless_a_call_costs_more_than_they_take() -> None:
    slow, quick = scheduler(replicas=4), scheduler(replicas=4)
    learn(slow, 2 * MS)
    learn(quick, MS // 50)
    for made in (slow, quick):
        queued(made, 8)
    assert [len(call.items) for call in calls(slow)][:2] == [2, 2]
    assert [len(call.items) for call in calls(quick)] == [8]


def test_a_number_of_requests_per_call_is_the_most() -> None:
    made = scheduler(replicas=1, limit=3, per_call=2)
    queued(made, 5)
    assert [len(call.items) for call in calls(made)] == [2, 2, 1]


def test_priorities_come_first_then_deadlines_then_arrival() -> None:
    made = scheduler(replicas=1, limit=8)
    late, plain = queued(made, 1, deadline=9)[0], queued(made, 1)[0]
    early, high, low = queued(made, 1, deadline=5)[0], queued(made, 1, rank=0)[0], queued(made, 1, rank=2)[0]
    assert [call.items[0] for call in calls(made)] == [high, early, late, plain, low]


def test_what_is_lost_goes_to_another_replica_alone_and_is_given_up_at_last() -> None:
    made = scheduler(replicas=1, limit=2, per_call=4)
    (item, *others) = queued(made, 3)
    (call,) = calls(made)
    first = call.replica.key
    made.add(1, 1, 2)
    for item_of in others:
        item_of.is_over = True
    made.lost(call)
    queued(made, 1)
    again, other = calls(made)
    assert again.items == [item]
    assert again.replica.key != first
    assert other.items != [item]
    for _ in range(RETRIES - 1):
        assert made.lost(again) == ([item], [])
        again = next(call for call in calls(made) if item in call.items)
    assert made.lost(again) == ([], [item])
    assert made.retries == RETRIES


def test_a_lost_item_waits_for_another_replica_but_not_for_none() -> None:
    made = scheduler(replicas=2, limit=1, per_call=1)
    (item,) = queued(made, 1)
    (first,) = calls(made)
    queued(made, 1)
    (second,) = calls(made)
    made.lost(first)
    assert calls(made) == []  # the replica that is free has lost it
    made.remove(second.replica.key)
    assert [call.items for call in calls(made)] == [[item]]


def test_a_slow_replica_gets_less() -> None:
    made = scheduler(replicas=2, limit=4)
    for _ in range(60):
        queued(made, 1)
        (call,) = calls(made)
        took = (20 if call.replica.key == 0 else 6) * MS
        made.completed(call, took, took, [took])
    queued(made, 4)
    assert [call.replica.key for call in calls(made)].count(1) >= 3


def test_a_replica_that_is_back_gets_its_share_and_not_what_it_has_missed() -> None:
    made, keys = scheduler(replicas=4), []
    made.drain(0)
    for step in range(60):
        if step == 40:
            made.resume(0)
        queued(made, 1)
        (call,) = calls(made)
        made.completed(call, MS, MS, [MS])
        keys.append(call.replica.key)
    assert [keys[40:].count(key) for key in range(4)] == [5] * 4


def test_a_draining_replica_gets_nothing_more() -> None:
    made = scheduler(replicas=2)
    made.drain(0)
    queued(made, 5)
    assert {call.replica.key for call in calls(made)} == {1}


def test_more_than_may_be_queued_is_refused() -> None:
    made = scheduler(replicas=1, limit=1, most_queued=2)
    queued(made, 1)
    calls(made)
    queued(made, 2)
    assert "MAX_QUEUED_REQUESTS is 2" in str(made.submit(Item(1, 0, 0), 0))
    assert made.refused == 1


def test_what_would_miss_the_latency_target_is_refused() -> None:
    made = scheduler(replicas=1, limit=1, per_call=1, target=25 * MS)
    learn(made, 10 * MS)  # and 10 on the way
    queued(made, 1)
    (call,) = calls(made)
    assert "LATENCY_TARGET_MS 25" in str(made.submit(Item(1, 0, 0), 0))
    made.completed(call, 20 * MS, 10 * MS, [10 * MS])
    assert made.submit(Item(1, 0, 20 * MS), 20 * MS) is None


def test_a_withdrawn_item_does_not_travel_and_a_deadline_takes_items_out() -> None:
    made = scheduler(replicas=1, limit=8)
    first, second = queued(made, 2, deadline=5)
    assert made.withdraw(first)
    assert not made.withdraw(first)
    assert made.next_deadline() == 5
    assert made.expired(4) == []
    first.is_over = True
    assert made.expired(5) == [second]
    assert calls(made) == []


def test_calls_of_one_driver_are_limited_to_its_share() -> None:
    made = scheduler(replicas=4, limit=4)
    made.allowed = 3
    queued(made, 10)
    assert len(calls(made)) == 3


@pytest.mark.parametrize(
    ("demands", "slots", "shares"),
    [
        ({"a": 100, "b": 100}, 8, {"a": 4, "b": 4}),
        ({"a": 2, "b": 100, "c": 100}, 10, {"a": 2, "b": 4, "c": 4}),
        ({"a": 0, "b": 100}, 8, {"a": 1, "b": 7}),
        ({"a": 5, "b": 5, "c": 5}, 2, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_shares_are_fair(demands: dict[str, int], slots: int, shares: dict[str, int]) -> None:
    assert fair_shares(demands, slots) == shares


def test_the_pause_after_failures_doubles_up_to_a_limit() -> None:
    assert [pause(n) // MS for n in (0, 1, 2, 40)] == [100, 200, 400, 5000]


NODES = [NodeState("a", 4, 4), NodeState("b", 8, 6), NodeState("c", 2, 0), NodeState("d", 8, 8, is_draining=True)]


@pytest.mark.parametrize(
    ("occupied", "wanted", "cpus", "found"),
    [
        ([], 0, 0, [("b", 6), ("a", 4)]),  # AUTO: one on each node that has CPUs, all that are free
        (["b"], 0, 0, [("a", 4)]),
        ([], 3, 2, [("b", 2), ("a", 2), ("b", 2)]),
        ([], 9, 4, [("b", 4), ("a", 4)]),
        (["a"], 1, 1, []),
        ([], 0, 5, [("b", 5)]),
        ([], 4, 0, [("b", 3), ("a", 2), ("b", 3), ("a", 2)]),
    ],
)
def test_replicas_are_placed(occupied: list[str], wanted: int, cpus: int, found: list[tuple[str, int]]) -> None:
    assert placements(NODES, occupied, wanted, cpus) == found


def test_the_number_of_replicas_follows_the_load_after_a_while() -> None:
    scaler = Autoscaler(1, 4, 10)
    assert scaler.update(25, 0) == 1
    assert scaler.update(25, UP - 1) == 1
    assert scaler.update(25, UP) == 3
    assert scaler.update(1000, 2 * UP) == 3
    assert scaler.update(1000, 3 * UP) == 4
    assert scaler.update(0, 4 * UP) == 4
    assert scaler.update(35, 5 * UP) == 4
    assert scaler.update(0, 6 * UP) == 4  # the time counts from here
    assert scaler.update(0, 5 * UP + DOWN) == 4
    assert scaler.update(0, 6 * UP + DOWN) == 1

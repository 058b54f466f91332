"""RAY's queue and replicas on a cluster whose replicas answer what the test says."""

from __future__ import annotations

import time
from typing import Any

from support.fake_cluster import FakeCall, FakeCluster, Make, answer, facts, make, next_call, start, until

from cpuruntime.devices.interface import Terms
from cpuruntime.devices.ray.links import Load, Wish
from cpuruntime.devices.ray.loop import Loop
from cpuruntime.devices.ray.scaling import NodeState
from cpuruntime.errors import (
    CancelledError,
    DeadlineExceededError,
    DeviceUnavailableError,
    ModelError,
    OverloadedError,
)
from cpuruntime.properties.hint import Priority

__all__ = ["make"]


def test_an_answer_ends_the_inference_with_results_and_moments(make: Make) -> None:
    cluster, loop = make(1)
    inference, results = start(loop)
    called = []
    inference.notify(lambda: called.append(inference.is_over))
    answer(next_call(cluster))
    assert inference.wait(100)
    assert (inference.error, results, called) == (None, [[0]], [True])
    sent, began, ended = inference.moments
    assert 0 < sent <= began <= ended
    assert inference.transferred > 0


def test_an_error_comes_with_its_type_and_is_not_tried_again(make: Make) -> None:
    cluster, loop = make(1, 1)
    inference, results = start(loop)
    answer(next_call(cluster), ModelError("wrong"))
    assert inference.wait(100)
    assert isinstance(inference.error, ModelError)
    assert results == []
    assert loop.scheduler.retries == 0


def test_a_deadline_ends_what_waits_and_what_travelled_and_goes_out_as_time_left(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=1))
    terms = Terms(Priority.HIGH, time.perf_counter_ns() + 200_000_000)
    travelled, results = start(loop, terms)
    call = next_call(cluster)
    priority, left, _ = call.arguments[1][0]
    assert priority == "HIGH"
    assert 0 < left <= 200_000_000
    waits, _ = start(loop, terms)
    for inference, where in ((travelled, "was on a replica"), (waits, "waited for a replica")):
        assert inference.wait(100)
        assert isinstance(inference.error, DeadlineExceededError)
        assert where in str(inference.error)
    assert cluster.cancelled.get(timeout=100) == (call.arguments[0], 0)
    answer(call)
    following, _ = start(loop)
    answer(next_call(cluster))
    assert following.wait(100)
    assert results == []  # its memory is the user's again


def test_cancel_ends_what_waits_at_once_and_asks_the_replica_of_what_travelled(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=1))
    travelled, _ = start(loop)
    call = next_call(cluster)
    waits, _ = start(loop)
    loop.cancel(waits)
    assert waits.wait(100)
    assert isinstance(waits.error, CancelledError)
    loop.cancel(travelled)
    assert cluster.cancelled.get(timeout=100) == (call.arguments[0], 0)
    assert not travelled.is_over
    answer(call, CancelledError("there"))
    assert travelled.wait(100)
    assert isinstance(travelled.error, CancelledError)


def test_more_than_may_be_queued_is_refused_with_its_type(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=1), most_queued=0)
    first, _ = start(loop)
    call = next_call(cluster)
    second, _ = start(loop)
    assert second.wait(100)
    assert isinstance(second.error, OverloadedError)
    answer(call)
    assert first.wait(100)


def test_a_call_that_cannot_be_made_fails_its_requests_only(make: Make) -> None:
    cluster, loop = make(1)
    cluster.refusal = MemoryError("the object store is full")
    inference, _ = start(loop)
    assert inference.wait(100)
    assert isinstance(inference.error, DeviceUnavailableError)
    assert "object store is full" in str(inference.error)
    cluster.refusal = None
    following, _ = start(loop)
    answer(next_call(cluster))
    assert following.wait(100)
    assert following.error is None


def test_nodes_come_drain_and_go(make: Make) -> None:
    cluster, loop = make(1)
    (a,) = cluster.states
    b = NodeState("late", 2, 2)
    loop.post(lambda: loop.fleet.update([a, b]))
    until(lambda: len(loop.fleet.ready) == 2)
    cluster.states = [a, NodeState("late", 2, 0, is_draining=True)]
    running = [start(loop)[0] for _ in range(4)]
    calls = [next_call(cluster) for _ in range(4)]
    loop.post(lambda: loop.fleet.update(cluster.states))
    on_late = [call for call in calls if call.actor.node == "late"]
    assert on_late
    assert not on_late[0].actor.killed
    for call in calls:
        answer(call)
    assert all(one.wait(100) and one.error is None for one in running)
    until(lambda: on_late[0].actor.killed)
    loop.post(lambda: loop.fleet.update([]))
    until(lambda: not loop.fleet.links)


def test_a_node_that_cannot_have_the_model_has_no_replica_and_says_why(make: Make) -> None:
    cluster = FakeCluster(1, 1)
    cluster.loads = lambda actor, arguments: ModelError("wrong") if actor.node == "node0" else facts()
    cluster, loop = make(cluster=cluster)
    until(lambda: len(loop.fleet.ready) == 1)
    assert {node: str(error) for node, error in loop.fleet.refusals.items()} == {"node0": "wrong"}


def test_replacing_the_model_goes_replica_by_replica_and_loses_nothing(make: Make) -> None:
    cluster, loop = make(1, 1)
    running = [start(loop)[0] for _ in range(2)]
    calls = [next_call(cluster) for _ in range(2)]
    loaded: list[Any] = []
    cluster.loads = lambda actor, arguments: (loaded.append((actor.node, arguments[4])), facts())[1]
    ended: list[Any] = []
    loop.post(lambda: loop.fleet.replace(Load(b"", "CPU", {}, ["new"], "new"), ended.append))
    first = calls[0] if loop_state(loop, calls[0]) == "reloading" else calls[1]
    (other,) = [call for call in calls if call is not first]
    assert loaded == []  # it finishes what it has
    running.append(start(loop)[0])
    third = next_call(cluster)
    assert third.actor is other.actor
    answer(first)
    until(lambda: loaded == [(first.actor.node, ["new"])])
    for call in (other, third):
        assert ended == []
        answer(call)
    until(lambda: ended == [None])
    assert loaded == [(first.actor.node, ["new"]), (other.actor.node, ["new"])]
    assert all(one.wait(100) and one.error is None for one in running)


def loop_state(loop: Loop, call: FakeCall) -> str:
    """The state of the replica that a call went to, once one of all is about to take another model."""
    until(lambda: any(link.state == "reloading" for link in loop.fleet.links.values()))
    return next(link.state for link in loop.fleet.links.values() if link.actor is call.actor)


def test_a_model_that_a_replica_refuses_does_not_replace_the_old_one(make: Make) -> None:
    cluster, loop = make(1, 1)
    cluster.loads = lambda actor, arguments: ModelError("wrong") if arguments[4] == ["new"] else facts()
    ended: list[Any] = []
    loop.post(lambda: loop.fleet.replace(Load(b"", "CPU", {}, ["new"], "new"), ended.append))
    until(lambda: bool(ended))
    assert str(ended[0]) == "wrong"
    until(lambda: len(loop.fleet.ready) == 2)
    inference, _ = start(loop)
    answer(next_call(cluster))
    assert inference.wait(100)
    assert inference.error is None


def test_closing_finishes_what_was_started_and_ends_the_replicas(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=1))
    first, second = start(loop)[0], start(loop)[0]
    loop.close()
    late, _ = start(loop)
    assert late.wait(100)
    assert "is closed" in str(late.error)
    for inference in (first, second):
        assert not inference.is_over
        answer(next_call(cluster))
        assert inference.wait(100)
        assert inference.error is None
    until(lambda: all(actor.killed for actor in cluster.actors))


def test_replicas_that_are_shared_are_found_limited_and_left(make: Make) -> None:
    cluster = FakeCluster(1, 1)
    cluster.service = "name"
    cluster.existing = [("name/node1/1/0", "node1", 1)]
    cluster, loop = make(cluster=cluster)
    until(lambda: len(loop.fleet.ready) == 2)
    assert sorted(actor.name for actor in cluster.actors) == ["name/node0/1/0", "name/node1/1/0"]
    until(lambda: [one.limit for one in loop.scheduler.replicas.values()] == [1, 1])  # the share that they answer
    loop.close()
    until(lambda: sorted(cluster.left) == ["name/node0/1/0", "name/node1/1/0"])
    assert not any(actor.killed for actor in cluster.actors)

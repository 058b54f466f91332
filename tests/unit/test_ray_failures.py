"""What RAY does when replicas, nodes or the cluster fail, on a cluster whose replicas answer what the test says."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.fake_cluster import (
    SILENCE,
    Dead,
    FakeActor,
    FakeCluster,
    Lost,
    Make,
    answer,
    facts,
    make,
    next_call,
    start,
    until,
)

from cpuruntime.devices.interface import Terms
from cpuruntime.devices.ray import health
from cpuruntime.devices.ray.fleet import DEATHS
from cpuruntime.devices.ray.links import Load, Wish
from cpuruntime.devices.ray.replica import UNLOADED
from cpuruntime.devices.ray.scaling import NodeState
from cpuruntime.devices.ray.schedule import RETRIES
from cpuruntime.errors import DeadlineExceededError, DeviceUnavailableError
from cpuruntime.properties.hint import Priority

__all__ = ["make"]


def test_what_a_lost_replica_had_runs_on_another_one_and_late_news_change_nothing(make: Make) -> None:
    cluster, loop = make(1, 1)
    inference, results = start(loop)
    first = next_call(cluster)
    first.answer(None, Lost("killed"))
    second = next_call(cluster)
    assert second.actor is not first.actor
    answer(second)
    assert inference.wait(100)
    assert (inference.error, len(results)) == (None, 1)
    until(lambda: len(loop.fleet.ready) == 2)  # it was asked again after a pause


def test_what_is_lost_on_each_replica_fails_in_the_end(make: Make) -> None:
    cluster, loop = make(1, 1)
    inference, _ = start(loop)
    for _ in range(RETRIES + 1):
        next_call(cluster).answer(None, Lost("killed"))
    assert inference.wait(100)
    assert isinstance(inference.error, DeviceUnavailableError)
    assert f"lost on {RETRIES + 1} replicas" in str(inference.error)


def test_a_replica_that_was_started_again_loads_the_model_first(make: Make) -> None:
    cluster, loop = make(1)
    loads: list[Any] = []
    cluster.loads = lambda actor, arguments: (loads.append(actor), facts())[1]
    inference, _ = start(loop)
    next_call(cluster).answer(UNLOADED, None)
    answer(next_call(cluster))
    assert inference.wait(100)
    assert inference.error is None
    assert len(loads) == 1


def test_a_dead_replica_is_replaced(make: Make) -> None:
    cluster, loop = make(1)
    inference, _ = start(loop)
    next_call(cluster).answer(None, Dead("for good"))
    answer(next_call(cluster))
    assert inference.wait(100)
    assert inference.error is None
    assert [actor.killed for actor in cluster.actors] == [True, False]


def test_a_cluster_that_vanishes_fails_what_waits_and_what_comes_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_head() -> list[NodeState]:
        raise OSError("no head")

    cluster, loop = make(1)
    monkeypatch.setattr("cpuruntime.devices.ray.loop.PATIENCE", 1)
    monkeypatch.setattr(cluster, "nodes", no_head)
    first, _ = start(loop)
    cluster.calls.get(timeout=100).answer(None, Dead())
    for inference in (first, start(loop)[0]):
        assert inference.wait(100)
        assert isinstance(inference.error, DeviceUnavailableError)
        assert "no replica" in str(inference.error)


def test_leaving_the_cluster_fails_what_waits_what_runs_and_what_comes_later(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=1))
    running, results = start(loop)
    call = next_call(cluster)
    waiting, _ = start(loop)
    cluster.has_left = True
    assert all(one.wait(100) for one in (running, waiting))
    late, _ = start(loop)
    assert late.wait(100)
    assert [str(one.error) for one in (running, waiting, late)] == ["left"] * 3
    answer(call)
    loop.close()
    assert loop.settled.wait(100)
    assert results == []


def test_a_replica_that_hangs_delays_neither_deadlines_nor_the_end(make: Make) -> None:
    cluster, loop = make(1)
    actor = cluster.actors[0]
    inference, results = start(loop, Terms(Priority.MEDIUM, time.perf_counter_ns() + 50_000_000))
    call = cluster.calls.get(timeout=100)
    assert inference.wait(100)
    assert isinstance(inference.error, DeadlineExceededError)
    loop.close()
    end = time.monotonic() + 100
    while not actor.killed:
        assert time.monotonic() < end
        time.sleep(0.001)
    answer(call)  # too late
    assert results == []


class Loads:
    """Answers to calls of `load`: first these errors, then the model is there."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.actors: list[FakeActor] = []

    def __call__(self, actor: FakeActor, arguments: tuple[Any, ...]) -> Any:
        self.actors.append(actor)
        return self.errors.pop(0) if self.errors else facts()


@pytest.mark.parametrize("error", [Lost("no process yet"), Dead("for good")])
def test_a_replica_that_does_not_start_is_tried_again(make: Make, error: Lost) -> None:
    cluster = FakeCluster(1)
    cluster.loads = Loads(error, error)
    cluster, loop = make(cluster=cluster)  # is settled
    assert len(loop.fleet.ready) == 1
    assert loop.fleet.problems() == []
    assert len({*cluster.loads.actors}) == (3 if isinstance(error, Dead) else 1)


def test_why_a_replica_has_not_started_is_said(make: Make) -> None:
    cluster = FakeCluster(1, 2)
    cluster.loads = lambda actor, arguments: facts() if actor.node == "node0" else Lost("no\nprocess yet")
    cluster.pings = lambda actor: 1 if actor.node == "node0" else Lost("no process yet")
    _, loop = make(cluster=cluster, settles=False)
    until(lambda: len(loop.fleet.ready) == 1 and len(loop.fleet.troubles) == 1)
    (problem,) = loop.fleet.problems()
    assert problem.startswith("node node1: a replica failed ")
    assert problem.endswith("times in turn and is tried again; the last time with Lost: no process yet")


def test_a_node_whose_replica_ends_whenever_it_loads_the_model_has_none(make: Make) -> None:
    cluster = FakeCluster(1)
    cluster.loads = Loads(*[Lost("out of memory")] * DEATHS)
    _, loop = make(cluster=cluster)
    (error,) = loop.fleet.refusals.values()
    assert isinstance(error, DeviceUnavailableError)
    assert f"failed {DEATHS} times in turn while it loaded the model" in str(error)
    assert "Lost: out of memory" in str(error)
    assert [actor.killed for actor in cluster.actors] == [True]


def test_a_node_that_has_served_is_never_given_up(make: Make) -> None:
    cluster, loop = make(1)
    cluster.loads = Loads(*[Lost("out of memory")] * DEATHS)
    inference, _ = start(loop)
    next_call(cluster).answer(None, Lost("killed"))
    answer(next_call(cluster))
    assert inference.wait(100)
    assert len(cluster.loads.actors) == DEATHS + 1


def test_a_change_of_the_model_ends_where_replicas_end_with_the_new_one(make: Make) -> None:
    cluster, loop = make(1)
    cluster.loads = lambda actor, arguments: Lost("out of memory") if arguments[4] == ["new"] else facts()
    ended: list[Any] = []
    loop.post(lambda: loop.fleet.replace(Load(b"", "CPU", {}, ["new"], "new"), ended.append))
    until(lambda: bool(ended))
    assert "Lost: out of memory" in str(ended[0])
    until(lambda: len(loop.fleet.ready) == 1)


def test_late_news_of_a_replica_that_serves_again_change_nothing(make: Make) -> None:
    cluster, loop = make(1, wish=Wish(cpus=1, ongoing=2))
    cluster.loads = Loads()
    running = [start(loop)[0] for _ in range(2)]
    first, second = next_call(cluster), next_call(cluster)
    first.answer(None, Lost("killed"))
    answer(next_call(cluster))  # it serves again
    second.answer(None, Lost("killed"))
    answer(next_call(cluster))
    assert all(one.wait(100) and one.error is None for one in running)
    assert len(cluster.loads.actors) == 1


@pytest.mark.parametrize("answer", [Lost("killed"), 2])  # an error, or the number of another process
def test_an_idle_replica_whose_process_ends_loads_the_model_before_it_is_needed(
    make: Make, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(health, "PERIOD", 1_000_000)
    cluster, loop = make(1)
    cluster.loads = Loads()
    pings = [answer]
    cluster.pings = lambda actor: pings.pop() if pings else 1
    until(lambda: len(cluster.loads.actors) == 1 and len(loop.fleet.ready) == 1)


def test_a_replica_that_hangs_is_ended_and_its_requests_run_elsewhere(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PERIOD", 1_000_000)
    monkeypatch.setattr(health, "SILENCE", 50_000_000)
    cluster, loop = make(1)
    inference, results = start(loop)
    hanging = next_call(cluster)
    cluster.pings = lambda actor: SILENCE if actor is hanging.actor else 1
    following = next_call(cluster)  # without a deadline
    assert hanging.actor.killed
    assert following.actor is not hanging.actor
    answer(hanging)  # too late
    answer(following)
    assert inference.wait(100)
    assert (inference.error, len(results)) == (None, 1)
    assert loop.scheduler.ongoing == 0


def test_a_replica_that_has_not_started_is_not_taken_for_one_that_hangs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SILENCE", 1_000_000)
    cluster = FakeCluster(1, 1)
    cluster.loads = lambda actor, arguments: SILENCE if actor.node == "node1" else facts()
    cluster.pings = lambda actor: SILENCE if actor.node == "node1" else 1
    _, loop = make(cluster=cluster, settles=False)
    until(lambda: len(loop.fleet.ready) == 1)
    time.sleep(0.05)
    assert [actor.killed for actor in cluster.actors] == [False, False]
    assert any("waits for its process" in problem for problem in loop.fleet.problems())

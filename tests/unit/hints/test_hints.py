"""From hints to streams: each setting, each kind of machine, the reasons; and what holds for every plan."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.machines import machine, rows_of

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.hints import StreamPlan, StreamSizes, alternatives, plan_streams
from cpuruntime.host.processors import Cache
from cpuruntime.host.topology import Topology
from cpuruntime.operators.demand import Demand, NodeDemand
from cpuruntime.properties import PROPERTIES, parse

PLAIN = machine([[2, 2, 0, 0, 0, 0]])
SMT = machine([[12, 6, 0, 6, 0, 0]])
HYBRID = machine([[20, 6, 8, 6, 0, 0]])
SERVER = machine([[208, 104, 0, 104, -1, -1], [104, 52, 0, 52, 0, 0], [104, 52, 0, 52, 1, 1]])
MANY_SLOW = machine([[12, 2, 8, 2, 0, 0]])

COMPUTE = Demand((NodeDemand("conv", "Conv", 10**9, 2**18, 2**20),))
"""A model that any cache holds."""


def plan(
    topology: Topology, demand: Demand | None = COMPUTE, sizes: StreamSizes | None = None, **config: Any
) -> StreamPlan:
    return plan_streams(parse(config, PROPERTIES, "tests"), topology, demand, sizes)


def rows(topology: Topology, **config: Any) -> list[list[int | str]]:
    return rows_of(plan(topology, **config).streams)


def test_two_cores() -> None:
    assert plan(PLAIN).shares == ((0, 1),)
    for hint in ("THROUGHPUT", "CUMULATIVE_THROUGHPUT"):
        assert plan(PLAIN, PERFORMANCE_HINT=hint).shares == ((0,), (1,))
        assert plan(PLAIN, None, PERFORMANCE_HINT=hint).shares == ((0,), (1,)), "without a known demand"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"NUM_STREAMS": "AUTO"}, [[2, "P", 1, 0, 0]]),
        ({"NUM_STREAMS": "NUMA"}, [[1, "P", 2, 0, 0]]),
        ({"NUM_STREAMS": 1, "PERFORMANCE_HINT": "THROUGHPUT"}, [[1, "P", 2, 0, 0]]),
        ({"NUM_STREAMS": 2}, [[2, "P", 1, 0, 0]]),
        ({"NUM_STREAMS": 9}, [[2, "P", 1, 0, 0]]),
        ({"NUM_STREAMS": 2, "PERFORMANCE_HINT_NUM_REQUESTS": 1, "PERFORMANCE_HINT": "THROUGHPUT"}, [[1, "P", 2, 0, 0]]),
        ({"INFERENCE_NUM_THREADS": 1}, [[1, "P", 1, 0, 0]]),
        ({"INFERENCE_NUM_THREADS": 64}, [[1, "P", 2, 0, 0]]),
        ({"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "THROUGHPUT"}, [[1, "P", 1, 0, 0]]),
        ({"PERFORMANCE_HINT_NUM_REQUESTS": 1, "PERFORMANCE_HINT": "THROUGHPUT"}, [[1, "P", 2, 0, 0]]),
    ],
)
def test_settings_on_two_cores(config: dict[str, Any], expected: list[list[int | str]]) -> None:
    assert rows(PLAIN, **config) == expected


def test_no_streams() -> None:
    found = plan(PLAIN, NUM_STREAMS=0, PERFORMANCE_HINT="THROUGHPUT")
    assert (found.streams, found.pin, found.threads, found.total_threads) == ((), False, 1, 0)
    assert str(found).startswith("no streams: inferences run in the thread that asks for them")


def test_siblings_are_left_out_for_latency_and_on_several_nodes() -> None:
    throughput = {"PERFORMANCE_HINT": "THROUGHPUT"}
    assert not plan(SMT).hyper_threading
    assert plan(SMT).shares == ((0, 1, 2, 3, 4, 5),)
    assert plan(SMT, **throughput).hyper_threading
    assert not plan(SERVER, **throughput).hyper_threading
    assert not plan(PLAIN, ENABLE_HYPER_THREADING=True).hyper_threading, "there is none"
    assert plan(SMT, ENABLE_HYPER_THREADING=True).shares == (tuple(range(12)),)
    assert plan(SMT, ENABLE_HYPER_THREADING=False, **throughput).total_threads == 6
    assert plan(SERVER, ENABLE_HYPER_THREADING=True, **throughput).total_threads == 208


@pytest.mark.parametrize(
    ("topology", "core_type", "types", "became"),
    [
        (HYBRID, "PCORE_ONLY", {"P"}, "PCORE_ONLY"),
        (HYBRID, "ECORE_ONLY", {"E"}, "ECORE_ONLY"),
        (SMT, "ECORE_ONLY", {"P"}, "ANY_CORE"),
        (machine([[4, 0, 4, 0, 0, 0]]), "PCORE_ONLY", {"E"}, "ANY_CORE"),
    ],
)
def test_core_types(topology: Topology, core_type: str, types: set[str], became: str) -> None:
    found = plan(topology, SCHEDULING_CORE_TYPE=core_type)
    assert {stream.type for stream in found.streams} == types
    assert found.core_type == became
    assert any(core_type in reason for reason in found.reasons)


def test_latency_on_fast_and_slow_cores() -> None:
    assert rows(HYBRID) == [[1, "P", 6, 0, 0]]
    found = plan(MANY_SLOW)
    assert rows_of(found.streams) == [[1, "ALL", 10, 0, 0], [0, "P", 2, 0, 0], [0, "E", 8, 0, 0]]


@pytest.mark.parametrize(
    ("quota", "expected", "why"),
    [
        (1, [[1, "P", 1, 0, 0]], "leaves no E core"),
        (2, [[1, "P", 2, 0, 0]], "leaves no E core"),
        (3, [[1, "P", 2, 0, 0]], "1 E core would hold up 2 P cores more than it adds"),
        (5, [[1, "P", 2, 0, 0]], "3 E cores would hold up 2 P cores more than they add"),
        (6, [[1, "ALL", 6, 0, 0], [0, "P", 2, 0, 0], [0, "E", 4, 0, 0]], "4 E cores help 2 P cores"),
    ],
)
def test_slow_cores_that_the_quota_withholds_do_not_help(quota: int, expected: list[Any], why: str) -> None:
    found = plan(machine([[10, 2, 8, 0, 0, 0]], quota))
    assert rows_of(found.streams) == expected
    assert any(why in reason for reason in found.reasons)
    assert found.pin == (quota < 6)


def test_pinning() -> None:
    assert plan(PLAIN).pin
    assert not plan(PLAIN, ENABLE_CPU_PINNING="NO").pin
    assert not plan(MANY_SLOW).pin, "one stream on P and E cores"
    assert plan(MANY_SLOW, ENABLE_CPU_PINNING="YES").pin
    assert plan(MANY_SLOW, ENABLE_CPU_RESERVATION=True).pin
    assert plan(MANY_SLOW, PERFORMANCE_HINT="THROUGHPUT").pin


def test_one_inference_over_two_sockets() -> None:
    found = plan(SERVER, MODEL_DISTRIBUTION_POLICY="TENSOR_PARALLEL")
    assert [(part.socket, len(part.cpus)) for part in found.streams[0].parts] == [(0, 32), (1, 32)]
    limited = plan(SERVER, MODEL_DISTRIBUTION_POLICY="TENSOR_PARALLEL", INFERENCE_NUM_THREADS=104)
    assert rows_of(limited.streams) == [[1, "P", 52, 0, 0]], "a limit keeps it on the caller's socket"


def test_the_caller_s_node_comes_first() -> None:
    turned = machine([[8, 8, 0, 0, -1, -1], [4, 4, 0, 0, 1, 1], [4, 4, 0, 0, 0, 0]])
    assert {part.node for part in plan(turned).streams[0].parts} == {1}
    assert [stream.node for stream in plan(turned, NUM_STREAMS=2).streams] == [1, 0]


@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
@pytest.mark.parametrize("topology", [SMT, HYBRID, SERVER, MANY_SLOW])
@pytest.mark.parametrize("quota", [1, 2, 3, 5, 1000])
def test_no_more_threads_than_the_quota(hint: str, topology: Topology, quota: int) -> None:
    limited = Topology(topology.cpus, quota, node=topology.node)
    found = plan(limited, PERFORMANCE_HINT=hint)
    assert 1 <= found.total_threads <= quota
    assert plan(limited, NUM_STREAMS=4, PERFORMANCE_HINT=hint).total_threads <= quota
    assert any("quota" in reason for reason in found.reasons) == (quota < 1000)


def test_no_processor_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="no processor"):
        plan(Topology(()))


def test_a_demand_decides_how_large_streams_are() -> None:
    """Values of 16 streams outgrow the shared cache, those of 4 do not; with few values each core has its stream."""
    caches = (Cache(2, 2**20, (0,)), Cache(3, 2**25, tuple(range(16))))
    topology = machine([[16, 16, 0, 0, 0, 0]], caches=caches)
    large = Demand(tuple(NodeDemand(f"add{i}", "Add", 10**6, 6 * 2**20, 0) for i in range(9)))
    config = {"PERFORMANCE_HINT": "THROUGHPUT"}
    assert rows_of(plan(topology, COMPUTE, **config).streams) == [[16, "P", 1, 0, 0]]
    assert rows_of(plan(topology, large, **config).streams) == [[4, "P", 4, 0, 0]]
    assert any("cache of 32 MiB for 16 cores" in reason for reason in plan(topology, large, **config).reasons)
    unknown = plan(topology, Demand((), unknown=3), **config)
    assert rows_of(unknown.streams) == [[4, "P", 4, 0, 0]]
    assert any("not known" in reason for reason in unknown.reasons)


def test_what_was_measured_overrules_the_estimate() -> None:
    found = plan(SMT, sizes=StreamSizes(3, 4, "measured"), PERFORMANCE_HINT="THROUGHPUT")
    assert [len(share) for share in found.shares] == [4, 4, 4]
    assert "measured" in found.reasons
    kept = plan(SMT, sizes=StreamSizes(0, 0, "measured"), PERFORMANCE_HINT="THROUGHPUT")
    assert kept.shares == plan(SMT, PERFORMANCE_HINT="THROUGHPUT").shares
    assert "measured" in kept.reasons


def shapes(topology: Topology, **config: Any) -> set[tuple[int, int]]:
    found = alternatives(parse(config, PROPERTIES, "tests"), topology, COMPUTE)
    assert len({plan.shares for _, plan in found}) == len(found) <= 6
    assert found[0][0].streams == 0
    return {(len(plan.streams), plan.threads) for _, plan in found}


def test_what_is_worth_measuring() -> None:
    assert shapes(PLAIN) == {(1, 1), (1, 2)}
    assert shapes(PLAIN, PERFORMANCE_HINT="THROUGHPUT") == {(2, 1), (1, 2)}
    assert shapes(PLAIN, NUM_STREAMS=0) == {(0, 1)}
    assert shapes(PLAIN, NUM_STREAMS=2) == {(2, 1)}
    assert shapes(SMT, PERFORMANCE_HINT="THROUGHPUT") >= {(6, 2), (3, 2), (12, 1), (6, 1)}
    assert shapes(HYBRID) >= {(1, 6), (1, 14), (1, 3)}
    limits = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": 4, "PERFORMANCE_HINT_NUM_REQUESTS": 2}
    assert all(streams <= 2 and streams * threads <= 4 for streams, threads in shapes(SERVER, **limits))


def test_the_plan_is_printed_as_a_table() -> None:
    assert str(plan(HYBRID, PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=9)).splitlines()[:5] == [
        "9 streams, 18 threads, pinned",
        "streams  core type  threads  node  socket  cpus",
        "0-2      P          2        0     0       0-1  2-3  4-5",
        "3-6      E          2        0     0       6-7  8-9  10-11  12-13",
        "7-8      HT         2        0     0       14-15  16-17",
    ]
    assert "1 stream, 1 thread, not pinned" in str(plan(PLAIN, INFERENCE_NUM_THREADS=1, ENABLE_CPU_PINNING=False))


def random_machine(generator: random.Random) -> Topology:
    """One to four nodes of one or two sockets, with or without siblings, slow cores and a quota."""
    nodes = generator.randint(1, 4)
    sockets = generator.choice([1, 2])
    slow, twins = generator.random() < 0.3, generator.random() < 0.5
    found = []
    for node in range(nodes):
        fast, efficient = generator.randint(1, 20), generator.randint(1, 16) if slow else 0
        siblings = fast if twins else 0
        found.append([fast + efficient + siblings, fast, efficient, siblings, node, node % sockets])
    total = [sum(column) for column in zip(*(row[:4] for row in found))]
    return machine([[*total, -1, -1], *found] if nodes > 1 else found, generator.choice([None, None, 1, 2, 3, 7, 30]))


def random_settings(generator: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": generator.choice(["LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"])}
    choices = {
        "NUM_STREAMS": ["AUTO", "NUMA", 1, 2, 3, 5, 8, 100],
        "INFERENCE_NUM_THREADS": [1, 2, 3, 5, 8, 13, 21, 500],
        "PERFORMANCE_HINT_NUM_REQUESTS": [1, 2, 3, 4, 9],
        "ENABLE_HYPER_THREADING": [True, False],
        "SCHEDULING_CORE_TYPE": ["PCORE_ONLY", "ECORE_ONLY"],
        "MODEL_DISTRIBUTION_POLICY": ["TENSOR_PARALLEL"],
        "ENABLE_CPU_PINNING": [True, False],
    }
    return config | {name: generator.choice(values) for name, values in choices.items() if generator.random() < 0.3}


def random_demand(generator: random.Random) -> Demand:
    return Demand(tuple(
        NodeDemand(f"n{i}", "Conv", 10 ** generator.randint(3, 10), 2 ** generator.randint(8, 26), 2 ** i)
        for i in range(generator.randint(0, 20))
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(300))
def test_what_holds_for_every_plan(seed: int) -> None:
    generator = random.Random(seed)
    topology, config, demand = random_machine(generator), random_settings(generator), random_demand(generator)
    settings = parse(config, PROPERTIES, "tests")
    for _, found in alternatives(settings, topology, demand):
        used = [cpu for share in found.shares for cpu in share]
        assert used, (config, topology)
        assert all(found.shares), "a stream has a thread"
        assert len(used) == len(set(used)), "no two threads share a processor"
        assert set(used) <= {cpu.index for cpu in topology.cpus}
        assert len(used) <= min(topology.usable, config.get("INFERENCE_NUM_THREADS", 10**6))
        known = {cpu.index: cpu for cpu in topology.cpus}
        for stream in found.streams:
            assert stream.node in (-1, *{known[cpu].node for cpu in stream.cpus})
            if stream.node >= 0:
                assert {known[cpu].node for cpu in stream.cpus} == {stream.node}
            if stream.socket >= 0:
                assert {known[cpu].socket for cpu in stream.cpus} == {stream.socket}
        if not found.hyper_threading:
            ranks = topology.ranks()
            assert all(ranks[cpu] == 0 for cpu in used)
        many = isinstance(config.get("NUM_STREAMS"), int) and config["NUM_STREAMS"] > 1
        if many:
            assert len(found.streams) <= config["NUM_STREAMS"]
        if many or "NUM_STREAMS" not in config:
            assert len(found.streams) <= config.get("PERFORMANCE_HINT_NUM_REQUESTS", 10**6)
        assert len(found.reasons) >= 2

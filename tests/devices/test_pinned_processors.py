"""Models and processes keep off each other's processors: crashes, forks, closed models, reservations."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import onnx_models
from support.stream_tasks import Gate

import cpuruntime as ov
from cpuruntime.devices.cpu.streams.placement import around, place
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.hints import StreamPlan, plan_streams
from cpuruntime.host.assignment import Holder
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.ledger import Lease, Ledger
from cpuruntime.host.processors import Cpu
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings, of_device
from cpuruntime.properties.hint import SchedulingCoreType
from cpuruntime.store import Folder
from cpuruntime.testing.probes import device_of

pytestmark = pytest.mark.usefixtures("ledger")

ROOT = Path(__file__).resolve().parents[2]
several = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
ONE = {"INFERENCE_NUM_THREADS": 1}


def compiled(**config: object) -> ov.CompiledModel:
    return ov.compile_model(onnx_models.one_input(), "CPU", config)


def cpus(model: ov.CompiledModel) -> list[int]:
    return [cpu for share in model.get_property("PINNED_CPUS") for cpu in share]


def leased() -> list[tuple[int, ...]]:
    return [holder.cpus for holder in Ledger().holders()]


@contextmanager
def process(script: str) -> Iterator[subprocess.Popen[str]]:
    """A script that prints when it is ready and then reads its input; killed at the end."""
    preamble = f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    preamble += "from cpuruntime.host.ledger import Ledger\nfrom cpuruntime.host.assignment import ProcessorRequest\n"
    preamble += "def take():\n    with Ledger().open() as snapshot:\n"
    preamble += "        return snapshot.lease([ProcessorRequest((0, 1), 1)], 'other')\n"
    child = subprocess.Popen(
        [sys.executable, "-c", preamble + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_killed_process_holds_nothing() -> None:
    with process("lease = take(); print(lease.cpus, flush=True); sys.stdin.read()") as child:
        assert line(child) == "((0,),)"
        (holder,) = Ledger().holders()
        assert (holder.pid, holder.name, holder.cpus) == (child.pid, "other", (0,))
        child.kill()
        child.wait()
        assert leased() == []


def test_processes_that_choose_at_the_same_time_choose_differently() -> None:
    script = """
sys.stdin.readline()
with Ledger().open() as snapshot:
    lease = snapshot.lease([ProcessorRequest(tuple(range(4)), 1)])
print(lease.cpus[0][0], flush=True)
sys.stdin.read()
"""
    with process(script) as a, process(script) as b, process(script) as c, process(script) as d:
        for child in (a, b, c, d):
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        assert sorted(line(child) for child in (a, b, c, d)) == ["0", "1", "2", "3"]


def test_a_forked_child_holds_nothing_and_gives_back_nothing() -> None:
    script = """
lease = take()
read, write = os.pipe()
if not os.fork():
    os.close(write)
    lease.release()
    print("released", lease.is_held, flush=True)
    os.read(read, 1)
    os._exit(0)
sys.stdin.read()
"""
    with process(script) as child:
        assert line(child) == "released False"
        assert [holder.pid for holder in Ledger().holders()] == [child.pid]
        child.kill()
        # The forked child lives on, until it reads the end of the pipe, and the parent's lease is over.
        child.wait()
        assert leased() == []


def test_a_child_of_foreign_code_does_not_keep_what_was_given_back() -> None:
    with process(
        "import ctypes; lease = take(); pid = ctypes.CDLL(None).fork()\nif pid == 0: sys.stdin.read()\n"
        "else: lease.release(); print('given back', flush=True); sys.stdin.read()"
    ) as child:
        assert line(child) == "given back"
        assert leased() == []


@several
def test_two_models_of_one_thread_get_different_processors() -> None:
    first, second = compiled(**ONE), compiled(**ONE)
    assert cpus(first) != cpus(second)
    assert f"CPU {cpus(first)[0]} is pinned by this process" in str(second.explain())
    third = compiled(**ONE)
    assert "is shared with this process" in str(third.explain()) or len(os.sched_getaffinity(0)) > 2
    first_cpus = cpus(first)
    del first, third
    assert cpus(compiled(**ONE)) == first_cpus


@several
def test_a_model_that_came_later_is_seen() -> None:
    first = compiled(**ONE)
    assert "too by now" not in str(first.explain())
    everywhere = compiled()
    assert f"CPU {cpus(first)[0]} is pinned by this process (model 'negation') too by now" in str(first.explain())
    assert "too by now" not in str(everywhere.explain())


@several
def test_another_process_is_avoided() -> None:
    with process("lease = take(); print('ready', flush=True); sys.stdin.read()") as child:
        line(child)
        model = compiled(**ONE)
        assert cpus(model) == [sorted(os.sched_getaffinity(0))[1]]
        assert f"CPU 0 is pinned by process {child.pid} (model 'other')" in str(model.explain())


def test_closed_models_give_their_processors_back() -> None:
    with compiled() as model:
        assert leased() == [tuple(cpus(model))]
    assert leased() == []


def test_a_closed_model_keeps_its_processors_until_its_inferences_are_over() -> None:
    before = set(threading.enumerate())
    model = compiled(**ONE)
    request = model.create_infer_request()
    gate = Gate(device_of(model).executor)
    request.start_async([np.zeros(model.input().shape, np.float32)])
    with model:
        pass
    assert len(leased()) == 1
    gate.open()
    request.wait()
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert leased() == []


def test_threads_that_are_not_pinned_lease_nothing() -> None:
    models = [compiled(ENABLE_CPU_PINNING=False), compiled(NUM_STREAMS=0)]
    assert leased() == []
    assert [model.get_property("PINNED_CPUS") for model in models] == [[], []]


@pytest.mark.parametrize("config", [{}, {"LATENCY_TARGET_MS": 1000}])
def test_a_model_that_does_not_compile_leaves_no_lease(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, object]
) -> None:
    def fail(*_: object) -> None:
        raise DeviceUnavailableError("no streams")

    monkeypatch.setattr("cpuruntime.devices.cpu.model.create_executor", fail)
    with pytest.raises(DeviceUnavailableError, match="no streams"):
        compiled(**config)
    assert leased() == []


@several
def test_reserved_processors_are_left_to_their_model() -> None:
    reserved = compiled(ENABLE_CPU_RESERVATION=True, **ONE)
    assert reserved.get_property("ENABLE_CPU_RESERVATION") is True
    (own,) = cpus(reserved)
    other = compiled()
    assert set(cpus(other)) == os.sched_getaffinity(0) - {own}
    assert f"CPU {own} is reserved by this process" in str(other.explain())
    with pytest.raises(DeviceUnavailableError, match=r"can be had: CPUs? .* pinned by this process"):
        compiled(ENABLE_CPU_RESERVATION=True)
    del other
    rest = compiled(ENABLE_CPU_RESERVATION=True)
    with pytest.raises(DeviceUnavailableError, match=r"all that this process may use, and reserved by this process"):
        compiled()
    del rest, reserved
    assert len(cpus(compiled())) == len(os.sched_getaffinity(0))


HINTS = [
    {"PERFORMANCE_HINT": "LATENCY"},
    {"PERFORMANCE_HINT": "THROUGHPUT"},
    {"PERFORMANCE_HINT": "CUMULATIVE_THROUGHPUT"},
    {"PERFORMANCE_HINT": "THROUGHPUT", "STREAMS_CALIBRATION_MS": 1},
    {"PERFORMANCE_HINT": "LATENCY", "STREAMS_CALIBRATION_MS": 1},
    {"PERFORMANCE_HINT": "THROUGHPUT", "LATENCY_TARGET_MS": 1000},
]


@several
@pytest.mark.parametrize("config", HINTS)
def test_every_hint_plans_beside_reserved_processors(
    config: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpuruntime.devices.cpu.streams.calibration.cache_folder", lambda: Folder(None))
    reserved = compiled(ENABLE_CPU_RESERVATION=True, **ONE)
    left = os.sched_getaffinity(0) - set(cpus(reserved))
    assert set(cpus(compiled(**config))) <= left


@several
def test_throughput_beside_processors_that_another_process_has_reserved() -> None:
    script = """
with Ledger().open() as snapshot:
    lease = snapshot.lease([ProcessorRequest((0,), 1)], exclusive=True)
print("ready", flush=True)
sys.stdin.read()
"""
    with process(script) as child:
        line(child)
        model = compiled(PERFORMANCE_HINT="THROUGHPUT")
        assert set(cpus(model)) == os.sched_getaffinity(0) - {0}
        assert f"reserved by process {child.pid}" in str(model.explain())


@several
def test_models_of_a_process_use_no_more_processors_than_its_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuruntime.host.topology.cpu_quota", lambda root: Quota(1.5, 77))
    models = [compiled(), compiled(), compiled(PERFORMANCE_HINT="THROUGHPUT")]
    assert len({tuple(cpus(model)) for model in models}) == 1
    assert "models use no more processors than the control group's CPU quota allows" in str(models[1].explain())
    assert "quota allows" not in " ".join(text for text in models[0].explain().decisions if "shared" in text)
    assert {holder.group for holder in Ledger().holders()} == {77}


@several
def test_reserved_processors_count_against_the_quota() -> None:
    four = Topology(tuple(Cpu(i, i) for i in range(4)), 3, group=77)
    plan, lease = placed(four, ENABLE_CPU_RESERVATION=True, INFERENCE_NUM_THREADS=1)
    assert plan.shares == ((0,),)
    plan, other = placed(four)
    assert plan.shares == ((1, 2),)
    assert "reserved processors take 1 of the control group's CPU quota of 3" in plan.reasons
    plan, third = placed(four, INFERENCE_NUM_THREADS=1)
    assert plan.shares == ((1,),)
    assert (lease is None, other is None, third is None) == (False, False, False)


def test_processes_of_a_control_group_share_its_quota() -> None:
    script = """
from cpuruntime.host.cgroup import Quota
with Ledger().open() as snapshot:
    lease = snapshot.lease([ProcessorRequest((2,), 1)], 'other', quota=Quota(1, 77))
print("ready", flush=True)
sys.stdin.read()
"""
    machine = [Topology(tuple(Cpu(i, i) for i in range(4)), 1, group=group) for group in (77, 78)]
    with process(script) as child:
        line(child)
        plan, lease = placed(machine[0])
        assert plan.shares == ((2,),)
        assert f"CPU 2 is shared with process {child.pid} (model 'other'): models use no more" in plan.reasons[-1]
        del lease
        plan, lease = placed(machine[1])
        assert (plan.shares, lease is None) == (((0,),), False)


def test_a_reservation_needs_pinned_threads() -> None:
    for config in ({"ENABLE_CPU_PINNING": False}, {"NUM_STREAMS": 0}):
        with pytest.raises(InvalidArgumentError, match="ENABLE_CPU_RESERVATION needs pinned threads"):
            compiled(ENABLE_CPU_RESERVATION=True, **config)


def test_the_device_tells_who_has_pinned_what() -> None:
    model = compiled(**ONE)
    core = ov.Core()
    (cpu,) = cpus(model)
    assert core.get_property("CPU", "CPU_HOLDERS") == {cpu: [os.getpid()]}
    del model
    assert core.get_property("CPU", "CPU_HOLDERS") == {}


def processors(plan: StreamPlan) -> list[int]:
    return [cpu for share in plan.shares for cpu in share]


def placed(topology: Topology, **config: object) -> tuple[StreamPlan, Lease | None]:
    settings = Settings(of_device("CPU"), config)
    with Ledger().open() as snapshot:
        return place(partial(plan_streams, settings), settings, topology, snapshot, "recorded")


SMT = Topology(tuple(Cpu(i, i % 4, i % 4 // 2) for i in range(8)))
"""Two nodes of two cores of two siblings each: 0 and 4 are one core."""


def test_models_on_a_recorded_machine_share_only_when_all_its_processors_are_taken() -> None:
    kept = []
    pinned: list[int] = []
    for _ in range(8):
        plan, lease = placed(SMT, INFERENCE_NUM_THREADS=1)
        kept.append(lease)
        pinned += processors(plan)
    assert pinned[:4] == [0, 1, 2, 3]
    assert sorted(pinned) == list(range(8))
    plan, lease = placed(SMT, INFERENCE_NUM_THREADS=2)
    assert plan.shares == ((0, 1),)
    assert "CPUs 0-1 are shared with this process (model 'recorded')" in plan.reasons[-1]


def test_streams_of_a_recorded_machine_avoid_each_other_and_others() -> None:
    _, lease = placed(SMT, INFERENCE_NUM_THREADS=2)
    assert lease is not None
    assert lease.cpus == ((0, 1),)
    plan, _other = placed(SMT, PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=4, INFERENCE_NUM_THREADS=4)
    assert len(plan.streams) == 4
    assert {2, 3} < set(processors(plan)) < set(range(2, 8))
    assert [(s.type, s.node, s.socket) for s in plan.streams if s.cpus[0] in (2, 3)] == [("P", 1, 0)] * 2
    assert all(s.type == "HT" and s.node == s.cpus[0] % 4 // 2 for s in plan.streams if s.cpus[0] > 3)


def test_siblings_that_the_user_excludes_are_not_used() -> None:
    one = {"INFERENCE_NUM_THREADS": 1, "ENABLE_HYPER_THREADING": False}
    kept = [placed(SMT, **one) for _ in range(5)]
    assert [processors(plan)[0] for plan, _ in kept] == [0, 1, 2, 3, 0]


def test_core_types_that_the_user_excludes_are_not_used() -> None:
    hybrid = Topology(tuple(Cpu(i, i, type="P" if i < 2 else "E") for i in range(6)))
    fast = {"INFERENCE_NUM_THREADS": 1, "SCHEDULING_CORE_TYPE": SchedulingCoreType.PCORE_ONLY}
    kept = [placed(hybrid, **fast) for _ in range(3)]
    assert [processors(plan)[0] for plan, _ in kept] == [0, 1, 0]
    plan, lease = placed(hybrid, INFERENCE_NUM_THREADS=1)
    assert (plan.streams[0].type, processors(plan)) == ("E", [2])
    assert lease is not None


def test_a_stream_keeps_to_its_node_where_it_can() -> None:
    nodes = Topology(tuple(Cpu(i, i, node=i // 4) for i in range(8)))
    _, lease = placed(nodes, INFERENCE_NUM_THREADS=1)
    plan, other = placed(nodes, INFERENCE_NUM_THREADS=2)
    assert (lease is not None, other is not None) == (True, True)
    assert (plan.shares, plan.streams[0].node) == (((1, 2),), 0)
    plan, third = placed(nodes, INFERENCE_NUM_THREADS=3)
    assert third is not None
    assert (plan.shares, plan.streams[0].node) == (((3, 4, 5),), -1)


def test_a_reservation_on_a_recorded_machine_shrinks_the_next_plan() -> None:
    _, lease = placed(SMT, ENABLE_CPU_RESERVATION=True, INFERENCE_NUM_THREADS=6, ENABLE_HYPER_THREADING=True)
    plan, other = placed(SMT, ENABLE_HYPER_THREADING=True)
    assert lease is not None
    assert other is not None
    assert set(processors(plan)) <= set(range(8)) - set(lease.holder.cpus)


def test_plans_that_are_only_measured_avoid_others_too() -> None:
    settings = Settings(of_device("CPU"), {"INFERENCE_NUM_THREADS": 1})
    plan = plan_streams(settings, SMT)
    assert around(plan, settings, SMT, [Holder(1, "", (0,))]).shares == ((1,),)
    assert around(plan, settings, SMT, []) == plan

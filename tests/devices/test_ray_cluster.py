"""RAY on a real cluster: three simulated nodes on this machine, with a network of their own where it allows that."""

from __future__ import annotations

import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser
from support.on_ray import VARIABLES, added, device, negated
from support.own_network import namespace, own_network
from support.ray_processes import Client, descendants, is_gone, listening, stored_bytes

import cpuruntime as ov
from cpuruntime.devices.ray import fleet, health, model
from cpuruntime.testing.conformance import models
from cpuruntime.testing.conformance.test_device import (  # the others run on replicas in this process
    test_a_callback_runs_once_after_each_inference,
    test_a_cancelled_inference_ends_and_the_next_one_is_whole,
    test_a_queue_shared_by_threads,
    test_dynamic_shapes,
    test_results_are_right_and_keyed_by_port_index_and_name,
    test_several_threads_with_a_request_each,
    test_user_memory_is_read_and_written_in_place,
)

__all__ = [
    "added",
    "device",
    "negated",
    "test_a_callback_runs_once_after_each_inference",
    "test_a_cancelled_inference_ends_and_the_next_one_is_whole",
    "test_a_queue_shared_by_threads",
    "test_dynamic_shapes",
    "test_results_are_right_and_keyed_by_port_index_and_name",
    "test_several_threads_with_a_request_each",
    "test_user_memory_is_read_and_written_in_place",
]

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install cpuruntime[ray]"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes the machine's outer address for 127.0.0.1
    # The machine may be busy with other tests: no workers are started before they are needed, those that start have
    # time, and no replica is ended for memory that others use.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_memory_monitor_refresh_ms": "0",
}
LOOPBACK = ("0100007F:", "0000000000000000FFFF00000100007F:")  # 127.0.0.1, alone and in an address of IPv6
NODE = {"num_cpus": 4, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[str, str]]:
    """The namespace of the machine's network, and why the tests are in it; "" where they have one of their own."""
    machine = namespace()
    with own_network() as refused:
        yield machine, refused


@pytest.fixture(scope="module")
def cluster(network: tuple[str, str]) -> Iterator[Any]:
    """The cluster, with this process connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**VARIABLES, **RAY}.items():
            patch.setenv(name, value)
        patch.setattr(health, "PERIOD", 1_000_000_000)
        import ray  # not above: it reads its variables when it is imported
        from ray.cluster_utils import Cluster

        handler = signal.getsignal(signal.SIGTERM)
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            for _ in range(2):
                cluster.add_node(**NODE)
            cluster.wait_for_nodes(300)
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            signal.signal(signal.SIGTERM, handler)


def processes(compiled: ov.CompiledModel) -> list[int]:
    """The processes of the replicas that serve."""
    return [int(pid) for pid in re.findall(r"ready, process (\d+)", str(compiled.explain()))]


def until(condition: Callable[[], object]) -> None:
    """Wait for what happens elsewhere, where processes may start slowly."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_replica_loses_no_request_and_comes_back(cluster: Any) -> None:
    config = {"NUM_REPLICAS": 2, "REMOTE_DEVICE": "CPU"}
    with ov.Core().compile_model(models.negated(), "RAY", config) as compiled:
        queue, seen = ov.AsyncInferQueue(compiled, 8), []
        queue.set_callback(lambda request, value: seen.append((value, bool((request.results[0] == -value).all()))))
        until(lambda: len(processes(compiled)) == 2)
        victim, other = processes(compiled)
        for value in range(400):
            if value == 150:
                os.kill(victim, signal.SIGKILL)
            queue.start_async(np.full((2, 3), value, np.float32), value)
        queue.wait_all()
        assert sorted(seen) == [(value, True) for value in range(400)]
        until(lambda: len(processes(compiled)) == 2 and victim not in processes(compiled))
        pids = [other, *processes(compiled)]
    until(lambda: all(map(is_gone, pids)))


def test_a_node_that_dies_or_comes_changes_where_requests_run(cluster: Any) -> None:
    with ov.Core().compile_model(models.negated(), "RAY", {"NUM_REPLICAS": "AUTO"}) as compiled:
        until(lambda: compiled.get_property("NUM_REPLICAS") == 3)
        node = cluster.add_node(**NODE)
        try:
            until(lambda: compiled.get_property("NUM_REPLICAS") == 4)
            queue, seen = ov.AsyncInferQueue(compiled, 8), []
            queue.set_callback(lambda request, value: seen.append((value, float(request.results[0][0, 0]))))
            for value in range(100):
                queue.start_async(np.full((2, 3), value, np.float32), value)
        finally:
            cluster.remove_node(node, allow_graceful=False)
        for value in range(100, 300):
            queue.start_async(np.full((2, 3), value, np.float32), value)
        queue.wait_all()
        assert sorted(seen) == [(value, -value) for value in range(300)]
        until(lambda: compiled.get_property("NUM_REPLICAS") == 3)


def test_the_model_is_replaced_while_requests_run(cluster: Any) -> None:
    core = ov.Core()
    with core.compile_model(models.negated(), "RAY", {"NUM_REPLICAS": 2}) as compiled:
        new = models.negated()
        new.graph.node[0].op_type = "Abs"
        queue, seen = ov.AsyncInferQueue(compiled, 4), []
        queue.set_callback(lambda request, _: seen.append(float(request.results[0][0, 0])))
        errors: list[BaseException] = []
        thread = threading.Thread(target=replace, args=(compiled, core.read_model(new), errors))
        thread.start()
        while thread.is_alive():
            queue.start_async(-np.ones((2, 3), np.float32) * 2)
        queue.wait_all()
        thread.join()
        assert errors == []
        assert set(seen) <= {2.0}
        assert compiled(-X)[0].min() >= 0
        with pytest.raises(ov.InvalidArgumentError, match="same ports"):
            compiled.replace(core.read_model(models.added()))
    with pytest.raises(ov.UnsupportedError, match="REFERENCE does not replace"):
        core.compile_model(models.negated(), "REFERENCE").replace(core.read_model(new))


def replace(compiled: ov.CompiledModel, model: ov.Model, errors: list[BaseException]) -> None:
    """Replace a model, in a thread."""
    try:
        compiled.replace(model)
    except BaseException as error:
        errors.append(error)


def test_deadlines_latency_and_errors_come_from_the_replica(negated: ov.CompiledModel) -> None:
    request = negated.create_infer_request()
    request.infer(X)
    anatomy = request.latency_anatomy
    assert anatomy.transferred > 0
    assert anatomy.total >= request.latency * 0.99
    request.start_async(X, deadline_ms=1e-6)
    with pytest.raises(ov.DeadlineExceededError):
        request.wait()
    assert "retries" in str(negated.explain())


def test_multi_serves_locally_first_and_overflows_to_the_cluster(cluster: Any) -> None:
    products = " ".join(f"p{i + 1} = MatMul(p{i}, x)" for i in range(7)).replace("p0", "x")
    graph = f"power (float[512,512] x) => (float[512,512] y) {{ {products} y = MatMul(p7, x) }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {graph}')
    config = {"SCHEDULE_POLICY": "DEVICE_PRIORITY", "DEVICE_PROPERTIES": {"RAY": {"REMOTE_DEVICE": "CPU"}}}
    x = np.diag(np.float32([-1, 1] * 256))
    with ov.Core().compile_model(model, "MULTI:CPU,RAY", config) as compiled:
        for _ in range(3):
            assert (compiled(x)[0] == x).all()
        assert "RAY: 0 inferences" in str(compiled.explain())
        queue, seen = ov.AsyncInferQueue(compiled, 16), []
        queue.set_callback(lambda request, _: seen.append(bool((request.results[0] == x).all())))
        for _ in range(100):
            queue.start_async(x)
        queue.wait_all()
        assert seen == [True] * 100
        text = str(compiled.explain())
    assert re.search(r"RAY: [1-9]\d* inferences", text)
    assert "whose cores this process uses, too" in text


def test_what_cannot_be_says_why(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = ov.Core()
    monkeypatch.setattr(model, "JOINS", 0.5)
    with pytest.raises(ov.DeviceUnavailableError, match=r"No node .* 99 free CPUs .* nodes have \d+ CPUs"):
        core.compile_model(models.negated(), "RAY", {"CPUS_PER_REPLICA": 99})
    with pytest.raises(ov.InvalidArgumentError, match="within itself"):
        core.compile_model(models.negated(), "RAY", {"REMOTE_DEVICE": "MULTI:CPU,RAY"})
    import ray

    def put(value: Any) -> Any:
        raise ray.exceptions.ObjectStoreFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(ray, "put", put)
        with pytest.raises(ov.DeviceUnavailableError, match=r"object store .* ObjectStoreFullError: .*no room"):
            core.compile_model(models.negated(), "RAY")
    monkeypatch.setattr(fleet, "__version__", "0.0.1")
    with pytest.raises(ov.DeviceUnavailableError, match=r"The node has cpuruntime .* and the driver 0\.0\.1"):
        core.compile_model(models.negated(), "RAY")


def test_a_service_is_shared_and_ends_with_its_last_user(cluster: Any) -> None:
    core, config = ov.Core(), {"RAY_SERVICE": "negation"}
    with core.compile_model(models.negated(), "RAY", config) as first:
        with core.compile_model(models.negated(), "RAY", config) as second:
            pids = processes(first)
            assert processes(second) == pids
            for compiled in (first, second):
                assert (compiled(X)[0] == -X).all()
            with pytest.raises(ov.InvalidArgumentError, match="replicas of another model"):
                core.compile_model(models.added(), "RAY", config)
        assert (first(X)[0] == -X).all()
        with pytest.raises(ov.UnsupportedError, match="under another RAY_SERVICE"):
            first.replace(core.read_model(models.negated()))
    until(lambda: all(map(is_gone, pids)))


def test_client_processes_share_a_service_fairly(cluster: Any) -> None:
    config = {"RAY_SERVICE": "shared", "MAX_ONGOING_REQUESTS": 8}
    with Client(config, cluster.address) as first:
        until(lambda: first.state()["calls"] == [8])
        with Client(config, cluster.address) as second:
            until(lambda: first.state()["calls"] == second.state()["calls"] == [4])
            states = first.state(), second.state()
            assert states[0]["replicas"] == states[1]["replicas"]
            assert all(state["served"] > 0 and state["wrong"] == 0 for state in states)
        until(lambda: first.state()["calls"] == [8])
    until(lambda: all(map(is_gone, states[0]["replicas"])))


def test_a_client_that_is_killed_leaves_neither_replicas_nor_objects(cluster: Any) -> None:
    before = stored_bytes()
    clients = [Client({"NUM_REPLICAS": 2}, cluster.address), Client({"RAY_SERVICE": "orphan"}, cluster.address)]
    until(lambda: len(clients[0].state()["replicas"]) == 2)
    pids = [pid for client in clients for pid in client.state()["replicas"]]
    until(lambda: stored_bytes() > before)
    for client in clients:
        client.kill()
    until(lambda: all(map(is_gone, pids)))
    until(lambda: stored_bytes() <= before)


def test_a_replica_that_hangs_is_replaced(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SILENCE", 10_000_000_000)
    with ov.Core().compile_model(models.negated(), "RAY", {"NUM_REPLICAS": 2}) as compiled:
        until(lambda: len(processes(compiled)) == 2)
        victim, _ = processes(compiled)
        queue, seen = ov.AsyncInferQueue(compiled, 8), []
        queue.set_callback(lambda request, value: seen.append((value, bool((request.results[0] == -value).all()))))
        for value in range(100):
            if value == 50:
                os.kill(victim, signal.SIGSTOP)
            queue.start_async(np.full((2, 3), value, np.float32), value)
        queue.wait_all()
        assert sorted(seen) == [(value, True) for value in range(100)]
        until(lambda: is_gone(victim) and len(processes(compiled)) == 2)


def test_all_listen_on_loopback_only(negated: ov.CompiledModel) -> None:
    found = [one for pid in descendants(os.getpid()) for one in listening(pid)]
    assert found
    assert [one for one in found if not one.startswith(LOOPBACK)] == []


def test_the_cluster_has_a_network_of_its_own_with_loopback_alone(
    network: tuple[str, str], negated: ov.CompiledModel
) -> None:
    machine, refused = network
    if refused:
        pytest.skip(refused)
    started, found = descendants(os.getpid()), []
    for pid in started:
        with suppress(OSError):  # it has ended
            found.append((Path(f"/proc/{pid}/comm").read_text().strip(), namespace(pid)))
    assert {"raylet", "gcs_server"} <= {name for name, _ in found}
    assert {*processes(negated)} <= {*started}
    assert {network for _, network in found} == {namespace()} != {machine}
    interfaces = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in interfaces] == ["lo"]

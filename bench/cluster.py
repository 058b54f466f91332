"""Measures device RAY on a cluster of simulated nodes on this machine, which listens on loopback only.

    python bench/cluster.py                  # overhead, throughput beside Ray Serve's handle, share of local throughput
    python bench/cluster.py --part overhead  # or share: one of them alone
    python bench/cluster.py --kills 20000    # so many requests while a replica is killed every second

Drivers, replicas and Ray's own processes share the machine's cores, so all figures are lower bounds. Ray Serve is
measured where `ray[serve]` is installed. Fails where a request is lost or answered twice or wrongly.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import cpuruntime as ov

NODE = {"object_store_memory": 200 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
SMALL = 64
IN_FLIGHT = (1, 16, 64)
IN_CALL = 16
KILLED = 4
"""Replicas of one CPU, whatever the machine has, of which one is killed every second if another one is there."""


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Any]:
    """A cluster with this process connected to it, and a token of its own; it ends with the `with` statement."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray takes the machine's outer address for 127.0.0.1
    }  # fmt: skip
    import ray  # not above: it reads its variables when it is imported
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, **NODE})
    try:
        for _ in range(nodes - 1):
            made.add_node(num_cpus=cpus, **NODE)
        made.wait_for_nodes(60)
        ray.init(made.address, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
        yield ray
    finally:
        ray.shutdown()
        made.shutdown()


def negation() -> onnx.ModelProto:
    """y = -x, 256 bytes: nothing but the way there and back."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SMALL]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negation", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rate(compiled: ov.CompiledModel, x: np.ndarray, requests: int, seconds: float) -> float:
    """Requests a second with so many in flight."""
    queue = ov.AsyncInferQueue(compiled, requests)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(requests):
            queue.start_async(x)
        done += requests
    queue.wait_all()
    return done / (time.perf_counter() - began)


def latency(compiled: ov.CompiledModel, x: np.ndarray, seconds: float) -> np.ndarray:
    """Milliseconds of calls one after the other."""
    request, times = compiled.create_infer_request(), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        request.infer(x)
        times.append(time.perf_counter() - began)
    return np.array(times[len(times) // 10 :]) * 1e3


def serve_rates(seconds: float) -> list[float]:
    """Requests a second through the handle of a Ray Serve deployment that negates the same array, for IN_FLIGHT."""
    from ray import serve

    @serve.deployment(max_ongoing_requests=max(IN_FLIGHT), ray_actor_options={"num_cpus": 1})
    class Negation:
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return -x

    serve.start(proxy_location="Disabled")
    handle = serve.run(Negation.bind(), route_prefix=None)
    x = np.ones((1, SMALL), np.float32)
    handle.remote(x).result()

    def measured(in_flight: int) -> float:
        pending, done, began = [], 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            pending.append(handle.remote(x))
            if len(pending) == in_flight:
                pending.pop(0).result()
                done += 1
        for one in pending:
            one.result()
        return (done + len(pending)) / (time.perf_counter() - began)

    rates = [measured(in_flight) for in_flight in IN_FLIGHT]
    serve.shutdown()
    return rates


def overheads(seconds: float) -> None:
    """What a small request costs, alone and with others, beside Ray Serve."""
    x, core = np.ones((1, SMALL), np.float32), ov.Core()
    config = {"NUM_REPLICAS": 1, "CPUS_PER_REPLICA": 1}
    with core.compile_model(negation(), "RAY", config) as compiled:
        times = latency(compiled, x, seconds)
        print(f"infer() of 256 bytes: median {np.median(times):.2f} ms, p99 {np.quantile(times, 0.99):.2f} ms")
        ours = [rate(compiled, x, in_flight, seconds) for in_flight in IN_FLIGHT]
        print(compiled.explain().decisions[0])
    one_call = {"MAX_ONGOING_REQUESTS": 1, "REQUESTS_PER_CALL": IN_CALL}
    with core.compile_model(negation(), "RAY", config | one_call) as compiled:
        each = 1e3 / rate(compiled, x, 2 * IN_CALL, seconds)
        print(f"{IN_CALL} in one call, call after call: {each:.3f} ms each; {compiled.explain().decisions[0]}")
    has_serve = find_spec("ray.serve") and find_spec("starlette")
    theirs = serve_rates(seconds) if has_serve else [math.nan] * len(IN_FLIGHT)
    for in_flight, our, their in zip(IN_FLIGHT, ours, theirs):
        beside = (
            f"Ray Serve's handle {their:.0f}/s: {our / their:.1f} times" if has_serve else "no ray[serve] is installed"
        )
        print(f"{in_flight} in flight: {our:.0f}/s, {1e3 / our:.3f} ms each; {beside}")


def share(model: str, seconds: float) -> None:
    """Throughput of a model by replicas against that of the CPU device on all cores, in turns."""
    core, config = ov.Core(), {"PERFORMANCE_HINT": "THROUGHPUT"}
    source = ov.light_model(model.removeprefix("light:"), 0) if model.startswith("light:") else model
    graph = core.read_model(source)
    x = np.random.default_rng(0).random(tuple(graph.input(0).shape), np.float32)
    rates: dict[str, list[float]] = {"CPU": [], "RAY": []}
    costs: dict[str, list[float]] = {"CPU": [], "RAY": []}
    for device in ("CPU", "RAY") * 2:
        with core.compile_model(graph, device, config) as compiled:
            compiled.wait_until_optimized()
            requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            rate(compiled, x, requests, seconds / 4)
            used, began = processor_time(), time.perf_counter()
            rates[device].append(rate(compiled, x, requests, seconds))
            done = rates[device][-1] * (time.perf_counter() - began)
            costs[device].append((processor_time() - used) / done)
    cpu, ray = (max(rates[device]) for device in ("CPU", "RAY"))
    print(f"{model}: CPU {cpu:.1f}/s, RAY on the same cores {ray:.1f}/s: {ray / cpu:.2f} of it")
    cpu, ray = (min(costs[device]) * 1e3 for device in ("CPU", "RAY"))
    print(f"processor time of a request: CPU {cpu:.1f} ms, RAY with Ray's own processes {ray:.1f} ms: {cpu / ray:.2f}")


def processor_time() -> float:
    """Seconds of processor time that this process and all below it have used."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
    own = [os.getpid()]
    for parent in own:
        own += [pid for pid, fields in stats if int(fields[1]) == parent]
    return sum(int(fields[11]) + int(fields[12]) for pid, fields in stats if pid in own) / os.sysconf("SC_CLK_TCK")


def kills(count: int, replicas: int) -> bool:
    """Whether so many requests are each answered once and rightly while a replica is killed every second."""
    config = {"NUM_REPLICAS": replicas, "CPUS_PER_REPLICA": 1}
    with ov.Core().compile_model(negation(), "RAY", config) as compiled:
        queue, seen, wrong, stop = ov.AsyncInferQueue(compiled, 64), Counter(), [], threading.Event()

        def over(request: ov.InferRequest, value: int) -> None:
            seen[value] += 1
            if request.results[0][0, 0] != -value:
                wrong.append(value)

        def kill() -> None:
            while not stop.wait(1):
                pids = re.findall(r"ready, process (\d+)", str(compiled.explain()))
                if len(pids) > 1:
                    with suppress(ProcessLookupError):  # the one killed last may not be missed yet
                        os.kill(int(pids[0]), signal.SIGKILL)
                        killed.append(pids[0])

        killed: list[str] = []
        queue.set_callback(over)
        thread = threading.Thread(target=kill)
        began = time.perf_counter()
        thread.start()
        for value in range(count):
            queue.start_async(np.full((1, SMALL), value, np.float32), value)
            time.sleep(0.0005)  # so that there are some kills
        queue.wait_all()
        took = time.perf_counter() - began
        stop.set()
        thread.join()
        twice, lost = sum(n > 1 for n in seen.values()), count - len(seen)
        print(f"{count} requests in {took:.1f} s, {len(killed)} kills: {lost} lost, {twice} twice, {len(wrong)} wrong")
        return not (twice or lost or wrong)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("-m", "--model", default="light:resnet50", help="for the share of local throughput")
    options.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options.add_argument("--part", choices=["overhead", "share"], help="only that")
    options.add_argument("--kills", type=int, default=0, metavar="N", help="only: N requests while replicas are killed")
    return options


def main() -> int:
    """The command."""
    options = parser().parse_args()
    cores = len(os.sched_getaffinity(0))
    if options.kills:
        with cluster(1, KILLED):
            return 0 if kills(options.kills, KILLED) else 1
    with cluster(1, cores):
        if options.part != "share":
            overheads(options.seconds)
        if options.part != "overhead":
            share(options.model, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

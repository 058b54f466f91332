"""Measures device RAY on a cluster of simulated nodes on this machine, which listens on loopback only.

    python bench/cluster.py                  # overhead, throughput beside Ray Serve's handle, share of local throughput
    python bench/cluster.py --kills 20000    # so many requests while a replica is killed every second

Drivers, replicas and Ray's own processes share the machine's cores, so all figures are lower bounds. Ray Serve is
measured where `ray[serve]` is installed. Fails where a request is lost or answered twice or wrongly.
"""

from __future__ import annotations

import argparse
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
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import cpuruntime as ov

NODE = {"object_store_memory": 200 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
SMALL = 64


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
    for _ in range(4 * requests):
        queue.start_async(x)
    queue.wait_all()
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


def serve_rate(seconds: float, in_flight: int = 16) -> float:
    """Requests a second through the handle of a Ray Serve deployment that negates the same array."""
    from ray import serve

    @serve.deployment(max_ongoing_requests=64)
    class Negation:
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return -x

    handle = serve.run(Negation.bind(), route_prefix=None)
    x, pending, done = np.ones((1, SMALL), np.float32), [], 0
    handle.remote(x).result()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pending.append(handle.remote(x))
        if len(pending) == in_flight:
            pending.pop(0).result()
            done += 1
    for one in pending:
        one.result()
    took = time.perf_counter() - began
    serve.shutdown()
    return (done + len(pending)) / took


def overheads(seconds: float) -> None:
    """What a small request costs, alone and with others, beside Ray Serve."""
    x = np.ones((1, SMALL), np.float32)
    with ov.Core().compile_model(negation(), "RAY", {"NUM_REPLICAS": 1, "CPUS_PER_REPLICA": 1}) as compiled:
        times = latency(compiled, x, seconds)
        print(f"infer() of 256 bytes: median {np.median(times):.2f} ms, p99 {np.quantile(times, 0.99):.2f} ms")
        ours = rate(compiled, x, 64, seconds)
        print(f"64 in flight: {ours:.0f}/s, {1e3 / ours:.3f} ms each; {compiled.explain().decisions[0]}")
    if find_spec("ray.serve") and find_spec("starlette"):
        theirs = serve_rate(seconds)
        print(f"Ray Serve's handle, 16 in flight: {theirs:.0f}/s; ours is {ours / theirs:.1f} times that")
    else:
        print("Ray Serve is not installed: pip install 'ray[serve]'")


def share(model: str, seconds: float) -> None:
    """Throughput of a model by replicas against that of the CPU device on all cores, in turns."""
    core, config = ov.Core(), {"PERFORMANCE_HINT": "THROUGHPUT"}
    source = ov.light_model(model.removeprefix("light:"), 0) if model.startswith("light:") else model
    graph = core.read_model(source)
    x = np.random.default_rng(0).random(tuple(graph.input(0).shape), np.float32)
    rates: dict[str, list[float]] = {"CPU": [], "RAY": []}
    for device in ("CPU", "RAY") * 2:
        with core.compile_model(graph, device, config) as compiled:
            compiled.wait_until_optimized()
            requests = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            rates[device].append(rate(compiled, x, requests, seconds))
    cpu, ray = (max(rates[device]) for device in ("CPU", "RAY"))
    print(f"{model}: CPU {cpu:.1f}/s, RAY on the same cores {ray:.1f}/s: {ray / cpu:.2f} of it")


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
    options.add_argument("--kills", type=int, default=0, metavar="N", help="only: N requests while replicas are killed")
    return options


def main() -> int:
    """The command."""
    options = parser().parse_args()
    cores = len(os.sched_getaffinity(0))
    with cluster(1, cores):
        if options.kills:
            return 0 if kills(options.kills, max(2, cores)) else 1
        overheads(options.seconds)
        share(options.model, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

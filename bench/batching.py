"""Measures what BATCH is worth: requests in flight as batches against fixed batches and against no batches.

    python bench/batching.py mobilenet_v2.onnx alexnet.onnx

At saturation: single requests a second of DEVICE, of BATCH:DEVICE(N) and of the model compiled for N and each smaller
power of two, with enough requests in flight to fill two batches. At low load: the time of one call after the other on
DEVICE and on BATCH:DEVICE(N). All take turns in rounds, and the best round counts. On a machine that does other things
the figures are upper bounds on the differences.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import cpuruntime as ov


def saturated(compiled: ov.CompiledModel, requests: int, samples: int, seconds: float) -> float:
    """Samples a second with so many requests in flight, of so many samples each."""
    queue = ov.AsyncInferQueue(compiled, requests)
    for _ in range(2 * requests):
        queue.start_async()
    queue.wait_all()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        queue.start_async()
        done += samples
    queue.wait_all()
    return done / (time.perf_counter() - began)


def alone(compiled: ov.CompiledModel, seconds: float) -> float:
    """Calls a second, one after the other; the median."""
    request = compiled.create_infer_request()
    request.infer()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        request.infer()
        times.append(time.perf_counter() - began)
    return 1 / float(np.median(times))


def best(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The best figure of each run."""
    found = dict.fromkeys(runs, 0.0)
    for _ in range(rounds):
        for name, run in runs.items():
            found[name] = max(found[name], run())
    return found


def measure(path: str, device: str, size: int, seconds: float, rounds: int) -> None:
    """Prints the figures of one model."""
    core = ov.Core()
    single = core.compile_model(path, device)
    single.wait_until_optimized()
    batched = core.compile_model(path, f"BATCH:{device}({size})")
    runs = {device: partial(saturated, single, 2 * size, 1, seconds)}
    count = 2
    while count <= size:
        model = core.read_model(path)
        ov.set_batch(model, count)
        fixed = core.compile_model(model, device)
        fixed.wait_until_optimized()
        runs[f"fixed {count}"] = partial(saturated, fixed, max(2, 2 * size // count), count, seconds)
        count *= 2
    name = f"BATCH:{device}({size})"
    runs[name] = partial(saturated, batched, 2 * size, 1, seconds)
    rates = best(runs, rounds)
    calls = best({device: partial(alone, single, seconds), name: partial(alone, batched, seconds)}, rounds)
    others = max(rate for one, rate in rates.items() if one != name)
    print(path)
    print("\n".join(f"  {line}" for line in batched.explain().decisions[:5]))
    print("  at saturation, a second:", ", ".join(f"{one} {rate:.1f}" for one, rate in rates.items()))
    print(f"    {name} is {rates[name] / others:.3f} of the best other")
    print(f"  one by one: {device} {1e3 / calls[device]:.3f} ms, {name} {1e3 / calls[name]:.3f} ms,"
          f" {calls[device] / calls[name]:.3f} of it")  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="paths")
    parser.add_argument("-d", "--device", default="CPU")
    parser.add_argument("-n", "--size", type=int, default=8, help="of the largest batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for path in arguments.models:
        measure(path, arguments.device, arguments.size, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()

"""Measures what BATCH is worth: requests in flight as batches against fixed batches and against no batches.

    python bench/batching.py mobilenet_v2.onnx alexnet.onnx

At saturation: single requests a second of DEVICE, of BATCH:DEVICE(N) and of the model compiled for N and each smaller
power of two, with enough requests in flight to fill two batches. At low load: the time of one call after the other on
DEVICE and on BATCH:DEVICE(N). All take turns in rounds, and the best round counts, after seconds of full load for each:
within them BATCH has timed its sizes while serving. Behind each figure stands one of processor time, which other work
on the machine changes less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import cpuruntime as ov

Rates = tuple[float, float]
"""Samples a second of time, and a second of this process's processor time."""


def saturated(compiled: ov.CompiledModel, requests: int, samples: int, seconds: float) -> Rates:
    """With so many requests in flight, of so many samples each, between two moments of full load."""
    queue = ov.AsyncInferQueue(compiled, requests)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds / 2:  # until groups have found their members
        queue.start_async()
    done, began, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(requests):
            queue.start_async()
        done += requests * samples
    rates = done / (time.perf_counter() - began), done / (time.process_time() - busy)
    queue.wait_all()
    return rates


def alone(compiled: ov.CompiledModel, seconds: float) -> Rates:
    """One call after the other; the median, and the mean of processor time."""
    request = compiled.create_infer_request()
    request.infer()
    times: list[float] = []
    end, busy = time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < end:
        began = time.perf_counter()
        request.infer()
        times.append(time.perf_counter() - began)
    return 1 / float(np.median(times)), len(times) / (time.process_time() - busy)


def best(runs: dict[str, Callable[[], Rates]], rounds: int) -> dict[str, Rates]:
    """The best figures of each run."""
    found = dict.fromkeys(runs, (0.0, 0.0))
    for _ in range(rounds):
        for name, run in runs.items():
            found[name] = tuple(map(max, found[name], run()))
    return found


def measure(path: str, device: str, size: int, seconds: float, rounds: int, warm_up: float) -> None:
    """Prints the figures of one model."""
    core = ov.Core()
    single = core.compile_model(path, device)
    single.wait_until_optimized()
    batched = core.compile_model(path, f"BATCH:{device}({size})")
    runs = {device: partial(saturated, single, 2 * size, 1, seconds)}
    fixed, count = [], 2
    while count <= size:
        model = core.read_model(path)
        ov.set_batch(model, count)
        fixed.append((core.compile_model(model, device), max(2, 2 * size // count)))
        fixed[-1][0].wait_until_optimized()
        runs[f"fixed {count}"] = partial(saturated, *fixed[-1], count, seconds)
        count *= 2
    name = f"BATCH:{device}({size})"
    runs[name] = partial(saturated, batched, 2 * size, 1, seconds)
    for compiled, requests in ((single, 2 * size), *fixed, (batched, 2 * size)):
        saturated(compiled, requests, 1, warm_up)
    rates = best(runs, rounds)
    calls = best({device: partial(alone, single, seconds), name: partial(alone, batched, seconds)}, rounds)
    shares = [rates[name][kind] / max(rate[kind] for one, rate in rates.items() if one != name) for kind in (0, 1)]
    costs = [calls[device][kind] / calls[name][kind] for kind in (0, 1)]
    print(path)
    print("\n".join(f"  {line}" for line in batched.explain().decisions[:5]))
    listed = (f"{one} {rate:.1f} ({own:.1f})" for one, (rate, own) in rates.items())
    print("  at saturation, a second:", ", ".join(listed))
    print(f"    {name} is {shares[0]:.3f} ({shares[1]:.3f}) of the best other")
    print(f"  one by one: {device} {1e3 / calls[device][0]:.3f} ms, {name} {1e3 / calls[name][0]:.3f} ms,"
          f" {costs[0]:.3f} ({costs[1]:.3f}) of it")  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="paths")
    parser.add_argument("-d", "--device", default="CPU")
    parser.add_argument("-n", "--size", type=int, default=8, help="of the largest batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=4.0, metavar="SECONDS", help="of full load before")
    arguments = parser.parse_args()
    for path in arguments.models:
        measure(path, arguments.device, arguments.size, arguments.seconds, arguments.rounds, arguments.warm_up)


if __name__ == "__main__":
    main()

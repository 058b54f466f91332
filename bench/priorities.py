"""Measures what MODEL_PRIORITY is worth: the tail of a HIGH model alone and beside a LOW model that never rests.

    python bench/priorities.py

Both models have all cores. HIGH answers one request at a time, at random intervals and then without a pause; LOW is
saturated by a queue of requests. HIGH alone and HIGH beside LOW alternate in rounds, and each ratio is that of the
medians of the rounds. With --compare the same is measured with both models at MEDIUM, too.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np

import cpuruntime as ov
from peer.models import prepare


class Load:
    """A model that a thread of its own saturates with requests between `begin` and `end`."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._queue = ov.AsyncInferQueue(compiled)
        self._on = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._done = 0
        threading.Thread(target=self._feed, daemon=True).start()

    def _feed(self) -> None:
        while True:
            self._on.wait()
            self._idle.clear()
            while self._on.is_set():
                self._queue.start_async()
                self._done += 1
            self._queue.wait_all()
            self._idle.set()

    def begin(self) -> None:
        """Starts the load."""
        self._done, self._since = 0, time.perf_counter()
        self._on.set()

    def end(self) -> float:
        """Stops the load; returns inferences per second."""
        self._on.clear()
        self._idle.wait()
        return self._done / (time.perf_counter() - self._since)


def latencies(compiled: ov.CompiledModel, seconds: float, pause: float, seed: int) -> np.ndarray:
    """Milliseconds from the start of each inference to its result, with random pauses of that mean (s) between."""
    request = compiled.create_infer_request()
    pauses = np.random.default_rng(seed).exponential(pause, 100_000) if pause else np.zeros(100_000)
    times, end = [], time.perf_counter() + seconds
    for nap in pauses:
        if nap:
            time.sleep(nap)
        begin = time.perf_counter()
        if begin >= end:
            break
        request.infer(share_outputs=True)
        times.append((time.perf_counter() - begin) * 1e3)
    return np.array(times)


def measure(high: ov.CompiledModel, low: ov.CompiledModel, rounds: int, seconds: float, pause: float) -> None:
    """Prints the figures of a pair of models."""
    load = Load(low)
    rows: dict[str, list[np.ndarray]] = {"alone": [], "beside": []}
    rates: list[float] = []
    for turn in range(rounds):
        rows["alone"].append(latencies(high, seconds, pause, turn))
        load.begin()
        time.sleep(0.1)
        rows["beside"].append(latencies(high, seconds, pause, turn))
        rates.append(load.end())
    load.begin()
    time.sleep(seconds)
    rate_alone = load.end()
    figures = {name: [median(np.percentile(t, p) for t in row) for p in (50, 99)] for name, row in rows.items()}
    count = {name: sum(map(len, row)) for name, row in rows.items()}
    for name, (p50, p99) in figures.items():
        print(f"    HIGH {name:8} p50 {p50:8.3f} ms   p99 {p99:8.3f} ms   ({count[name]} inferences)")
    (p50, p99), (p50_beside, p99_beside) = figures["alone"], figures["beside"]
    print(f"    ratio beside / alone: p50 {p50_beside / p50:.2f}   p99 {p99_beside / p99:.2f}")
    print(f"    LOW alone {rate_alone:.1f} inferences/s, beside HIGH {median(rates):.1f}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="The tail of a HIGH model beside a saturating LOW model.")
    options.add_argument("--high", default="light:squeezenet", help="an ONNX file, light:NAME or bench:NAME")
    options.add_argument("--low", default="light:resnet50", help="the same for the LOW model")
    options.add_argument("--rounds", type=int, default=5, help="of each alone and beside (default: 5)")
    options.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: 2)")
    options.add_argument("--pause", type=float, default=10.0, help="mean pause of the first HIGH, ms (default: 10)")
    options.add_argument("--compare", action="store_true", help="measure without priorities, too")
    return options


def main() -> None:
    """Measures with priorities and without."""
    arguments = parser().parse_args()
    core = ov.Core()
    with tempfile.TemporaryDirectory() as folder:
        paths = [prepare(name, Path(folder)).path for name in (arguments.high, arguments.low)]
        for priorities in (("HIGH", "LOW"), *([("MEDIUM", "MEDIUM")] if arguments.compare else [])):
            high, low = (
                core.compile_model(path, "CPU", {"PERFORMANCE_HINT": hint, "MODEL_PRIORITY": priority})
                for path, hint, priority in zip(paths, ("LATENCY", "THROUGHPUT"), priorities)
            )
            for request in (high.create_infer_request(), low.create_infer_request()):
                for _ in range(5):
                    request.infer()
            for pause in (arguments.pause / 1e3, 0.0):
                how = f"every {arguments.pause:g} ms or so" if pause else "without a pause"
                print(f"{arguments.high} ({priorities[0]}) {how}, {arguments.low} ({priorities[1]}) saturated")
                measure(high, low, arguments.rounds, arguments.seconds, pause)


if __name__ == "__main__":
    main()

"""The process of one engine: reads one JSON command a line from stdin and answers each with one JSON line on stdout.

    {"command": "load", "engine", "model", "mode", "device", "precision", "names", "inputs", "outputs"}
        -> version, settings, flops, load_seconds
    {"command": "slice", "seconds"} -> value, count, idle_cpu_seconds, peak_memory_mb
    {"command": "quit"} -> and the process ends

An error is answered with {"error": text}. Between commands the process sleeps in a read. `inputs` and `outputs` are
.npz files, the first to read, with an array for each of `names`, the second to write. `value` is the median latency in
milliseconds, or inferences per second. `idle_cpu_seconds` is the processor time used since the last command was
answered, which should be next to none: ONNX Runtime's threads spin for some 0.04 s after an inference before they
sleep, and users get it so.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peer.engines import Engine, load
from peer.mode import Mode

# A slice begins with untimed inferences for this part of its length: caches and clock rates drop in the pause.
WARM_UP_SHARE = 0.1


class Worker:
    """The engine of this process and the mode it is measured in."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._mode = Mode("throughput", 0)
        self._cpu_seconds = time.process_time()

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carries out one command other than quit."""
        idle = time.process_time() - self._cpu_seconds
        try:
            if command["command"] == "load":
                return self._load(command)
            return {**self._slice(command["seconds"]), "idle_cpu_seconds": idle}
        finally:
            self._cpu_seconds = time.process_time()

    def _load(self, command: dict[str, Any]) -> dict[str, Any]:
        self._mode = Mode.parse(command["mode"])
        with np.load(command["inputs"]) as archive:
            inputs = {name: archive[key] for name, key in zip(command["names"], archive.files)}
        start = time.perf_counter()
        how = command["device"], command["precision"]
        engine = load(command["engine"], Path(command["model"]), self._mode, inputs, *how)
        seconds = time.perf_counter() - start
        engine.infer()
        np.savez(command["outputs"], *engine.outputs())
        self._engine = engine
        facts = {"version": engine.version, "settings": engine.settings, "flops": engine.flops}
        return {**facts, "load_seconds": seconds}

    def _slice(self, seconds: float) -> dict[str, Any]:
        if self._engine is None:
            raise RuntimeError("slice before load")
        for duration in (seconds * WARM_UP_SHARE, seconds):
            value, count = self._measure(self._engine, duration)
        return {"value": value, "count": count, "peak_memory_mb": _peak_memory_mb()}

    def _measure(self, engine: Engine, seconds: float) -> tuple[float, int]:
        if not self._mode.is_latency:
            return _throughput(engine, seconds)
        return _latency(engine.start_and_wait if self._mode.asynchronous else engine.infer, seconds)


def _latency(infer: Callable[[], None], seconds: float) -> tuple[float, int]:
    times: list[int] = []
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    while not times or clock() < end:
        start = clock()
        infer()
        times.append(clock() - start)
    return statistics.median(times) / 1e6, len(times)


def _throughput(engine: Engine, seconds: float) -> tuple[float, int]:
    count, taken = engine.infer_for(seconds)
    return count / taken, count


def _peak_memory_mb() -> float:
    """The most memory this process has had resident. (getrusage's figure begins with that of the parent process.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024


def main() -> None:
    """Serves commands until quit or the end of stdin. What libraries print goes to stderr, not between the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        if command["command"] == "quit":
            return
        try:
            answer = worker.answer(command)
        except Exception as error:  # whatever an engine raises is a result of the comparison
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""The process of one engine with one model: infers at the sizes that it is sent, and says how long each took."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from varying.subjects import SUBJECTS, Feeds, Sizes

ANSWER_SECONDS = 900.0
Infer = Callable[[Feeds], Sequence[np.ndarray]]


class Engine:
    """The parent's side: `times`, `outputs`, `memory` and `close` are carried out by the process."""

    def __init__(self, name: str, subject: str, path: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._parent, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, name, subject, str(path), threads), daemon=True)
        self._process.start()
        child.close()
        self.name = name
        self.load_seconds: float = self._answer()

    def times(self, sizes: Sequence[Sizes]) -> list[float]:
        """Milliseconds of one inference at each."""
        return self._ask("times", sizes)

    def outputs(self, sizes: Sizes) -> list[np.ndarray]:
        """What the model gives."""
        return self._ask("outputs", sizes)

    def memory(self) -> float:
        """Resident mebibytes."""
        return self._ask("memory", None)

    def close(self) -> float:
        """Drops the model; the resident mebibytes after it. The process ends."""
        left: float = self._ask("close", None)
        self._process.join(10)
        self._process.kill()
        return left

    def _ask(self, command: str, argument: Any) -> Any:
        self._parent.send((command, argument))
        return self._answer()

    def _answer(self) -> Any:
        """What the process answers; RuntimeError with its error, or when it died or went silent."""
        if not self._parent.poll(ANSWER_SECONDS):
            self._process.kill()
            raise RuntimeError(f"{self.name}: no answer within {ANSWER_SECONDS:g} s")
        try:
            kind, value = self._parent.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self.name}: the process ended with exit code {self._process.exitcode}") from None
        if kind == "error":
            raise RuntimeError(f"{self.name}: {value}")
        return value


PAUSE = 0.2
"""Seconds before an engine's turn, in which the threads of the one before it stop to spin."""


def serve(connection: Connection, name: str, subject: str, path: str, threads: int) -> None:
    """The process: answers until it is closed."""
    feeds = SUBJECTS[subject].feeds
    try:
        start = time.perf_counter()
        infer: Infer | None = _load(name, path, threads)
        connection.send(("done", time.perf_counter() - start))
        while infer:
            command, argument = connection.recv()
            if command == "times":
                connection.send(("done", _times(infer, [feeds(sizes) for sizes in argument])))
            elif command == "outputs":
                connection.send(("done", [np.array(array) for array in infer(feeds(argument))]))
            else:
                if command == "close":
                    infer = None
                    gc.collect()
                connection.send(("done", _resident()))
    except Exception as error:  # whatever an engine raises is a result of the comparison
        connection.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _times(infer: Infer, feeds: Sequence[Feeds]) -> list[float]:
    time.sleep(PAUSE)
    times = []
    for arrays in feeds:
        start = time.perf_counter()
        infer(arrays)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _load(name: str, path: str, threads: int) -> Infer:
    if name == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda arrays: session.run(None, arrays)
    if name == "openvino":
        import openvino as runtime
    else:
        import cpuruntime as runtime
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = runtime.Core()
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()

    def infer(arrays: Feeds) -> list[np.ndarray]:
        return list(request.infer(arrays).values())

    return infer


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

"""Runs a million requests over three models with random faults, and checks that each is accounted for once.

    python bench/stress.py

Three models of three priorities are run from several threads and an event loop: with and without callbacks, some of
which raise, with cancellations, deadlines and priorities, while compiled models are dropped with requests in flight and
compiled anew. Every request must be counted once with the right result, memory must stay flat, and no thread may be
left. Prints progress and the outcomes; exits with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import psutil

import cpuruntime as ov
import models

CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"MODEL_PRIORITY": "HIGH", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1},
    {"MODEL_PRIORITY": "MEDIUM", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2},
    {"MODEL_PRIORITY": "LOW", "NUM_STREAMS": 2, "INFERENCE_NUM_THREADS": 2},
)
SIZES = ({"width": 64, "layers": 3}, {"width": 160, "layers": 6}, {"width": 256, "layers": 8})
INPUTS = 4


class RaisedInCallback(Exception):
    """What callbacks raise."""


class Stage:
    """The current compiled models, and counts by request.

    `accounted[tag]` counts the outcomes seen of request `tag`, `expected_calls[tag]` is 1 if its callback must be
    called, and `calls[tag]` counts the calls.
    """

    def __init__(self, requests: int) -> None:
        self._core = ov.Core()
        self._models = [models.build("mlp", index, **size) for index, size in enumerate(SIZES)]
        self.accounted, self.expected_calls, self.calls = (np.zeros(requests, np.uint8) for _ in range(3))
        rng = np.random.default_rng(1)
        self.inputs = [rng.standard_normal((INPUTS, 1, size["width"]), np.float32) for size in SIZES]
        self.compiled = [self._compile(index) for index in range(len(SIZES))]
        self.expected = [[model(x)[0] for x in rows] for model, rows in zip(self.compiled, self.inputs)]

    def _compile(self, index: int) -> ov.CompiledModel:
        return self._core.compile_model(self._models[index], "CPU", CONFIGURATIONS[index])

    def replace(self, index: int) -> None:
        """Replaces a model by a new one, also with requests in flight."""
        self.compiled[index] = self._compile(index)

    def callback(self, tag: int) -> None:
        """The callback of request `tag`; it raises for every seventh request."""
        self.calls[tag] += 1
        if tag % 7 == 0:
            raise RaisedInCallback(tag)


class Slot:
    """An infer request, with or without a callback; `tag` is the number of the request in flight, -1 for none."""

    def __init__(self, stage: Stage, index: int, compiled: ov.CompiledModel, has_callback: bool) -> None:
        self._inputs, self._expected = stage.inputs[index], stage.expected[index]
        self.request = compiled.create_infer_request()
        self.has_callback = has_callback
        self.tag = -1
        self._row = 0
        if has_callback:
            self.request.set_callback(stage.callback, None)

    def take(self, tag: int) -> np.ndarray:
        """Uses the slot for request `tag`; returns its input."""
        self.tag, self._row = tag, tag % INPUTS
        return self._inputs[self._row]

    def is_right(self) -> bool:
        """Whether the result is the expected one."""
        return np.array_equal(self.request.results[0], self._expected[self._row])


class Client:
    """Starts the requests `first` to `last - 1` on random models, and counts their outcomes.

    In `outcomes`, "abandoned" are requests that were dropped in flight; only their callbacks are checked. `position` is
    the number of the next request.
    """

    def __init__(self, stage: Stage, first: int, last: int, seed: int) -> None:
        self._stage = stage
        self.first, self.last, self.position = first, last, first
        self._random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._compiled: list[ov.CompiledModel | None] = [None] * len(SIZES)
        self._pools: list[list[Slot]] = [[] for _ in SIZES]

    def run(self) -> None:
        """Starts all of them, one after the other, and waits for the one that had the request before."""
        try:
            for tag in range(self.first, self.last):
                slot = self._slot()
                self._finish(slot)
                kind = self._random.random()
                if kind < 0.05:
                    slot.request.infer(slot.take(tag), share_outputs=True)
                    self._count(slot, None)
                else:
                    self._start(slot, tag)
                if 0.05 < kind < 0.15:
                    slot.request.cancel()
                self.position = tag + 1
            for pool in self._pools:
                for slot in pool:
                    self._finish(slot)
        except BaseException as error:
            self.wrong.append(f"a client ended with {error!r}")
            raise
        finally:
            self._pools, self._compiled = [[] for _ in SIZES], [None] * len(SIZES)

    def _slot(self) -> Slot:
        """The next request to use, which may be in flight, of a random model of the moment."""
        index = self._random.randrange(len(SIZES))
        compiled = self._stage.compiled[index]
        if self._compiled[index] is not compiled:
            self._compiled[index] = None
            self._leave(index)
            self._compiled[index] = compiled
            self._pools[index] = [Slot(self._stage, index, compiled, has_callback=i % 2 == 1) for i in range(4)]
        pool = self._pools[index]
        pool.append(pool.pop(0))
        return pool[-1]

    def _leave(self, index: int) -> None:
        """Drops the requests of a dropped model; those with callbacks may be in flight."""
        for slot in self._pools[index]:
            if not slot.has_callback:
                self._finish(slot)
            elif slot.tag >= 0:
                self._note(slot, "abandoned")
        self._pools[index] = []

    def _start(self, slot: Slot, tag: int) -> None:
        """Starts request `tag` on random terms; most have none."""
        terms: dict[str, Any] = {}
        if self._random.random() < 0.2:
            terms["priority"] = self._random.choice(("LOW", "MEDIUM", "HIGH"))
        if self._random.random() < 0.2:
            terms["deadline_ms"] = self._random.choice((0.01, 0.1, 1, 1000))
        self._stage.expected_calls[tag] = slot.has_callback
        slot.request.start_async(slot.take(tag), userdata=tag, **terms)

    def _finish(self, slot: Slot) -> None:
        """Waits for what is in flight, if anything, and counts it."""
        if slot.tag < 0:
            return
        try:
            slot.request.wait()
        except Exception as error:
            self._count(slot, error)
        else:
            self._count(slot, None)

    def _count(self, slot: Slot, error: BaseException | None) -> None:
        """Counts the outcome of a request."""
        if not isinstance(error, (ov.CancelledError, ov.DeadlineExceededError, RaisedInCallback, type(None))):
            self.wrong.append(f"request {slot.tag} ended with {error!r}")
        if isinstance(error, RaisedInCallback) and error.args != (slot.tag,):
            self.wrong.append(f"request {slot.tag} got the error of {error}")
        if error is None and not slot.is_right():
            self.wrong.append(f"request {slot.tag} has a wrong result")
        self._note(slot, "done" if error is None else type(error).__name__)

    def _note(self, slot: Slot, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._stage.accounted[slot.tag] += 1
        slot.tag = -1


class LoopClient(Client):
    """A client in an event loop: a few requests at a time, awaited by tasks that are cancelled at random."""

    def run(self) -> None:
        """Starts all of them."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        try:
            while self.position < self.last:
                await self._burst(range(self.position, min(self.position + 6, self.last)))
                self.position = min(self.position + 6, self.last)
        except BaseException as error:
            self.wrong.append(f"a client ended with {error!r}")
            raise
        finally:
            self._pools, self._compiled = [[] for _ in SIZES], [None] * len(SIZES)

    async def _burst(self, tags: range) -> None:
        tasks = []
        for tag in tags:
            slot = self._slot()
            while slot.tag >= 0:
                slot = self._slot()
            self._start(slot, tag)
            tasks.append((slot, asyncio.ensure_future(self._wait(slot))))
        await asyncio.sleep(0)
        for _, task in tasks:
            if self._random.random() < 0.1:
                task.cancel()
        for slot, task in tasks:
            try:
                await task
            except asyncio.CancelledError:
                if slot.request.is_busy():
                    self.wrong.append(f"request {slot.tag} is busy after its task")
                self._note(slot, "task cancelled")
            except Exception as error:
                self._count(slot, error)
            else:
                self._count(slot, None)

    def _leave(self, index: int) -> None:
        """Drops the requests of a dropped model; tasks hold those that they await."""
        self._pools[index] = []

    async def _wait(self, slot: Slot) -> None:
        await slot.request


class Stress:
    """The whole run. `faults` are sentences, none if every check passes."""

    def __init__(self, requests: int, drops: int, threads: int = 3) -> None:
        self.requests, self.drops = requests, drops
        gc.collect()
        self._threads_before = threading.active_count()
        self.stage = Stage(requests)
        bounds = [requests * i // (threads + 1) for i in range(threads + 2)]
        kinds = [Client] * threads + [LoopClient]
        self.clients = [
            kind(self.stage, first, last, i)
            for i, (kind, first, last) in enumerate(zip(kinds, bounds, bounds[1:]))
        ]  # fmt: skip
        self.memory: list[int] = []

    @property
    def position(self) -> int:
        """How many requests were started."""
        return sum(client.position - client.first for client in self.clients)

    def run(self, progress: bool = False) -> None:
        """Runs it to the end."""
        running = [threading.Thread(target=client.run) for client in self.clients]
        begin = time.perf_counter()
        for thread in running:
            thread.start()
        for drop in range(1, self.drops + 1):
            while self.position < self.requests * drop // (self.drops + 1) and any(t.is_alive() for t in running):
                time.sleep(0.001)
            self.stage.replace(drop % len(SIZES))
            if drop % max(1, self.drops // 10) == 0:
                self._note_memory()
                if progress:
                    rate = self.position / (time.perf_counter() - begin)
                    print(f"{self.position:>9} requests, {rate:.0f}/s, {self.memory[-1] >> 20} MB", flush=True)
        for thread in running:
            thread.join()
        self.stage.compiled.clear()
        deadline = time.monotonic() + 30
        while threading.active_count() > self._threads_before and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)

    def _note_memory(self) -> None:
        gc.collect()
        self.memory.append(psutil.Process().memory_info().rss)

    @property
    def outcomes(self) -> Counter[str]:
        """The number of requests by outcome."""
        return sum((client.outcomes for client in self.clients), Counter())

    @property
    def faults(self) -> list[str]:
        """The checks that failed, as sentences."""
        stage, faults = self.stage, [text for client in self.clients for text in client.wrong]
        for name, counted, right in (
            ("accounted for", stage.accounted, np.ones_like(stage.accounted)),
            ("called back", stage.calls, stage.expected_calls),
        ):
            odd = np.flatnonzero(counted != right)
            if len(odd):
                faults.append(f"{len(odd)} requests were not {name} as often as they should: {odd[:5].tolist()}...")
        left = [t.name for t in threading.enumerate()][self._threads_before :]
        return faults + ([f"threads are left: {left}"] if left else [])


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description="Check a million requests under random faults.")
    options.add_argument("--requests", type=int, default=1_000_000, help="how many (default: 1000000)")
    options.add_argument("--drops", type=int, default=300, help="how many compiled models are dropped (default: 300)")
    options.add_argument("--growth", type=int, default=8, help="MB of growth in the second half (default: 8)")
    return options


def main() -> None:
    """Runs it with a line of progress now and then, and prints how many requests ended in which way."""
    arguments = parser().parse_args()
    stress = Stress(arguments.requests, arguments.drops)
    begin = time.perf_counter()
    stress.run(progress=True)
    faults = stress.faults
    second_half = stress.memory[len(stress.memory) // 2 :]
    grown = (second_half[-1] - second_half[0]) / 2**20
    if grown > arguments.growth:
        faults.append(f"memory grew by {grown:.1f} MB in the second half")
    print(f"{arguments.requests} requests in {time.perf_counter() - begin:.0f} s, {arguments.drops} models dropped:")
    for outcome, count in sorted(stress.outcomes.items()):
        print(f"{count:>9} {outcome}")
    print(f"{int(stress.stage.calls.sum()):>9} callbacks; memory grew by {grown:.1f} MB in the second half")
    for fault in faults:
        print(f"WRONG: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

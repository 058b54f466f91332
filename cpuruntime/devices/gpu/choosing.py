"""Ways to compute a node, timed once on the device, and stored for other models and processes."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, Literal

from cpuruntime.devices.gpu.lower import lower_alone, prelude, tuning_for
from cpuruntime.devices.gpu.modules import Modules
from cpuruntime.devices.gpu.program import Constants, Program
from cpuruntime.devices.gpu.recipe import Recipe, made_for
from cpuruntime.errors import DeviceUnavailableError, OutOfMemoryError, UnsupportedError
from cpuruntime.gpu_runtime.end import End, apart
from cpuruntime.gpu_runtime.interface import GpuRuntime
from cpuruntime.graph import Graph, Node
from cpuruntime.store import cache_folder
from cpuruntime.trace.recorder import span

log = logging.getLogger("cpuruntime")

ROUNDS = 4
"""Inferences of which the fastest counts; in the first, drivers finish kernels."""


class Choices:
    """The tuning of a device, which chooses what was fastest there. Not thread-safe."""

    def __init__(self, runtime: GpuRuntime, modules: Modules, is_low: bool) -> None:
        self._runtime, self._modules, self._is_low = runtime, modules, is_low
        self._known: dict[str, int] = {}
        self.tuning = replace(tuning_for(runtime.facts), choose=self._choose)

    def _choose(self, node: Node, precision: Literal["f32", "f16"], what: str, ways: tuple[Any, ...]) -> Any:
        name = self._name(node, precision, what, ways)
        if name not in self._known:
            stored = cache_folder().read(name)
            if stored is None or not 0 <= int.from_bytes(stored, "little") < len(ways):
                stored = bytes([self._fastest(node, precision, name, len(ways))])
                cache_folder().publish(name, stored)
            self._known[name] = int.from_bytes(stored, "little")
        return ways[self._known[name]]

    def _name(self, node: Node, precision: str, what: str, ways: tuple[Any, ...]) -> str:
        """The file of a choice: another one for another device, driver, kind of node or set of ways."""
        values = [
            value and (value.element_type.get_type_name(), value.shape, value.constant is not None)
            for value in (*node.inputs, *node.outputs)
        ]
        problem = node.domain, node.op_type, values, sorted(node.attributes.items()), precision, what, ways
        key = "\0".join((*made_for(self._runtime), repr(problem)))
        return f"gpu-way-{hashlib.sha256(key.encode()).hexdigest()[:40]}"

    def _fastest(self, node: Node, precision: Literal["f32", "f16"], name: str, count: int) -> int:
        """The number of the way that takes the shortest time; what does not build or fit is none."""
        times = []
        with span("time ways to compute a node", count=count):
            for self._known[name] in range(count):
                try:
                    times.append(self._time(node, precision))
                except (UnsupportedError, OutOfMemoryError) as error:
                    log.info("%s: a way to compute it is left out: %s", node.where, error)
                    times.append(inf)
        del self._known[name]
        return times.index(min(times))

    def _time(self, node: Node, precision: Literal["f32", "f16"]) -> float:
        """Nanoseconds of the node's launches alone."""
        runtime = self._runtime
        lowered = lower_alone(node, precision, self.tuning)
        recipe = Recipe.of(Graph(node.name, [], [], [node]), lowered)
        text = prelude(runtime.dialect)
        program = Program(runtime, recipe, text, self._modules, Constants(runtime), self._is_low)
        queue, taken = runtime.queue(timing=True), inf
        recorded = program.record(queue)
        prepared = queue.prepare(recorded)
        what = f"{runtime.facts.name} did not end a kernel of {node.where}"
        for _ in range(ROUNDS):
            end = End()
            apart(partial(queue.submit, prepared, end), what)
            end.wait_long((program, recorded), what)
            if end.status:
                raise DeviceUnavailableError(
                    f"{runtime.facts.name} ended a kernel of {node.where} with error {end.status} of its driver."
                )
            taken = min(taken, sum(recorded.times))
        return taken

"""A model compiled for a GPU: a program for each shape, and the streams that run them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cpuruntime.devices.explanation import Explanation, Row
from cpuruntime.devices.gpu.modules import modules_of
from cpuruntime.devices.gpu.pool import Pool
from cpuruntime.devices.gpu.processor import processor_of
from cpuruntime.devices.gpu.program import Program
from cpuruntime.devices.gpu.recipe import Exported, made_for
from cpuruntime.devices.gpu.request import GpuRequest
from cpuruntime.devices.gpu.stream import Bound, Stream
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.serial import SerialModel
from cpuruntime.errors import UnsupportedError, printable
from cpuruntime.gpu_runtime.end import apart
from cpuruntime.gpu_runtime.interface import GpuRuntime, Memory
from cpuruntime.graph import Graph
from cpuruntime.operators.shape_inference import with_shapes
from cpuruntime.properties import Settings

MOST_PROGRAMS = 32
"""Programs of a model for different shapes; the one that was not used for longest makes room. Arbitrary."""

MakeProgram = Callable[[Graph], Program]
"""Gives the program of a graph of known shapes, as it was read, or as it was stored."""


def port_facts(port: PortInfo) -> list[Any]:
    """A port of static shape as JSON can hold it."""
    return [port.name, port.element_type.get_type_name(), list(port.partial_shape.to_shape())]


class Programs:
    """The programs of a model, one for each shape of its inputs. Thread-safe."""

    def __init__(self, graph: Graph, make: MakeProgram) -> None:
        self._graph, self._make = graph, make
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[tuple[int, ...], ...], Program] = OrderedDict()
        self.latest: Program | None = None
        self.is_static = all(value.is_static for value in graph.inputs)

    def of(self, shapes: Sequence[tuple[int, ...]]) -> Program:
        """The program for inputs of these shapes; made at first. Raises what `Program` raises."""
        key = tuple(shapes)
        with self._lock:
            program = self._known.get(key)
            if program is None:
                graph = self._graph if self.is_static else with_shapes(self._graph, key)
                program = self._known[key] = self._make(graph)
                if len(self._known) > MOST_PROGRAMS:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            self.latest = program
            return program


class GpuModel(SerialModel):
    """The programs of a graph, and streams, each a queue of the device and a thread that submits to it.

    Args:
        graph: as it was read.
        facts: properties of the model that differ from the settings.
        decisions: sentences for `explain`.
    """

    def __init__(
        self, plugin: Any, runtime: GpuRuntime, graph: Graph, make: MakeProgram, settings: Settings,
        streams: tuple[int, str], facts: dict[str, Any], decisions: Sequence[str],
    ) -> None:  # fmt: skip
        self.runtime = runtime
        self.programs = Programs(graph, make)
        self._decisions = decisions
        priority, throttle = settings.value("GPU_QUEUE_PRIORITY"), settings.value("GPU_QUEUE_THROTTLE")
        pool = [Stream(runtime, priority, throttle, settings.times_steps) for _ in range(streams[0])]
        if self.programs.is_static:
            program = self.programs.of([value.static_shape for value in graph.inputs])
            self._warm_up(program, pool[0])
        super().__init__(plugin, graph, settings, None, streams, facts)
        self.pool = Pool(pool, self.queue, graph.name)
        self._processor = processor_of(runtime, graph.name)

    def _warm_up(self, program: Program, stream: Stream) -> None:
        """Run on zeros: drivers finish kernels at their first launch. Then their binaries are complete."""
        ports = (*program.inputs, *program.outputs)
        bound = [Bound(np.zeros(port.nbytes, np.uint8)) for port in ports]
        what = f"{self.runtime.facts.name} did not take an inference of model '{printable(program.name)}'"
        apart(lambda: stream.run(program, bound), what)
        modules_of(self.runtime).save(self.runtime, program.modules)

    def in_place(self, memory: Memory) -> Memory | None:
        """Memory that the host sees, if kernels use it where it lies: device and host share theirs."""
        return memory if self.runtime.facts.is_unified else None

    def create_request(self) -> GpuRequest:
        self.check_open()
        return GpuRequest(self)

    def export(self) -> Exported:
        program = self.programs.latest
        if not self.programs.is_static or program is None:
            raise UnsupportedError(f"Model '{printable(self.graph.name)}' cannot be stored: its shapes are not known.")
        facts, sections = program.stored()
        ports = [[port_facts(port) for port in ports] for ports in (self.inputs, self.outputs)]
        more = {
            "made_for": made_for(self.runtime),
            "ports": ports,
            "decisions": list(self._decisions),
            "precision": self.properties["INFERENCE_PRECISION_HINT"].get_type_name(),
            "facts": {name: self.properties[name] for name in ("OPTIMAL_BATCH_SIZE", "MAX_BATCH_SIZE")},
        }
        return facts | more, sections

    def close(self) -> None:
        super().close()
        self.pool.close()
        self._processor = None

    def release_memory(self) -> None:
        self.pool.release_memory()

    def explain(self, measure: bool = False) -> Explanation:
        program = self.programs.latest
        steps = program.steps if program is not None else ()
        rows = [Row(one.origins, one.op_type, program.names(at), "plain") for at, one in enumerate(steps)]
        decisions = [f"streams: {self.streams}, {self._reason}", *self._decisions]
        if program is None:
            decisions.append("the first inference of each shape builds what it needs: the inputs have dynamic shapes")
        else:
            decisions.append(
                f"arena: {program.arena_size / 2**20:.1f} MiB per stream for {program.unshared_size / 2**20:.1f} MiB "
                f"of values; constants: {program.constants_size / 2**20:.1f} MiB shared by all streams"
            )
        return Explanation(str(self.plugin.target), rows, decisions)

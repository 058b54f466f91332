"""A model compiled for a GPU: a program for each shape, and the streams that run them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary, finalize, ref

import numpy as np

from cpuruntime.devices.explanation import Explanation, Row
from cpuruntime.devices.gpu.modules import modules_of
from cpuruntime.devices.gpu.program import Program
from cpuruntime.devices.gpu.recipe import Exported, made_for
from cpuruntime.devices.gpu.request import GpuRequest
from cpuruntime.devices.gpu.stream import Bound, Stream
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.serial import SerialModel
from cpuruntime.errors import DeviceUnavailableError, UnsupportedError, printable
from cpuruntime.gpu_runtime.interface import GpuRuntime, Memory
from cpuruntime.graph import Graph
from cpuruntime.host.assignment import ProcessorRequest
from cpuruntime.host.ledger import Lease, Ledger
from cpuruntime.host.topology import Topology
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
        self._streams: SimpleQueue[Stream] = SimpleQueue()
        self._all = [
            Stream(runtime, priority, throttle, settings.times_steps) for _ in range(max(1, streams[0]))
        ]  # fmt: skip
        if self.programs.is_static:
            program = self.programs.of([value.static_shape for value in graph.inputs])
            self._warm_up(program, self._all[0])
        for stream in self._all:
            self._streams.put(stream)
        super().__init__(plugin, graph, settings, None, streams, facts)
        self._processor = _processor(runtime, graph.name) if runtime.facts.kind == "gpu" else None

    def _warm_up(self, program: Program, stream: Stream) -> None:
        """Run on zeros: drivers finish kernels at their first launch. Then their binaries are complete."""
        ports = (*program.inputs, *program.outputs)
        stream.run(program, [Bound(np.zeros(port.nbytes, np.uint8)) for port in ports])
        modules_of(self.runtime).save(self.runtime, program.modules)

    def in_place(self, memory: Memory) -> Memory | None:
        """Memory that the host sees, if kernels use it where it lies: device and host share theirs."""
        return memory if self.runtime.facts.is_unified else None

    def run(self, program: Program, ports: Sequence[Bound]) -> list[int]:
        """Run an inference on an idle stream, as `Stream.run`."""
        stream = self._streams.get()
        try:
            return stream.run(program, ports)
        finally:
            self._streams.put(stream)

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
        self._processor = None

    def release_memory(self) -> None:
        for _ in self._all:
            if self._streams.empty():
                return
            stream = self._streams.get()
            stream.release_memory()
            self._streams.put(stream)

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


class _Processor:
    """The lease of a processor for the threads that submit to a GPU, while models hold this."""

    def __init__(self, lease: Lease) -> None:
        finalize(self, lease.release)


_lock = threading.Lock()
_processors: WeakKeyDictionary[GpuRuntime, ref[_Processor]] = WeakKeyDictionary()


def _processor(runtime: GpuRuntime, name: str) -> _Processor | None:
    """The one of a device, for all its models: streams of the CPU take other processors first."""
    with _lock:
        known = _processors.get(runtime)
        found = known() if known is not None else None
        if found is None:
            lease = _lease(name)
            if lease is None:
                return None
            found = _Processor(lease)
            _processors[runtime] = ref(found)
        return found


def _lease(name: str) -> Lease | None:
    cpus = [cpu.index for cpu in Topology.read().cpus]
    if len(cpus) < 2:
        return None
    try:
        with Ledger().open() as snapshot:
            return snapshot.lease([ProcessorRequest(tuple(reversed(cpus)), 1)], name)
    except DeviceUnavailableError:  # all are reserved
        return None

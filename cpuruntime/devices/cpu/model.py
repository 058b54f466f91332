"""A model compiled for the CPU: programs by input shape, packed weights, and the streams that run them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Any

from cpuruntime import passes
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.cpu.request import LEVELS, CpuRequest
from cpuruntime.devices.interface import DeviceModel, DeviceRequest, Explanation, PortInfo, Row
from cpuruntime.errors import Error
from cpuruntime.graph.graph import Graph
from cpuruntime.graph.shapes import PartialShape
from cpuruntime.hints import plan_streams
from cpuruntime.ops import isa
from cpuruntime.program.memory import check_fits
from cpuruntime.program.planner import FallbackStep, Planner, Step
from cpuruntime.program.program import Program, is_small
from cpuruntime.program.weights import WeightStore
from cpuruntime.properties import Settings
from cpuruntime.shape_inference import reshape
from cpuruntime.streams.base import Executor
from cpuruntime.streams.executor import create_executor
from cpuruntime.streams.topology import Topology

log = logging.getLogger("cpuruntime")

Shapes = tuple[tuple[int, ...], ...]

PROGRAMS_KEPT = 16
"""How many input shapes of a dynamic model stay planned; arbitrary."""


class CpuModel(DeviceModel):
    """A graph, its programs, and one executor. Requests of any thread share it."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self.name = graph.name
        self.profiled: bool = settings.value("PERF_COUNT")
        self._exact: bool = settings.value("EXECUTION_MODE_HINT") == "ACCURACY"
        self._streams = plan_streams(settings, Topology.read())
        self._programs: OrderedDict[Shapes, Program] = OrderedDict()
        self._planning = threading.Lock()
        self._is_static = all(value.is_static for value in graph.inputs)
        self._weights = WeightStore(planned_once=self._is_static)
        self._graph = None if self._is_static else graph.clone()
        self._closed = False
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), self._resolved(settings))
        if self._is_static:
            shapes = tuple(value.static_shape for value in graph.inputs)
            self._programs[shapes] = self._plan(graph)
        plan = self._streams
        level = LEVELS[settings.value("MODEL_PRIORITY")]
        self.executor: Executor = create_executor(plan.streams, plan.threads, plan.cpus, plan.pin, level)

    def _resolved(self, settings: Settings) -> dict[str, Any]:
        plan = self._streams
        names = (
            "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "EXECUTION_MODE_HINT", "INFERENCE_PRECISION_HINT",
            "MODEL_PRIORITY", "PERF_COUNT",
        )  # fmt: skip
        return {
            **{name: settings.value(name) for name in names},
            "NETWORK_NAME": self.name,
            "NUM_STREAMS": plan.streams,
            "INFERENCE_NUM_THREADS": plan.streams * plan.threads,
            "ENABLE_CPU_PINNING": plan.pin,
            "EXECUTION_DEVICES": ["CPU"],
            "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(1, plan.streams),
        }

    def program(self, shapes: Shapes) -> Program:
        """The program for these input shapes; planned when they are new. Of a dynamic model the last 16 are kept."""
        with self._planning:
            found = self._programs.get(shapes)
            if found is None:
                assert self._graph is not None
                bound = {value.name: PartialShape(list(s)) for value, s in zip(self._graph.inputs, shapes)}
                found = self._programs[shapes] = self._plan(reshape(self._graph, bound))
                while len(self._programs) > PROGRAMS_KEPT:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(shapes)
            return found

    def programs(self) -> list[Program]:
        """The programs planned so far, the one used last at the end."""
        with self._planning:
            return list(self._programs.values())

    def _plan(self, graph: Graph) -> Program:
        optimised = passes.run(graph)
        planner = Planner(optimised, self._weights, max(1, self._streams.threads), self._exact)
        planner.plan()
        with CompileProgress() as progress:
            program = Program(planner, progress)
        for step in program.planned:
            if isinstance(step, FallbackStep):
                log.warning("%s runs in the reference evaluator, slowly: %s", step.node.where, step.reason)
        self._weights.forget_sources()
        check_fits(program.arena_size * max(1, self._streams.streams), f"the streams of model '{self.name}'")
        return program

    def create_request(self) -> DeviceRequest:
        """A new request."""
        self.check_open()
        return CpuRequest(self)

    def check_open(self) -> None:
        """Raise Error when the model is closed."""
        if self._closed:
            raise Error(f"Model '{self.name}' on device CPU is closed; compile it again.")

    def explain(self) -> Explanation:
        """The steps of the program used last, and how the streams were chosen."""
        decisions = [f"kernels are compiled for {isa.current().name}", *self._streams.reasons]
        decisions += self.executor.unpinned
        programs = self.programs()
        if not programs:
            decisions.append("the model has dynamic shapes: its steps are planned at the first inference")
            return Explanation("CPU", [], decisions)
        program = programs[-1]
        decisions.append(
            f"arena: {program.arena_size / 2**20:.1f} MiB per stream for {program.unshared_size / 2**20:.1f} MiB of "
            f"values; packed weights: {self._weights.nbytes / 2**20:.1f} MiB shared by all streams"
        )
        return Explanation("CPU", [_row(step, self._streams.threads) for step in program.planned], decisions)

    def close(self) -> None:
        """Let the streams end once the queue is empty."""
        self._closed = True
        self.executor.stop(wait=False)


def _row(step: Step | FallbackStep, threads: int) -> Row:
    node = step.node
    if isinstance(step, FallbackStep):
        return Row(tuple(node.origins), node.op_type, "onnx.reference", "plain", step.reason, fallback=True)
    notes = ", ".join(filter(None, (step.notes, "one thread" if threads > 1 and is_small(step) else "")))
    return Row(tuple(node.origins), node.op_type, step.kernel.name, step.layout, notes)

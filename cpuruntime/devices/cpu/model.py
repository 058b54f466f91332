"""A model compiled for the CPU: programs by input shape, packed weights, and the streams that run them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cpuruntime import passes
from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.batch_split import by_sample
from cpuruntime.devices.cpu.explain import MeasuringRequest, explain_steps, measure_steps
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.cpu.request import LEVELS, CpuRequest
from cpuruntime.devices.cpu.streams import effects
from cpuruntime.devices.cpu.streams.placement import newcomers
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import Error
from cpuruntime.graph import Graph, PartialShape
from cpuruntime.hints import StreamPlan
from cpuruntime.host.ledger import Lease, Ledger
from cpuruntime.host.memory import check_fits
from cpuruntime.host.processor import processor_name
from cpuruntime.operators.shape_inference import reshape
from cpuruntime.program.plan.planner import FallbackStep, Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Program
from cpuruntime.program.tuning.tuner import create_tuner
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import SchedulingCoreType
from cpuruntime.streams.base import Executor
from cpuruntime.streams.executor import create_executor

log = logging.getLogger("cpuruntime")

Shapes = tuple[tuple[int, ...], ...]

PROGRAMS_KEPT = 16
"""How many input shapes of a dynamic model stay planned; arbitrary."""


class CpuModel(DeviceModel):
    """A graph, its programs, and one executor. Requests of any thread share it."""

    def __init__(
        self,
        graph: Graph,
        settings: Settings,
        plan: StreamPlan,
        optimised: Graph | None = None,
        weights: WeightStore | None = None,
        lease: Lease | None = None,
        given_back: Callable[[], None] | None = None,
    ) -> None:
        """Plan the program and start the streams.

        Args:
            graph: the model.
            settings: parsed.
            plan: the streams.
            optimised: of a model of static shapes the graph after the passes, which loses its constants here.
            weights: packed constants that other programs of the same constants share, by default the model's own.
            lease: that of the streams' processors.
            given_back: called when the streams have ended.
        """
        self.name = graph.name
        self.profiled: bool = settings.value("PERF_COUNT")
        self._exact: bool = settings.value("EXECUTION_MODE_HINT") == "ACCURACY"
        self._settings = settings
        self._streams = plan
        self._lease = lease
        self._programs: OrderedDict[Shapes, Program] = OrderedDict()
        self._planning = threading.Lock()
        self._is_static = all(value.is_static for value in graph.inputs)
        self._weights = weights or WeightStore(planned_once=self._is_static)
        self._tuner = create_tuner(settings.value("TUNING_BUDGET_MS") / 1000, processor_name(), graph)
        self._graph = None if self._is_static else graph.clone()
        self._closed = False
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), self._resolved(settings))
        if self._is_static:
            shapes = tuple(value.static_shape for value in graph.inputs)
            self._programs[shapes] = self._plan(graph, optimised or passes.run(graph))
        shares = plan.shares
        sizes, cpus = [len(share) for share in shares], [cpu for share in shares for cpu in share]
        level = LEVELS[settings.value("MODEL_PRIORITY")]
        self.executor: Executor = create_executor(len(shares), sizes, cpus, plan.pin, given_back, level)

    def _resolved(self, settings: Settings) -> dict[str, Any]:
        plan = self._streams
        return {
            **settings.resolved(),
            "NETWORK_NAME": self.name,
            "NUM_STREAMS": len(plan.streams),
            "INFERENCE_NUM_THREADS": plan.total_threads,
            "ENABLE_CPU_PINNING": plan.pin,
            "PINNED_CPUS": [list(share) for share in plan.shares] if plan.pin else [],
            "ENABLE_HYPER_THREADING": plan.hyper_threading,
            "SCHEDULING_CORE_TYPE": SchedulingCoreType(plan.core_type),
            "EXECUTION_DEVICES": ["CPU"],
            "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(1, len(plan.streams)),
        }

    def program(self, shapes: Shapes) -> Program:
        """The program for these input shapes; planned when they are new. Of a dynamic model the last 16 are kept."""
        with self._planning:
            found = self._programs.get(shapes)
            if found is None:
                assert self._graph is not None
                bound = {value.name: PartialShape(list(s)) for value, s in zip(self._graph.inputs, shapes)}
                graph = reshape(self._graph, bound)
                found = self._programs[shapes] = self._plan(graph, passes.run(graph))
                while len(self._programs) > PROGRAMS_KEPT:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(shapes)
            return found

    def programs(self) -> list[Program]:
        """The programs planned so far, the one used last at the end."""
        with self._planning:
            return list(self._programs.values())

    def _plan(self, graph: Graph, optimised: Graph) -> Program:
        """The program of a graph of static shapes, given before and after the passes."""
        split = by_sample(graph, optimised)
        return self.plan(optimised) if split is None else self.plan(*split)

    def plan(self, optimised: Graph, samples: int = 1) -> Program:
        """A new program with the model's weights, of a graph after the passes, for the model's streams.

        It does what the graph says for each of so many samples.
        """
        planner = Planner(optimised, self._weights, self._streams.threads, self._exact, self._tuner)
        planner.plan()
        with CompileProgress() as progress:
            program = Program(planner, progress, samples)
        for step in program.planned:
            if isinstance(step, FallbackStep):
                log.warning("%s runs in the reference evaluator, slowly: %s", step.node.where, step.reason)
        self._weights.forget_sources()
        check_fits(program.arena_size * max(1, len(self._streams.streams)), f"the streams of model '{self.name}'")
        return program

    def create_request(self) -> DeviceRequest:
        """A new request."""
        self.check_open()
        return CpuRequest(self)

    def check_open(self) -> None:
        """Raise Error when the model is closed."""
        if self._closed:
            raise Error(f"Model '{self.name}' on device CPU is closed; compile it again.")

    def explain(self, measure: bool = False) -> Explanation:
        """The steps of the program used last, and how the streams were chosen."""
        plan = self._streams
        decisions = [f"kernels are compiled for {isa.current().name}", *plan.sentences()]
        decisions += self.executor.unpinned
        if self._lease is not None and self._lease.is_held:
            decisions += newcomers(self._lease, Ledger().holders())
        decisions += effects.sentences(self._settings, self._is_static)
        programs = self.programs()
        if not programs:
            decisions.append("the model has dynamic shapes: its steps are planned at the first inference")
            return Explanation("CPU", [], decisions)
        with self._planning:
            program, kept = programs[-1], self._weights.nbytes
        if program.repeats > 1:
            decisions.append(
                f"each of the {program.repeats} samples of a batch goes through all steps before the next one, so that "
                "values stay in the cache"
            )
        decisions.append(
            f"arena: {program.arena_size / 2**20:.1f} MiB per stream for {program.unshared_size / 2**20:.1f} MiB of "
            f"values; packed weights: {kept / 2**20:.1f} MiB shared by all streams"
        )
        seconds = None
        if measure:
            self.check_open()
            seconds = measure_steps(MeasuringRequest(self, program), program)
        return Explanation("CPU", explain_steps(program, plan.threads, seconds, kept), decisions)

    def close(self) -> None:
        """Let the streams end once the queue is empty."""
        self._closed = True
        self.executor.stop(wait=False)

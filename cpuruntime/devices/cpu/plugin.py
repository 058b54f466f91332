"""The CPU device's plugin: what the processor can do, and how a graph becomes a model.

What compiles is imported when it is needed: a process that loads stored models does without.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from typing import Any

from cpuruntime.compiler import build, isa
from cpuruntime.compiler.sources import package_digest
from cpuruntime.devices.cpu import stored
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.streams.setup import set_up_streams
from cpuruntime.devices.interface import NEEDS_SOURCE, DeviceModel, Plugin
from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.hints import StreamPlan, counted
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.sysfs import processor_name
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings
from cpuruntime.properties.device import Type as DeviceType
from cpuruntime.store import SectionFile


class CpuPlugin(Plugin):
    """The processor this process runs on."""

    kernel, fallback = "numpy", True
    """What computes before kernels are compiled, for `StartingModel`."""

    reads_late = True

    def unavailable_reason(self) -> str | None:
        if platform.system() != "Linux":
            return f"CPU streams need Linux (futex, sched_setaffinity); this is {platform.system()}."
        if self.target.id and self.target.id not in self.fact("AVAILABLE_DEVICES"):
            return f"{self.target} is none of the {self._settings.value('CPU_INSTANCES')} instances of CPU_INSTANCES."
        return None

    def topology(self, settings: Settings) -> Topology:
        """The processors as they are now; those of the instance where this is one."""
        whole = Topology.read()
        if not self.target.id:
            return whole
        parts = whole.parts(settings.value("CPU_INSTANCES"))
        if int(self.target.id) >= len(parts):
            found = counted(len(parts), "instance")
            raise InvalidArgumentError(f"There is no {self.target}: with this CPU_INSTANCES there is {found}.")
        return parts[int(self.target.id)]

    def fact(self, name: str) -> Any:
        if name == "AVAILABLE_DEVICES":
            count = self._settings.value("CPU_INSTANCES")
            return [str(index) for index in range(len(Topology.read().parts(count)))] if count > 1 else [""]
        if name == "RANGE_FOR_STREAMS":
            return (1, self.topology(self._settings).usable)
        if name == "DEVICE_TYPE":
            return DeviceType.INTEGRATED
        if name == "CPU_HOLDERS":
            holders = Ledger().holders()
            leased = sorted({cpu for holder in holders for cpu in holder.cpus})
            return {cpu: [holder.pid for holder in holders if cpu in holder.cpus] for cpu in leased}
        if name == "OPTIMIZATION_CAPABILITIES":
            return [*["BF16"] * bool(isa.bf16_products()), "FP32", "INT8"]
        if name == "FULL_DEVICE_NAME":
            return f"{processor_name()} ({isa.current().name})"
        return super().fact(name)

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The nodes that run on kernels: for dynamic shapes those of a guess, and where it does not fit by operator."""
        from cpuruntime.devices.cpu.compiling import query_graph

        return query_graph(graph)

    def optimise(self, graph: Graph) -> Graph:
        from cpuruntime.devices.cpu.pipeline import optimise

        return optimise(graph)

    def plan(self, graph: Graph, settings: Settings, topology: Topology | None = None) -> StreamPlan:
        from cpuruntime.devices.cpu.compilation import Compilation
        from cpuruntime.devices.cpu.streams.dry_run import dry_run

        ledger = Ledger() if topology is None else None
        return dry_run(Compilation.of(graph, settings, topology or self.topology(settings)), ledger)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        from cpuruntime.devices.cpu.compiling import compile_graph

        return compile_graph(self, graph, settings)

    def storage_key(self, settings: Settings) -> str:
        for name in ("LATENCY_TARGET_MS", "PRECISION_BUDGET", "STREAMS_CALIBRATION_MS"):
            if settings.value(name):
                raise UnsupportedError(f"models with {name} are not stored: they are measured when they are compiled")
        facts = [package_digest(), build.environment().hex(), settings.key()]
        return json.dumps(facts, sort_keys=True)

    def without_weights(self, stored: SectionFile) -> bytes | None:
        from cpuruntime.devices.cpu.plan_file import without_weights  # not above: few processes need it

        return without_weights(stored)

    def restore(
        self, facts: Mapping[str, Any], sections: SectionFile, settings: Settings, source: Callable[[], Graph] | None
    ) -> DeviceModel:
        settings = stored.with_stream_settings(settings, facts) if source is None else settings
        model = stored.StoredModel.of(facts, settings, self.topology(settings))
        setup = set_up_streams(model, None, Ledger(), device=str(self.target))
        try:
            if setup.plan.threads > model.threads:
                asked = counted(model.threads, "thread")
                raise ValueError(f"it is for streams of {asked} at most, and they would have {setup.plan.threads} here")
            may_compile = source is None or settings.value("COMPILE_MODE") == "OPTIMIZED"
            arguments = facts, sections, model, setup.plan, may_compile
            if NEEDS_SOURCE in facts:
                programs: Any = _in_stages(source, *arguments)
            else:
                programs = stored.StoredPrograms(*arguments) if model.is_static else _dynamic(source, *arguments)
            return CpuModel(programs, model.demand, settings, setup)
        except BaseException:
            setup.release()
            raise


def _dynamic(*arguments: Any) -> stored.Stored:
    from cpuruntime.devices.cpu.stored_shapes import StoredShapes  # not above: models of static shapes do without

    return StoredShapes(*arguments)


def _in_stages(source: Callable[[], Graph] | None, *arguments: Any) -> Any:
    if source is None:
        raise ValueError("it is for a cache, with the model beside it")
    from cpuruntime.devices.cpu.stored_stages import restored  # not above: it compiles the rest

    return restored(source(), *arguments)

"""The GPU device's plugin: which devices drivers have, what they are, and how a graph becomes a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.remote import DeviceContext
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, UnsupportedError, listed, printable
from cpuruntime.gpu_runtime import drivers
from cpuruntime.graph import Graph, Kind, Type, Value
from cpuruntime.properties import Settings
from cpuruntime.properties.device import Type as DeviceType
from cpuruntime.properties.hint import ExecutionMode, PerformanceMode
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.gpu_runtime.interface import Facts, GpuRuntime

LARGEST_BATCH = 16
"""Samples beyond which a batch gains little; arbitrary."""

_ARCHITECTURES = {"gpu": "OpenCL GPU", "cpu": "OpenCL CPU driver", "other": "OpenCL accelerator"}


class GpuPlugin(Plugin):
    """The devices of OpenCL drivers, graphics processors first: GPU.0, GPU.1 and so on; GPU alone is GPU.0."""

    _runtime: GpuRuntime | None = None
    """The device in a user's context, where models are compiled for that."""

    def unavailable_reason(self) -> str | None:
        return drivers.reason()

    @property
    def runtime(self) -> GpuRuntime:
        """The device. Raises DeviceUnavailableError where there is none."""
        if self._runtime is not None:
            return self._runtime
        reason = drivers.reason()
        found = [] if reason else drivers.devices()
        index = int(self.target.id or 0)
        if index >= len(found):
            raise DeviceUnavailableError(f"Device {self.target} is not available: {reason or 'the driver lost it.'}")
        return found[index]

    @property
    def is_automatic(self) -> bool:  # type: ignore[override]
        """Whether it is a real one: no driver is looked for where the machine has no graphics processor."""
        return drivers.has_hardware() and drivers.reason() is None and self.runtime.facts.kind == "gpu"

    def fact(self, name: str) -> Any:
        if name == "AVAILABLE_DEVICES":
            return [] if drivers.reason() else [str(index) for index in range(len(drivers.devices()))]
        facts = self.runtime.facts
        found = {
            "FULL_DEVICE_NAME": f"{facts.name} ({facts.driver})",
            "DEVICE_ARCHITECTURE": _ARCHITECTURES[facts.kind],
            "DEVICE_TYPE": DeviceType.INTEGRATED if facts.is_unified else DeviceType.DISCRETE,
            "OPTIMIZATION_CAPABILITIES": ["FP32", *["FP16"] * (facts.half != "none"), "EXPORT_IMPORT"],
            "GPU_DEVICE_TOTAL_MEM_SIZE": facts.memory,
            "GPU_DEVICE_MAX_ALLOC_MEM_SIZE": facts.largest,
            "GPU_EXECUTION_UNITS_COUNT": facts.compute_units,
            "GPU_DRIVER_VERSION": facts.driver,
            "RANGE_FOR_STREAMS": (1, 2),
        }
        if name == "HOST_PROCESSORS":
            from cpuruntime.devices.gpu.processor import host_processors  # not above: AUTO asks this on every machine

            return host_processors(facts)
        if name == "GPU_MEMORY_STATISTICS":
            return self.runtime.statistics()
        return found[name] if name in found else super().fact(name)

    def get_property(self, name: str) -> Any:
        if name == "INFERENCE_PRECISION_HINT":
            return _precision(self.runtime.facts, self._settings)[0]
        return super().get_property(name)

    def create_context(self, properties: Mapping[str, Any]) -> DeviceContext:
        from cpuruntime.devices.gpu.context import GpuContext

        unknown = properties.keys() - {"OCL_CONTEXT", "CONTEXT_TYPE"}
        if unknown:
            raise InvalidArgumentError(f"A context takes OCL_CONTEXT and CONTEXT_TYPE, not {listed(sorted(unknown))}.")
        foreign = properties.get("OCL_CONTEXT")
        runtime, plugin = self.runtime, self
        if foreign is not None:
            runtime = runtime.within(foreign)
            plugin = type(self)(self.host, self.target)
            plugin.set_property(self._settings)
            plugin._runtime = runtime
        return GpuContext(str(self.target), runtime, plugin)

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        from cpuruntime.devices.gpu.compiling import refused

        return {node.name for node in graph.nodes} - {origin for node in refused(graph) for origin in node.origins}

    def optimal_batch_size(self, graph: Graph, settings: Settings) -> int:
        """A power of two for which the device has the memory; 1 for a driver that runs on the processor."""
        if self.runtime.facts.kind != "gpu":
            return 1
        from cpuruntime.operators.batch_axis import enlarged  # not above: AUTO asks this plugin on every machine

        try:
            enlarged(graph, 2)
        except UnsupportedError:
            return 1
        most = min(LARGEST_BATCH, _most_samples(graph, self.runtime.facts))
        return 1 << (max(most, 1).bit_length() - 1)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        from cpuruntime.devices.gpu.compiling import compile_graph

        for value in (*graph.inputs, *graph.outputs):
            if value.kind is not Kind.TENSOR or value.element_type is Type.string:
                what = "a string tensor" if value.kind is Kind.TENSOR else f"a {value.kind.value}"
                raise UnsupportedError(
                    f"'{printable(value.name)}' is {what}; device {self.target} takes and gives tensors of numbers. "
                    "Use HETERO:GPU,CPU."
                )
        precision, why = _precision(self.runtime.facts, settings)
        facts = {
            "INFERENCE_PRECISION_HINT": precision,
            "OPTIMAL_BATCH_SIZE": self.optimal_batch_size(graph, settings),
            "MAX_BATCH_SIZE": max(_most_samples(graph, self.runtime.facts), 1),
        }
        return compile_graph(self, graph, settings, _streams(settings), facts, why)

    def storage_key(self, settings: Settings) -> str:
        if self._runtime is not None:
            raise UnsupportedError("models for a remote context are not stored")
        from cpuruntime.devices.gpu.recipe import made_for

        precision = _precision(self.runtime.facts, settings)[0].get_type_name()
        return json.dumps([made_for(self.runtime), precision, settings.key()], sort_keys=True)

    def restore(
        self, facts: Mapping[str, Any], sections: SectionFile, settings: Settings, source: Callable[[], Graph] | None
    ) -> DeviceModel:
        from cpuruntime.devices.gpu.compiling import restore
        from cpuruntime.devices.gpu.recipe import made_for

        if facts["made_for"] != made_for(self.runtime):
            raise ValueError("it was made by other sources of cpuruntime, or for another device or driver")
        return restore(self, facts, sections, settings, _streams(settings))


def _precision(facts: Facts, settings: Settings) -> tuple[Type, str]:
    """The element type that floats have in memory, and why."""
    if settings.value("EXECUTION_MODE_HINT") is ExecutionMode.ACCURACY:
        return Type.f32, "floats lie in memory as f32: EXECUTION_MODE_HINT is ACCURACY"
    asked = settings.get("INFERENCE_PRECISION_HINT", Type.dynamic)
    if asked is Type.f32:
        return Type.f32, "floats lie in memory as f32: INFERENCE_PRECISION_HINT says so"
    if facts.half == "none":
        return Type.f32, "floats lie in memory as f32: the driver has no f16"
    if asked is Type.f16:
        return Type.f16, "floats lie in memory as f16: INFERENCE_PRECISION_HINT says so; sums are f32"
    if facts.kind == "gpu":
        return Type.f16, "floats lie in memory as f16, the default on GPUs that have it; sums are f32"
    return Type.f32, "floats lie in memory as f32: the driver runs on the processor"


def _streams(settings: Settings) -> tuple[int, str]:
    asked = settings.get("NUM_STREAMS")
    if asked == 0:
        return 1, "NUM_STREAMS is 0, and the caller's thread never calls the driver"
    if asked is not None and asked > 0:
        return asked, "as NUM_STREAMS says"
    if asked == -1 or (asked is None and settings.value("PERFORMANCE_HINT") is not PerformanceMode.LATENCY):
        return (1 if settings.value("PERFORMANCE_HINT_NUM_REQUESTS") == 1 else 2), "for throughput"
    return 1, "for latency"


def _most_samples(graph: Graph, facts: Facts) -> int:
    """How many times the samples of a graph the device has memory for, as estimated from its values; 0 if unknown."""
    values = {*graph.inputs, *graph.outputs, *(output for node in graph.nodes for output in node.outputs)}
    sizes = [_nbytes(value) for value in values if value is not None and value.constant is None]
    if not sizes or None in sizes:
        return 1
    known = [size for size in sizes if size]
    weights = sum(v.constant.nbytes for v in _constants(graph))
    alive = sum(sorted(known)[-3:])  # the largest values of a chain: read, written, and one that waits
    return int(max(facts.memory * 0.5 - weights, 0) // max(alive, 1)) if known else 1


def _constants(graph: Graph) -> list[Value]:
    found = {value for node in graph.nodes for value in node.inputs if value is not None and value.constant is not None}
    return [value for value in found if hasattr(value.constant, "nbytes")]


def _nbytes(value: Value) -> int | None:
    if value.kind is not Kind.TENSOR or not value.is_static:
        return None
    return prod(value.static_shape) * value.element_type.size

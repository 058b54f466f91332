"""A model under a latency target: one model for each variant of the streams, and a gate in front of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cpuruntime.devices.cpu.building import build_model
from cpuruntime.devices.cpu.compilation import Compilation
from cpuruntime.devices.cpu.latency.admission import Admission, Variant
from cpuruntime.devices.cpu.latency.batches import Batches, plan_batches
from cpuruntime.devices.cpu.latency.gate import Gate
from cpuruntime.devices.cpu.latency.request import LatencyTargetRequest
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.streams.calibration import all_at_once
from cpuruntime.devices.cpu.streams.ignored import tries_other_streams
from cpuruntime.devices.cpu.streams.setup import StreamSetup
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.hints import StreamPlan, StreamSizes, counted, plan_streams

MEASURED_SECONDS = 0.2
"""Each variant runs for so long, and at least for one inference of each stream."""

CLEARLY = 1.1
"""A variant that serves less than this factor more is no reason to drop another; arbitrary."""

MOST_REQUESTS = 256
"""Upper limit of OPTIMAL_NUMBER_OF_INFER_REQUESTS, however many could wait within the target; arbitrary."""


def compile_for_target(compilation: Compilation, setup: StreamSetup) -> LatencyTargetModel:
    """Compile a model with each variant of streams that may be of use for its LATENCY_TARGET_MS, and measure them.

    Those other than `setup` have its processors. A model of dynamic shapes, or with streams fixed by its settings, has
    one variant.
    """
    plans = [setup.plan]
    if tries_other_streams(compilation.settings, compilation.is_static):
        plans += _others(setup.plan, compilation)
    on_end = None if setup.lease is None else setup.lease.after(len(plans))
    return _measured(compilation, [replace(setup, plan=plan, on_end=on_end) for plan in plans])


def _others(plan: StreamPlan, compilation: Compilation) -> Iterator[StreamPlan]:
    """Plans of streams of 1, 2, 4 ... threads on the same processors."""
    cpus = {cpu for share in plan.shares for cpu in share}
    within = compilation.topology.restricted(cpus)
    seen = {tuple(map(len, plan.shares))}
    for threads in sorted({min(2**power, len(cpus)) for power in range(len(cpus).bit_length() + 1)}):
        sizes = StreamSizes(len(cpus) // threads, threads, "streams of another size, for a latency target")
        other = plan_streams(compilation.settings, within, compilation.demand, sizes)
        shape = tuple(map(len, other.shares))
        if shape not in seen:
            seen.add(shape)
            yield other


def _measured(compilation: Compilation, setups: Sequence[StreamSetup]) -> LatencyTargetModel:
    """The models of these streams that may be of use, each with its measured times."""
    settings, is_static = compilation.settings, compilation.is_static
    target = int(settings.value("LATENCY_TARGET_MS") * 1e6)
    measured = []
    shared = replace(compilation, is_shared=True)
    for model in [build_model(shared, setup) for setup in setups]:
        sizes = [stream.threads for stream in model.executor.streams]
        service = target // 2
        if is_static:
            requests = [model.create_request() for _ in sizes]
            all_at_once(requests, 0)
            service = int(1e9 * len(sizes) * all_at_once(requests, MEASURED_SECONDS))
        measured.append((model, Variant(len(sizes), max(sizes), service)))
    useful = []
    for model, variant in measured:
        if any(_beats(other, variant) for _, other in measured):
            model.close()
            continue
        batches = Batches(model)
        if is_static and compilation.demand.is_for_weights and not settings.times_steps:
            batches = plan_batches(model, compilation.graph, variant.service, target)
        variant.batches = batches.times
        useful.append((model, batches, variant))
    models, batches_of, variants = zip(*useful)
    return LatencyTargetModel(models, batches_of, Admission(target, settings.value("LATENCY_PERCENTILE"), variants))


def _beats(one: Variant, other: Variant) -> bool:
    """Whether one takes less time for an inference and clearly serves more, so that the other suits no load."""
    return one.service < other.service and one.streams / one.service > CLEARLY * other.streams / other.service


class LatencyTargetModel(DeviceModel):
    """The same graph with different streams on the same processors; new inferences go to one variant at a time.

    There are a model and its batches for each of the admission's variants; packed weights are shared.
    """

    def __init__(self, models: Sequence[CpuModel], batches: Sequence[Batches], admission: Admission) -> None:
        first = models[0]
        target, variants = admission.target, admission.variants
        most = max(one.streams * one.most * max(1, target // one.time(one.most)) for one in variants)
        changed = {"OPTIMAL_NUMBER_OF_INFER_REQUESTS": min(most + 1, MOST_REQUESTS)}
        super().__init__(first.inputs, first.outputs, {**first.properties, **changed})
        self.models = tuple(models)
        self.batches = tuple(batches)
        self.gate = Gate(admission)

    def create_request(self) -> DeviceRequest:
        self.models[0].check_open()
        return LatencyTargetRequest(self.gate, self.models, self.batches)

    def get_property(self, name: str) -> Any:
        if name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "PINNED_CPUS"):
            return self.models[self.gate.admission.active].properties[name]
        return self.properties[name]

    def explain(self, measure: bool = False) -> Explanation:
        counts = self.gate.counts
        with self.gate.lock:
            admission = self.gate.admission
            active, margin = admission.active, admission.margin
            found = [
                (f"{one.streams}x{one.threads}", [one.time(1 << size) for size in range(1 + len(one.batches))])
                for one in admission.variants
            ]
        variants = ", ".join(_sentence(*one) for one in found)
        own = self.models[active].explain(measure)
        state = (
            f"latency target {admission.target / 1e6:g} ms: of {variants} for one inference (streams x threads), "
            f"{found[active][0]} is in use, with a margin of {margin / 1e6:.3g} ms, after "
            f"{counted(admission.switches, 'change')}",
            f"inferences so far: {counts.on_time} on time, {counts.late} late, {counts.refused} refused on arrival, "
            f"{counts.given_up} when their turn came",
        )
        return Explanation(own.device, own.rows, (*own.decisions, *state))

    def close(self) -> None:
        for model in self.models:
            model.close()


def _sentence(streams: str, times: Sequence[int]) -> str:
    """The times of a variant for one inference, for two, four..."""
    alone, *batches = (f"{time / 1e6:.3g} ms" for time in times)
    larger = ", ".join(f"{2 << size} in {time}" for size, time in enumerate(batches))
    return f"{streams} {alone}{larger and f' ({larger})'}"

"""A model compiled for the CPU: its programs, and the streams that run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from cpuruntime.compiler import isa
from cpuruntime.devices.cpu import stored
from cpuruntime.devices.cpu.late_tuning import LateTuning
from cpuruntime.devices.cpu.precision import inference_precision
from cpuruntime.devices.cpu.request import LEVELS, CpuRequest
from cpuruntime.devices.cpu.streams import ignored
from cpuruntime.devices.cpu.streams.placement import newcomers
from cpuruntime.devices.cpu.streams.setup import StreamSetup
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, Exported
from cpuruntime.host.ledger import Ledger
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import SchedulingCoreType
from cpuruntime.streams.base import Executor
from cpuruntime.streams.executor import create_executor
from cpuruntime.trace.recorder import span

if TYPE_CHECKING:
    from cpuruntime.devices.cpu.programs import Programs
    from cpuruntime.devices.cpu.stored import StoredPrograms
    from cpuruntime.devices.cpu.stored_shapes import StoredShapes
    from cpuruntime.operators.demand import Demand


def resolved(name: str, settings: Settings, setup: StreamSetup) -> dict[str, Any]:
    """The properties of a compiled model."""
    plan = setup.plan
    return {
        **settings.resolved(),
        "NETWORK_NAME": name,
        "NUM_STREAMS": len(plan.streams),
        "INFERENCE_NUM_THREADS": plan.total_threads,
        "ENABLE_CPU_PINNING": plan.pin,
        "PINNED_CPUS": [list(share) for share in plan.shares] if plan.pin else [],
        "ENABLE_HYPER_THREADING": plan.hyper_threading,
        "SCHEDULING_CORE_TYPE": SchedulingCoreType(plan.core_type),
        "OPTIMIZED": True,
        "EXECUTION_DEVICES": [setup.device],
        "INFERENCE_PRECISION_HINT": inference_precision(settings),
        "OPTIMAL_NUMBER_OF_INFER_REQUESTS": max(1, len(plan.streams)),
    }


class CpuModel(DeviceModel):
    """The programs of a graph, and one executor. Requests of any thread share it.

    Args:
        demand: what an inference asks of the machine.
    """

    def __init__(
        self, programs: Programs | StoredPrograms | StoredShapes, demand: Demand, settings: Settings, setup: StreamSetup
    ) -> None:
        plan = setup.plan
        self.programs = programs
        self._demand = demand
        self._settings = settings
        self._setup = setup
        super().__init__(
            self.programs.inputs, self.programs.outputs, resolved(self.programs.name, settings, setup)
        )  # fmt: skip
        shares = plan.shares
        sizes, cpus = [len(share) for share in shares], [cpu for share in shares for cpu in share]
        level = LEVELS[settings.value("MODEL_PRIORITY")]
        with span("start streams"):
            self.executor: Executor = create_executor(len(shares), sizes, cpus, plan.pin, setup.on_end, level)
        self._tuning = LateTuning(self, cast("Programs", programs)) if programs.is_open else None

    def get_property(self, name: str) -> Any:
        return self._is_tuned if name == "OPTIMIZED" else super().get_property(name)

    @property
    def _is_tuned(self) -> bool:
        return self._tuning is None or self._tuning.is_over

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        self.check_open()
        return self._tuning is None or self._tuning.wait(timeout)

    def create_request(self) -> CpuRequest:
        self.check_open()
        return CpuRequest(self.programs, self.executor)

    def export(self) -> Exported:
        facts, sections = stored.exported(self.programs, self._demand, self._setup.plan.threads)
        return {**facts, "settings": stored.stream_settings(self._settings)}, sections

    def when_planned(self, function: Callable[[], None]) -> None:
        self.programs.when_planned = function

    def explain(self, measure: bool = False) -> Explanation:
        from cpuruntime.devices.cpu.explain import (  # not above: models that were stored do without
            MeasuringRequest,
            StagedRequest,
            explain_stage,
            explain_steps,
            measure_stages,
            measure_steps,
            staged,
        )

        plan = self._setup.plan
        decisions = [f"kernels are compiled for {isa.current().name}", *plan.sentences()]
        decisions += self.executor.unpinned
        lease = self._setup.lease
        if lease is not None and lease.is_held:
            decisions += newcomers(lease, Ledger().holders())
        decisions += ignored.sentences(self._settings, self.programs.is_static)
        stages, packed = self.programs.shown(), self.programs.weights_nbytes()
        decisions += self.programs.notes
        if not self._is_tuned:
            decisions.append("COMPILE_MODE is FAST_START: estimates chose kernels, and measurements will, in a moment")
        program = stages[0].whole if len(stages) == 1 else None
        if program is None:
            times = None
            if measure:
                self.check_open()
                measured, times, sentence = measure_stages(StagedRequest(self.programs, self.executor), self.programs)
                stages = measured or stages
                decisions.append(sentence)
            decisions.append(staged(stages))
            rows = [row for stage in stages for row in explain_stage(stage, plan.threads, packed, times)]
            return Explanation(self._setup.device, rows, decisions)
        if program.repeats > 1:
            decisions.append(
                f"each of the {program.repeats} samples of a batch goes through all steps before the next one, so that "
                "values stay in the cache"
            )
        decisions.append(
            f"arena: {program.arena_size / 2**20:.1f} MiB per stream for {program.unshared_size / 2**20:.1f} MiB of "
            f"values; packed weights: {packed / 2**20:.1f} MiB shared by all streams"
        )
        seconds, losses = None, []
        if measure:
            self.check_open()
            request = MeasuringRequest(self.programs, self.executor, program)
            seconds = measure_steps(request, program)
            losses = request.losses(plan.threads, seconds, program.arena_size + packed)
        rows = explain_steps(program, plan.threads, seconds, packed, losses=losses)
        return Explanation(self._setup.device, rows, decisions)

    def close(self) -> None:
        self.closed = True
        self.executor.stop(wait=False)

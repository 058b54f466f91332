"""A model under a latency target: one model for each setting of streams, and admission in front of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from cpuruntime.demand import Demand
from cpuruntime.devices.cpu.admission import Admission, Counts, Setting, Ticket
from cpuruntime.devices.cpu.calibration import all_at_once
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.placement import place
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Done, Explanation, ProfilingInfo, Terms
from cpuruntime.errors import OverloadedError
from cpuruntime.graph.graph import Graph
from cpuruntime.hints import Chosen, StreamPlan, plan_streams
from cpuruntime.hints.plan import counted
from cpuruntime.hints.resolver import has_one_stream
from cpuruntime.program.weights import WeightStore
from cpuruntime.properties import Settings
from cpuruntime.streams.job import Job
from cpuruntime.streams.ledger import Lease
from cpuruntime.streams.task import Stream
from cpuruntime.streams.topology import Topology

MEASURED_SECONDS = 0.2
"""For so long each setting runs, to see what one inference takes; and for one inference of each stream at least."""

CLEARLY = 1.1
MOST_REQUESTS = 256
"""How many requests in flight a model asks for at most, however many could wait within its target; arbitrary."""


def compile_bounded(
    graph: Graph, optimised: Graph | None, settings: Settings, topology: Topology, demand: Demand
) -> BoundedModel:
    """The model with every setting of streams that may be of use for its LATENCY_TARGET_MS, measured.

    Args:
        graph: the model.
        optimised: of a model of static shapes the graph after the passes; other models have one setting only.
        settings: parsed; streams that they ask for are the only setting.
        topology: the processors that the process may use.
        demand: what the model asks of the machine.
    """

    def planner(left: Topology) -> StreamPlan:
        return plan_streams(settings, left, demand)

    plan, lease = place(planner, settings, topology, graph.name)
    try:
        plans = [plan]
        if optimised is not None and settings.get("NUM_STREAMS", -1) == -1 and not has_one_stream(settings):
            plans += _others(plan, settings, topology, demand)
        return _measured(graph, optimised, settings, plans, lease)
    except BaseException:
        if lease is not None:
            lease.release()
        raise


def _others(plan: StreamPlan, settings: Settings, topology: Topology, demand: Demand) -> Iterator[StreamPlan]:
    """Plans of streams of 1, 2, 4 ... threads on the same processors."""
    cpus = {cpu for share in plan.shares for cpu in share}
    within = topology.restricted(cpus)
    seen = {tuple(map(len, plan.shares))}
    sizes = {min(2**power, len(cpus)) for power in range(len(cpus).bit_length() + 1)}
    for threads in sorted(sizes):
        chosen = Chosen(len(cpus) // threads, threads, "streams of another size, for a latency target")
        other = plan_streams(settings, within, demand, chosen)
        if tuple(map(len, other.shares)) not in seen:
            seen.add(tuple(map(len, other.shares)))
            yield other


def _measured(
    graph: Graph, optimised: Graph | None, settings: Settings, plans: Sequence[StreamPlan], lease: Lease | None
) -> BoundedModel:
    """Models for these plans, without those that are of no use: slower to serve and to end than another one."""
    weights = WeightStore()
    given_back = None if lease is None else lease.after(len(plans))
    models = [
        CpuModel(graph, settings, plan, optimised and optimised.clone(), weights, lease, given_back) for plan in plans
    ]
    target = settings.value("LATENCY_TARGET_MS")
    found = []
    for model in models:
        sizes = [stream.threads for stream in model.executor.streams]
        service = int(target * 1e6 / 2)
        if optimised is not None:
            requests = [CpuRequest(model) for _ in sizes]
            all_at_once(requests, 0)
            service = int(1e9 * len(sizes) / all_at_once(requests, MEASURED_SECONDS))
        found.append(Setting(len(sizes), max(sizes), service))
    kept = [index for index, one in enumerate(found) if not any(_beats(other, one) for other in found)]
    for index, model in enumerate(models):
        if index not in kept:
            model.close()
    admission = Admission(int(target * 1e6), settings.value("LATENCY_PERCENTILE"), [found[index] for index in kept])
    return BoundedModel([models[index] for index in kept], admission)


def _beats(one: Setting, other: Setting) -> bool:
    """Whether a setting takes less for one inference and clearly serves more, so that no load suits the other."""
    return one.service < other.service and one.streams / one.service > CLEARLY * other.streams / other.service


class BoundedModel(DeviceModel):
    """The same graph with different streams on the same processors, of which one setting at a time gets new work.

    Args:
        models: one for each of the admission's settings; their packed weights are shared.
        admission: what decides.
    """

    def __init__(self, models: Sequence[CpuModel], admission: Admission) -> None:
        first = models[0]
        target, settings = admission.target, admission.settings
        most = max(one.streams * max(1, target // one.service) for one in settings)
        changed = {"OPTIMAL_NUMBER_OF_INFER_REQUESTS": min(most + 1, MOST_REQUESTS), "LATENCY_TARGET_MS": target / 1e6}
        changed["LATENCY_PERCENTILE"] = admission.percentile
        super().__init__(first.inputs, first.outputs, {**first.properties, **changed})
        self.models = tuple(models)
        self._admission = admission
        self._mutex = threading.Lock()

    def arrive(self) -> Ticket:
        """A ticket for an inference that starts now; OverloadedError when it would be late."""
        now = perf_counter_ns()
        with self._mutex:
            admission = self._admission
            ticket = admission.arrive(now)
            if ticket is not None:
                return ticket
            counts, service = admission.counts, admission.settings[admission.active].service
        raise OverloadedError(
            f"Inference refused: {counted(admission.waiting, 'other')} wait for a stream and one takes "
            f"{service / 1e6:.3g} ms, so LATENCY_TARGET_MS {admission.target / 1e6:g} would be missed; "
            f"{counts.refused + counts.given_up} refused so far. Send less, or let the target be longer."
        )

    def begin(self, ticket: Ticket) -> None:
        """Its turn has come; OverloadedError when that is too late."""
        now = perf_counter_ns()
        with self._mutex:
            if self._admission.begin(ticket, now):
                return
        waited = (now - ticket.arrived) / 1e6
        raise OverloadedError(
            f"Inference refused: it waited {waited:.3g} ms for a stream, longer than expected, and LATENCY_TARGET_MS "
            f"{self._admission.target / 1e6:g} would be missed."
        )

    def end(self, ticket: Ticket, error: BaseException | None, ended: int) -> None:
        """It ended at a moment on the clock of perf_counter_ns, and the caller is about to be told."""
        told = perf_counter_ns()
        with self._mutex:
            self._admission.end(ticket, ended, told, error is None)

    @property
    def counts(self) -> Counts:
        """What became of the inferences so far."""
        with self._mutex:
            return Counts(**vars(self._admission.counts))

    def create_request(self) -> DeviceRequest:
        """A new request."""
        self.models[0].check_open()
        return BoundedRequest(self)

    def get_property(self, name: str) -> Any:
        """The value of one of `properties`; those of streams are the active setting's."""
        if name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "PINNED_CPUS"):
            return self.models[self._admission.active].properties[name]
        return self.properties[name]

    def explain(self, measure: bool = False) -> Explanation:
        """The active setting's, and what was decided since."""
        with self._mutex:
            admission, counts = self._admission, Counts(**vars(self._admission.counts))
            active, margin = admission.active, admission.margin
            found = [(one.streams, one.threads, one.service / 1e6) for one in admission.settings]
        settings = ", ".join(f"{streams}x{threads} {service:.3g} ms" for streams, threads, service in found)
        own = self.models[active].explain(measure)
        state = (
            f"latency target {admission.target / 1e6:g} ms: of {settings} for one inference (streams x threads), "
            f"{found[active][0]}x{found[active][1]} is in use, with a margin of {margin / 1e6:.3g} ms, after "
            f"{counted(admission.switches, 'change')}; the batch is left as it is",
            f"inferences so far: {counts.on_time} on time, {counts.late} late, {counts.refused} refused on arrival, "
            f"{counts.given_up} when their turn came",
        )
        return Explanation(own.device, own.rows, (*own.decisions, *state))

    def close(self) -> None:
        """Let the streams end once their queues are empty."""
        for model in self.models:
            model.close()


class BoundedRequest(DeviceRequest):
    """A request of each setting's model, all on the same memory."""

    def __init__(self, model: BoundedModel) -> None:
        self._model = model
        self._parts = [_Part(model, one) for one in model.models]
        self._last = self._parts[0]
        for index, info in enumerate(model.inputs):
            if info.partial_shape.is_static:
                self.input_array(index, tuple(info.partial_shape.to_shape()))
        if len(self._parts) > 1:
            for index in range(len(model.outputs)):
                self.set_output(index, self.output_array(index))

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Memory of the request's own for an input, bound."""
        array = self._parts[0].input_array(index, shape)
        for part in self._parts[1:]:
            part.set_input(index, array)
        return array

    def set_input(self, index: int, array: np.ndarray) -> None:
        """Bind memory to an input."""
        for part in self._parts:
            part.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        """The memory bound to an output."""
        return self._parts[0].output_array(index)

    def set_output(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to an output."""
        for part in self._parts:
            part.set_output(index, array)

    def run(self) -> None:
        """Run one inference, unless it is refused."""
        part, ticket = self._admit()
        error: BaseException | None = None
        try:
            part.run()
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._model.end(ticket, error, part.ended)
            del error

    def start(self, done: Done, terms: Terms = TERMS) -> None:
        """Queue one inference, unless it is refused."""
        part, ticket = self._admit()

        def over(error: BaseException | None) -> None:
            self._model.end(ticket, error, part.ended)
            done(error)

        try:
            part.start(over, terms)
        except BaseException as error:
            # An interrupt may have struck after it was queued.
            if isinstance(error, Exception) or not part.cancel():
                self._model.end(ticket, error, part.ended)
            raise

    def _admit(self) -> tuple[_Part, Ticket]:
        ticket = self._model.arrive()
        part = self._last = self._parts[ticket.setting]
        part.ticket = ticket
        return part, ticket

    def cancel(self) -> bool:
        """End the inference at the next step."""
        return self._last.cancel()

    def moments(self) -> tuple[int, int, int]:
        """When the last inference was taken from the queue, began and ended."""
        return self._last.moments()

    def profiling(self) -> list[ProfilingInfo]:
        """A row for each step of the last inference."""
        return self._last.profiling()


class _Part(CpuRequest):
    """The request of one setting; it tells when an inference begins."""

    def __init__(self, bounded: BoundedModel, model: CpuModel) -> None:
        super().__init__(model)
        self._bounded = bounded
        self.ticket: Ticket | None = None

    def begin(self, stream: Stream) -> Job | None:
        """Start the inference, or refuse it now."""
        assert self.ticket is not None
        self._bounded.begin(self.ticket)
        return super().begin(stream)

"""What tests see beyond the public interface: the only place that reads private attributes of the package's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter, methodcaller
from types import CodeType
from typing import Any

import cpuruntime as ov
from cpuruntime.devices.batch.model import BatchModel
from cpuruntime.devices.composed.model import DispatchedModel
from cpuruntime.devices.cpu.latency.admission import Admission
from cpuruntime.devices.cpu.latency.model import LatencyTargetModel
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.hetero.model import HeteroModel
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.streams import again
from cpuruntime.streams.executor import StreamExecutor

device_of = attrgetter("_shared.device")  # of a CompiledModel: its DeviceModel
planning_lock_of = attrgetter("programs._lock")  # of a CpuModel: held while a program is planned

device_request_of = attrgetter("_device")  # of an InferRequest: its DeviceRequest
part_of = attrgetter("_device.worker")  # of an InferRequest with a latency target: the last DeviceRequest of a variant
again_of = attrgetter("_again")  # of an InferRequest: what infers in one step, or None
bindings_of = attrgetter("_bindings")  # of an InferRequest: its tensors
streams_of = attrgetter("_executor.streams")  # of a CpuRequest
seen_bytes_of = attrgetter("_seen.nbytes")  # of a CpuRequest: what is noted for the shapes it has seen
wait_over = methodcaller("_wait_over")  # of an InferRequest: `wait` without raising the inference's error
state_of = attrgetter("_state")  # of an AsyncInferQueue: what it shares with its callbacks

scheduler_of = attrgetter("_scheduler")  # of a StreamExecutor
group_of = attrgetter("_group")  # of a LedStream: its ThreadGroup
stream_of = attrgetter("_stream")  # of a task: the stream that executes it, or executed it last

waiting_in = attrgetter("_waiting")  # of an Admission: the accepted inferences that have not begun
running_in = attrgetter("_running")  # of an Admission: the inferences in flight


def taken_in(device: DeviceModel) -> int:
    """How many streams, workers, slots and inferences are taken of a device's model; 0 where none runs."""
    if isinstance(device, LatencyTargetModel):
        admission = device.gate.admission
        return len(admission._waiting) + len(admission._running) + sum(map(taken_in, device.models))
    if isinstance(device, CpuModel) and isinstance(device.executor, StreamExecutor):
        return len(device.executor.streams) - len(device.executor._scheduler.idle)
    if isinstance(device, DispatchedModel):
        return sum(len(member.busy) + taken_in(member.model) for member in device.members)
    if isinstance(device, HeteroModel):
        return len(device._in_flight) + sum(map(taken_in, device.models))
    if isinstance(device, BatchModel) and device.batcher is not None:
        return device.batcher._active + device.batcher.window.slots - device.batcher._free
    return 0


def call_by(compiled: ov.CompiledModel, request: ov.InferRequest) -> None:
    """Let `compiled(...)` on this thread infer by this request."""
    compiled._callers.request = request


def make_quick(request: ov.InferRequest) -> None:
    """As if the latest inference of a request that was run twice had taken 2 us."""
    make_device_quick(device_request_of(request), request.infer)


def make_device_quick(device: CpuRequest, infer: Callable[[], object]) -> None:
    """The same of a request on the CPU; `infer` is called where it has no job of its own yet."""
    (stream, *_) = device._executor.streams
    own = device._short.whole if device._current is None and device._short else None
    own = device._current.job if device._current else own
    job = own or stream.job
    job.change(job.shared, 2_000)
    if own is None:
        infer()
        make_device_quick(device, infer)


def is_interpreter_known() -> bool:
    """Whether an interpreter like the one that `sys` describes runs what infers in one step."""
    return again.interpreter.__wrapped__() is not None


def refuse_all(admission: Admission) -> None:
    """As if one inference took longer than the target; no inference is accepted to find out whether it still does."""
    for variant in admission.variants:
        variant.service = 10**12
    admission._accepted = 1 << 62


def binding_code() -> set[CodeType]:
    """The functions that write addresses of tensors for the next inference."""
    return {
        function.__code__ for function in (CpuRequest.set_input, CpuRequest._fit_outputs, CpuRequest._choose_program)
    }


def check_addresses(request: CpuRequest, instances: Iterable[Any]) -> None:
    """Fail unless the addresses a request gives to programs, and those bound to instances, are those of its tensors."""
    assert list(request._input_addresses[: len(request._inputs)]) == [a.ctypes.data for a in request._inputs]
    assert list(request._output_addresses[: len(request._outputs)]) == [a.ctypes.data for a in request._outputs]
    for instance in instances:
        bound = dict(enumerate(request._addresses)) if instance.owner is request._bound else instance._bound
        for number, address in bound.items():
            places = instance.image.places(instance.words.data, number)
            assert not address or all(instance.words[word] == address + at for word, at in places)

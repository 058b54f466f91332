"""What tests see beyond the public interface: the only place that reads private attributes of the package's objects."""

from __future__ import annotations

import threading
from types import CodeType
from typing import Any

import cpuruntime as ov
from cpuruntime.devices.cpu.latency.admission import Admission, Ticket
from cpuruntime.devices.cpu.model import CpuModel
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.streams.executor import StreamExecutor
from cpuruntime.streams.led_stream import LedStream
from cpuruntime.streams.scheduler import Scheduler
from cpuruntime.streams.thread_group import ThreadGroup


def device_of(compiled: ov.CompiledModel) -> Any:
    """The model on its device: a DeviceModel."""
    return compiled._shared.device


def device_request_of(request: ov.InferRequest) -> Any:
    """The request on its device: a DeviceRequest."""
    return request._device


def part_of(request: ov.InferRequest) -> Any:
    """Of a request with a latency target: the request of the variant that ran it last."""
    return device_request_of(request)._last


def bindings_of(request: ov.InferRequest) -> Any:
    """The tensors of a request."""
    return request._bindings


def state_of(queue: ov.AsyncInferQueue) -> Any:
    """What a queue and its callbacks share."""
    return queue._state


def call_by(compiled: ov.CompiledModel, request: ov.InferRequest) -> None:
    """Let `compiled(...)` on this thread infer by this request."""
    compiled._callers.request = request


def scheduler_of(executor: StreamExecutor) -> Scheduler:
    """The scheduler of an executor."""
    return executor._scheduler


def group_of(stream: LedStream) -> ThreadGroup:
    """The threads of a stream."""
    return stream._group


def threads_of(stream: LedStream) -> list[threading.Thread]:
    """The leader of a stream, then its workers."""
    return [stream.leader, *stream._group._workers]


def stream_of(task: Any) -> Any:
    """The stream that executes a task, or executed it last."""
    return task._stream


def planning_lock_of(device: CpuModel) -> threading.Lock:
    """Held while a program is planned."""
    return device.programs._lock


def waiting_in(admission: Admission) -> list[Ticket]:
    """The accepted inferences that have not begun."""
    return list(admission._waiting)


def running_in(admission: Admission) -> list[Ticket]:
    """The inferences that have begun."""
    return list(admission._running)


def refuse_all(admission: Admission) -> None:
    """As if one inference took longer than the target; no inference is accepted to find out whether it still does."""
    for variant in admission.variants:
        variant.service = 10**12
    admission._accepted = 1 << 62


def binding_code() -> set[CodeType]:
    """The functions that write addresses of tensors for the next inference."""
    return {
        function.__code__ for function in (CpuRequest.set_input, CpuRequest._bind_output, CpuRequest._choose_program)
    }


def check_addresses(request: CpuRequest) -> None:
    """Fail unless the addresses a request gives to programs are those of its tensors."""
    assert request._input_addresses == [array.ctypes.data for array in request._inputs]
    assert request._output_addresses == [array.ctypes.data for array in request._outputs]


def bound_addresses(instance: Any) -> dict[Any, int]:
    """The addresses an instance of a program was given last."""
    return instance._bound

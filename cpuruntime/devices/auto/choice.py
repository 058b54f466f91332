"""Which device a model is for: by the types it computes in, by what other models hold, by load and power."""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cpuruntime.devices.interface import DeviceHost
from cpuruntime.devices.names import Argument
from cpuruntime.graph import Graph, Type
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import Priority

_QUANTISED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger",
}  # fmt: skip
_WEIGHTED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
_CAPABILITIES = {Type.f16: "FP16", Type.bf16: "BF16", Type.i8: "INT8", Type.u8: "INT8"}
_RANKS = {Priority.HIGH: 0, Priority.MEDIUM: 1, Priority.LOW: 2}
_PROFILE = Path("/sys/firmware/acpi/platform_profile")


class Served(Protocol):
    """A model that holds a device: `device` by name."""

    device: str
    priority: Priority
    closed: bool


_lock = threading.Lock()
_models: weakref.WeakSet[Served] = weakref.WeakSet()


def register(model: Served) -> None:
    """Let later models see which device a model holds, until it is closed."""
    with _lock:
        _models.add(model)


def is_cpu(device: str) -> bool:
    """Whether a device is the processor, or an instance of it."""
    return device.partition(".")[0] == "CPU"


def ranked(
    graph: Graph, arguments: list[Argument], settings: Settings, host: DeviceHost
) -> tuple[list[Argument], list[str]]:
    """The devices to try for a model, the best one first, and why, for people."""
    notes = [f"candidates: {', '.join(one.device for one in arguments)}"]
    found = _able(arguments, precision(graph), host, notes)
    found = _below_threshold(found, settings.value("DEVICES_UTILIZATION_THRESHOLD"), host, notes)
    found = _by_curves(found, settings.value("PERF_CURVE_TABLE"), host, notes)
    found = _saving(found, settings.value("LOW_POWER_DEVICE"), notes)
    return _unoccupied(found, settings.value("MODEL_PRIORITY"), notes), notes


def precision(graph: Graph) -> str:
    """What a model computes in: INT8 where it is quantised, else the type of its first weights; FP32 without any."""
    if any(node.op_type in _QUANTISED for node in graph.nodes):
        return "INT8"
    weights = (
        value.element_type
        for node in graph.nodes
        if node.op_type in _WEIGHTED
        for value in node.inputs[1:2]
        if value is not None and value.constant is not None
    )
    return _CAPABILITIES.get(next(weights, Type.f32), "FP32")


def utilisation(device: str, host: DeviceHost) -> float | None:
    """How busy a device is in percent, where that is known; of the CPU over the last minute."""
    if is_cpu(device):
        return min(100.0, 100 * os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    known = host.get_property(device, "SUPPORTED_PROPERTIES")
    return float(host.get_property(device, "DEVICE_UTILIZATION")) if "DEVICE_UTILIZATION" in known else None


def _able(arguments: list[Argument], needed: str, host: DeviceHost, notes: list[str]) -> list[Argument]:
    """Those that compute in a precision. The CPU, which computes all types, stays, but last."""
    enough = {needed, "FP16"} if needed == "FP32" else {needed}

    def is_able(one: Argument) -> bool:
        return bool(enough & set(host.get_property(one.device, "OPTIMIZATION_CAPABILITIES")))

    able = [one for one in arguments if is_able(one)]
    lacking = [one for one in arguments if one not in able]
    if not able or not lacking:
        return arguments
    notes.append(f"the model is {needed}, which {', '.join(one.device for one in lacking)} lacks")
    return able + [one for one in lacking if is_cpu(one.device)]


def _below_threshold(
    arguments: list[Argument], limits: Mapping[str, float], host: DeviceHost, notes: list[str]
) -> list[Argument]:
    """Those that are not too busy; all, where each is."""
    busy = []
    for one in arguments:
        limit = limits.get(one.device)
        used = None if limit is None else utilisation(one.device, host)
        if limit is not None and used is not None and used > limit:
            busy.append(one)
            notes.append(f"{one.device} is busy: {used:.0f} %, DEVICES_UTILIZATION_THRESHOLD is {limit:g}")
    return [one for one in arguments if one not in busy] or arguments


def _by_curves(
    arguments: list[Argument], curves: Mapping[str, Mapping[float, float]], host: DeviceHost, notes: list[str]
) -> list[Argument]:
    """The devices by their scores at what they are used now, the least first; those without a score after them."""
    scores = {}
    for one in arguments:
        used = utilisation(one.device, host) if one.device in curves else None
        if used is not None:
            scores[one.device] = interpolated(curves[one.device], used)
            notes.append(f"{one.device} has score {scores[one.device]:g} at {used:.0f} %")
    return sorted(arguments, key=lambda one: scores.get(one.device, float("inf")))


def interpolated(curve: Mapping[float, float], at: float) -> float:
    """The value of a curve, given by some of its points; constant beyond the outer ones."""
    points = sorted(curve.items())
    place = bisect_left(points, (at,))
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (left, low), (right, high) = points[place - 1 : place + 1]
    return low + (high - low) * (at - left) / (right - left)


def _saving(arguments: list[Argument], device: str, notes: list[str]) -> list[Argument]:
    """With LOW_POWER_DEVICE first, while the machine is to save power."""
    if not device or not is_saving_power():
        return arguments
    notes.append(f"the machine saves power: LOW_POWER_DEVICE {device} comes first")
    return sorted(arguments, key=lambda one: one.device != device)


def is_saving_power() -> bool:
    """Whether the machine's power profile is to save power; False where it has none."""
    try:
        return _PROFILE.read_text().strip() == "low-power"
    except OSError:
        return False


def _unoccupied(arguments: list[Argument], priority: Priority, notes: list[str]) -> list[Argument]:
    """Devices without models of higher priority come first; where each has some, the last device does."""
    with _lock:
        held = {one.device for one in _models if not one.closed and _RANKS[one.priority] < _RANKS[priority]}
    free = [one for one in arguments if one.device not in held]
    occupied = [one for one in arguments if one.device in held]
    if occupied:
        names = ", ".join(one.device for one in occupied)
        notes.append(f"models of higher priority than MODEL_PRIORITY {priority.value} run on {names}")
    return free + occupied if free else occupied[::-1]

"""Which settings are ignored, and why: conditions of compiling, and sentences of `explain`."""

from __future__ import annotations

from cpuruntime.devices.cpu.precision import precision_sentences
from cpuruntime.hints import AUTO, has_one_stream
from cpuruntime.properties import Settings
from cpuruntime.properties.declaration import Group
from cpuruntime.properties.hint import Priority

_WAITING = {
    Priority.LOW: "it waits for models of higher priority between its steps",
    Priority.MEDIUM: "it waits for HIGH models between its steps, and LOW ones for it",
    Priority.HIGH: "models of lower priority wait for it between their steps",
}


def why_not_calibrated(settings: Settings, is_static: bool) -> str:
    """Why STREAMS_CALIBRATION_MS has no effect on a model, empty where it has one. `is_static`: its shapes are."""
    if settings.value("LATENCY_TARGET_MS"):
        return "models with LATENCY_TARGET_MS are not calibrated"
    if settings.get("NUM_STREAMS") == 0:
        return "NUM_STREAMS is 0, so there are no streams to choose"
    if not is_static:
        return "the model has dynamic shapes, so there is nothing to measure yet"
    return ""


def tries_other_streams(settings: Settings, is_static: bool) -> bool:
    """Whether LATENCY_TARGET_MS lets the load choose the size of a model's streams. `is_static`: its shapes are."""
    asked = settings.get("NUM_STREAMS", AUTO) != AUTO or has_one_stream(settings)
    return bool(settings.value("LATENCY_TARGET_MS")) and is_static and not asked


def sentences(settings: Settings, is_static: bool) -> list[str]:
    """A sentence for each setting that has no effect on a model, and one about its priority."""
    found = []
    budget, why = settings.value("STREAMS_CALIBRATION_MS"), why_not_calibrated(settings, is_static)
    if budget and why:
        found.append(f"STREAMS_CALIBRATION_MS is {budget} and has no effect: {why}")
    if "LATENCY_PERCENTILE" in settings and not settings.value("LATENCY_TARGET_MS"):
        percentile = settings["LATENCY_PERCENTILE"]
        found.append(f"LATENCY_PERCENTILE is {percentile:g} and has no effect: there is no LATENCY_TARGET_MS")
    found += precision_sentences(settings) + [
        f"{name} is {known.values.text(settings[name])} and has no effect:{known.doc.removeprefix('No effect:')[:-1]}"
        for name, known in settings.known.items()
        if name in settings and known.group is Group.ACCEPTED
    ]
    return [*found, _priority(settings.value("MODEL_PRIORITY"))]


def _priority(priority: Priority) -> str:
    return f"MODEL_PRIORITY is {priority.value}: {_WAITING[priority]}, where they share cores"

"""Compares the engines on one model in one mode: loads all of them, checks their outputs, measures them in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peer.mode import Mode
from peer.models import ModelFile
from peer.process import EngineError, EngineProcess
from peer.ratios import Ratio, angle, output_error, ratio, rotated
from peer.report import LARGEST_ANGLE, SETTLE_SECONDS, EngineResult, Result

# The engine whose outputs the others' are compared with: the first of these that runs.
REFERENCE_ORDER = ("onnxruntime", "openvino", "cpuruntime")


@dataclass(frozen=True)
class Plan:
    """How to measure: each engine for `seconds` in `rounds` slices. `device` is cpuruntime's.

    ONNX Runtime, whose outputs are the reference, computes in the model's types whatever the `precision`.
    """

    engines: Sequence[str]
    seconds: float
    rounds: int
    device: str = "CPU"
    precision: str = "f32"


def compare(model: ModelFile, mode: Mode, plan: Plan, folder: Path, progress: Callable[[str], None]) -> Result:
    """Everything about the engines on one model in one mode; `folder` takes their outputs.

    What goes wrong with an engine is a part of the result.
    """
    title = f"{model.name} {mode.name}"
    found = {name: EngineResult() for name in plan.engines}
    outputs = {name: folder / f"{name}-outputs.npz" for name in plan.engines}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(EngineProcess(name)) for name in plan.engines}
        for name, process in processes.items():
            progress(f"{title}: {name} loads the model")
            try:
                how = {"device": plan.device, "precision": plan.precision}
                answer = process.load(model, mode=mode.name, outputs=outputs[name], **how)
            except EngineError as error:
                found[name].failure = str(error)
                continue
            for key, value in answer.items():
                setattr(found[name], key, value)
        working = [name for name in plan.engines if not found[name].failure]
        is_rounded = model.kind == "int8" or plan.precision != "f32"
        _check_outputs({name: outputs[name] for name in working}, found, is_rounded)
        for turn in range(plan.rounds):
            progress(f"{title}: round {turn + 1} of {plan.rounds}")
            for name in rotated(working, turn):
                if not found[name].failure:
                    _measure(processes[name], found[name], plan.seconds / plan.rounds, model.batch, mode)
    return Result(model.name, model.kind, mode, found, _ratios(found, mode))


def _check_outputs(outputs: dict[str, Path], found: dict[str, EngineResult], is_rounded: bool) -> None:
    reference = next((name for name in REFERENCE_ORDER if name in outputs), "")
    arrays = {}
    for name, path in outputs.items():
        with np.load(path) as archive:
            arrays[name] = [archive[key] for key in archive.files]
    for name in outputs:
        if name != reference and is_rounded:
            found[name].error, found[name].largest_error = angle(arrays[name], arrays[reference]), LARGEST_ANGLE
        elif name != reference:
            found[name].error = output_error(arrays[name], arrays[reference])


def _measure(process: EngineProcess, result: EngineResult, seconds: float, batch: int, mode: Mode) -> None:
    time.sleep(SETTLE_SECONDS)
    try:
        answer = process.slice(seconds)
    except EngineError as error:
        result.failure = str(error)
        return
    result.values.append(answer["value"] * (1 if mode.is_latency else batch))
    result.counts.append(answer["count"])
    result.idle_cpu_seconds = max(result.idle_cpu_seconds, answer["idle_cpu_seconds"])
    result.peak_memory_mb = answer["peak_memory_mb"]
    result.median = statistics.median(result.values)


def _ratios(found: dict[str, EngineResult], mode: Mode) -> dict[str, Ratio]:
    first, *others = found
    return {
        name: ratio(found[first].values, found[name].values, smaller_is_better=mode.is_latency)
        for name in others
        if not found[first].failure and not found[name].failure
    }

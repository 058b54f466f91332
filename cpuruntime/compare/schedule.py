"""Measures: pairs of processes start in turns, and their slices alternate at random with calibration loops between.

Each model and mode is a case. All cases get a pair of processes before any gets the next, so that a slow spell of the
machine falls on all of them alike. Measuring goes on for the time of the case.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuruntime.compare.installations import Installation
from cpuruntime.compare.process import SideError, SideProcess
from cpuruntime.compare.suite import MODE, Suite, SuiteModel
from cpuruntime.compare.watch import Conditions, Watch

SLICE_SECONDS = 0.05
FEWEST_INFERENCES = 4
"""Inferences that a slice should have, unless it then takes longer than LONGEST_SLICE."""
LONGEST_SLICE = 1.0
FEWEST_PAIRS = 3
"""Pairs of slices that each pair of processes gets, even when the time is over."""


@dataclass(frozen=True)
class SlicePair:
    """The seconds of an inference on each side, and the conditions meanwhile.

    `processor` is the processor time of an inference on each side, where one thread infers: it does not grow while
    others have the processor. Threads that wait for each other use processor time, so it is empty in other modes.
    """

    values: dict[str, float]
    processor: dict[str, float]
    conditions: Conditions


@dataclass(frozen=True)
class ProcessPair:
    """The measurements of a pair of processes: startup, first inference and memory of each side, then the slices."""

    starts: dict[str, dict[str, float]] = field(default_factory=dict)
    slices: list[SlicePair] = field(default_factory=list)


@dataclass
class Case:
    """A model in a mode, and its measurements. `failure` says why there are no more."""

    model: SuiteModel
    mode: str
    file: str
    slice_seconds: float = SLICE_SECONDS
    processes: list[ProcessPair] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)
    failure: str = ""


class Schedule:
    """Measures cases on one side or two, given by name."""

    def __init__(
        self,
        suite: Suite,
        sides: dict[str, Installation],
        watch: Watch,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._suite = suite
        self._sides = sides
        self._watch = watch
        self._report = report
        self._random = random.Random()
        self._clock = clock

    def rehearse(self, case: Case, folder: Path) -> None:
        """Runs each side once, untimed: kernels are compiled and cached, outputs written, the slice's length chosen."""
        self._report(f"{case.model.name} {case.mode}: kernels are compiled")
        for name, side in self._sides.items():
            outputs = folder / f"{case.model.name}-{case.mode}-{name}.npz"
            try:
                with SideProcess(name, side) as process:
                    process.ask("start", **_settings(case, side, outputs))
                    value = process.slice(SLICE_SECONDS)["value"]
            except SideError as error:
                case.failure = str(error)
                return
            case.outputs[name] = outputs
            case.slice_seconds = max(case.slice_seconds, min(FEWEST_INFERENCES * value, LONGEST_SLICE))

    def run(self, cases: Sequence[Case]) -> None:
        """Measures all cases. A case whose side fails keeps its measurements, and the others go on.

        Ctrl-C is a failure of all cases.
        """
        count = self._suite.processes
        try:
            for number in range(1, count + 1):
                for case in cases:
                    if not case.failure:
                        self._measure(case, self._suite.seconds / count)
                self._report(f"pairs of processes measured: {number} of {count}")
        except KeyboardInterrupt:
            for case in cases:
                case.failure = case.failure or "interrupted"

    def _measure(self, case: Case, seconds: float) -> None:
        """Adds a pair of processes to the case."""
        end = self._clock() + seconds
        found = ProcessPair()
        processes: dict[str, SideProcess] = {}
        try:
            with ExitStack() as stack:
                for name in self._order():
                    side = self._sides[name]
                    processes[name] = stack.enter_context(SideProcess(name, side))
                    found.starts[name] = processes[name].ask("start", **_settings(case, side))
                while len(found.slices) < FEWEST_PAIRS or self._clock() < end:
                    found.slices.append(self._pair(processes, case))
        except SideError as error:
            case.failure = str(error)
        if found.slices:
            case.processes.append(found)

    def _pair(self, processes: dict[str, SideProcess], case: Case) -> SlicePair:
        """A slice of each side, in random order."""
        values, processor, own_seconds = {}, {}, -time.process_time()
        is_serial = all(_is_serial(_settings(case, side)["config"]) for side in self._sides.values())
        loops = [self._watch.calibrate()]
        before = self._watch.snapshot()
        for name in self._order():
            answer = processes[name].slice(case.slice_seconds)
            values[name] = answer["value"]
            if is_serial:
                processor[name] = answer["processor"]
            own_seconds += answer["cpu_seconds"]
            loops.append(self._watch.calibrate())
        after = self._watch.snapshot()
        own_seconds += time.process_time()
        return SlicePair(values, processor, self._watch.conditions(before, after, own_seconds, loops))

    def _order(self) -> list[str]:
        return self._random.sample(list(self._sides), len(self._sides))


def _is_serial(config: Mapping[str, Any]) -> bool:
    """Whether one thread infers."""
    return all(str(config.get(name)) == "1" for name in ("INFERENCE_NUM_THREADS", "NUM_STREAMS"))


def _settings(case: Case, side: Installation, outputs: Path | None = None) -> dict[str, Any]:
    """The values of a worker's command "start". Without tuning by measurement both sides make the same choices."""
    match = MODE.fullmatch(case.mode)
    hint = "LATENCY" if case.mode.startswith("latency") else "THROUGHPUT"
    config: dict[str, Any] = {"PERFORMANCE_HINT": hint, "TUNING_BUDGET_MS": 0}
    if match and match[1]:
        config |= {"INFERENCE_NUM_THREADS": int(match[1]), "NUM_STREAMS": 1}
    return {
        "model": case.file,
        "mode": case.mode,
        "config": {**config, **case.model.config, **side.config},
        "shapes": case.model.shapes,
        "inputs": str(case.model.inputs or ""),
        "outputs": str(outputs or ""),
    }

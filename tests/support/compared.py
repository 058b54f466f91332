"""Made-up measurements for tests of `cpuruntime compare`."""

from __future__ import annotations

import numpy as np

from cpuruntime.compare.schedule import Case, ProcessPair, SlicePair
from cpuruntime.compare.suite import METRICS, SuiteModel
from cpuruntime.compare.watch import Conditions

SIDES = ("base", "head")


def suite_model(name: str) -> SuiteModel:
    """A model of a suite with the default thresholds."""
    return SuiteModel(name, f"{name}.onnx", ("latency1",), METRICS)


def case(
    name: str = "net",
    slowdown: float = 0.0,
    noise: float = 0.002,
    processes: int = 8,
    slices: int = 5,
    seed: int = 0,
    machine: float = 1.0,
    disturbed: float = 0.0,
    serial: bool = False,
) -> Case:
    """Measurements of a head that is `slowdown` slower, on a machine that takes `machine` times as long.

    `noise` is that of processes and of slices; a share `disturbed` of the pairs is marked, and the head's part of them
    takes three times as long, but by processor time, which `serial` slices have.
    """
    random = np.random.default_rng(seed)
    found = Case(suite_model(name), "latency1", f"{name}.onnx")
    for _ in range(processes):
        luck = dict(zip(SIDES, np.exp(random.normal(0, noise, 2)) * [1.0, 1.0 + slowdown] * 0.005 * machine))
        pair = ProcessPair({side: {"startup": 100 * luck[side], "first": luck[side], "memory": 1e8} for side in SIDES})
        for _ in range(slices):
            values = {side: float(luck[side] * np.exp(random.normal(0, noise))) for side in SIDES}
            processor = dict(values) if serial else {}
            is_disturbed = bool(random.random() < disturbed)
            if is_disturbed:
                values["head"] *= 3
            conditions = Conditions(0.002 * machine, disturbance="other processes ran" if is_disturbed else "")
            pair.slices.append(SlicePair(values, dict(processor), conditions))
        found.processes.append(pair)
    return found

"""Times of steps are computed from noted clocks when somebody looks."""

from __future__ import annotations

import numpy as np

from cpuruntime.program.program import StepTimes


def test_times_are_differences_of_clocks_in_the_order_of_the_parts() -> None:
    times = StepTimes([np.array([10, 13, 18]), 7, np.array([100, 101])], 1, 4)
    assert len(times) == 4
    assert [*times] == times.array.tolist() == [3, 5, 7, 1]


def test_times_of_repeated_steps_are_sums() -> None:
    assert [*StepTimes([np.array([0, 1, 3, 6, 10])], 2, 2)] == [4, 6]


def test_nothing_was_noted() -> None:
    assert [*StepTimes((), 1, 0)] == []

"""Times of steps are computed from noted clocks when somebody looks."""

from __future__ import annotations

import numpy as np
import pytest

from cpuruntime.program.program import StepTimes


def test_times_are_differences_of_clocks_in_the_order_of_the_parts() -> None:
    times = StepTimes([np.array([10, 13, 18]), 7, np.array([100, 101])], 1, 4)
    assert len(times) == 4
    assert [*times] == times.array.tolist() == [3, 5, 7, 1]


def test_times_of_repeated_steps_are_sums() -> None:
    assert [*StepTimes([np.array([0, 1, 3, 6, 10])], 2, 2)] == [4, 6]


def test_nothing_was_noted() -> None:
    assert [*StepTimes((), 1, 0)] == []


def test_shares_are_of_the_steps_that_all_threads_share() -> None:
    began, first, second = [10, 20, 30, 40], [15, 7, 39], [20, 25, 38]  # thread 0 runs the middle step alone
    times = StepTimes([np.array([*began, *first, *second]), 7], 1, 4, threads=2)
    assert [*times] == [10, 10, 10, 7]
    assert times.shares() == [[5, 10], [], [9, 8], []]


def test_shares_of_repeated_steps_are_sums() -> None:
    clocks = [0, 10, 20, 30, 40, *(4, 0, 25, 0), *(10, 0, 30, 0)]
    assert StepTimes([np.array(clocks)], 2, 2, threads=2).shares() == [[9, 20], []]


@pytest.mark.parametrize("threads", [0, 1])
def test_no_shares_were_noted(threads: int) -> None:
    assert StepTimes([np.array([10, 13, 18, *[0] * 2 * threads])], 1, 2, threads).shares() == [[], []]

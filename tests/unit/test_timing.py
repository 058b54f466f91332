"""Measuring in turns, with a clock that the runs move."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from cpuruntime.host.timing import alternate


class Clock:
    """Notes the runs and moves by what each takes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, seconds: float) -> Callable[[], float]:
        def run() -> float:
            self.runs.append(name)
            self.now += seconds
            return seconds

        return run


def test_runs_take_turns_for_so_many_rounds() -> None:
    clock = Clock()
    found = alternate([clock.run("a", 1), clock.run("b", 2)], budget=inf, rounds=3, clock=clock)
    assert clock.runs == ["a", "b"] * 3
    assert found == [[1, 1, 1], [2, 2, 2]]


def test_no_round_begins_after_the_budget_but_the_fewest() -> None:
    for fewest, rounds in ((1, 2), (3, 3)):
        clock = Clock()
        assert alternate([clock.run("a", 1)], budget=1.5, rounds=9, fewest=fewest, clock=clock) == [[1] * rounds]


def test_a_hopeless_run_is_measured_once() -> None:
    clock = Clock()
    runs = [clock.run("a", 1), clock.run("b", 1.1), clock.run("c", 1.3)]
    assert [len(own) for own in alternate(runs, inf, rounds=4, hopeless=1.2, clock=clock)] == [4, 4, 1]


def test_measuring_ends_when_one_of_several_is_left() -> None:
    clock = Clock()
    alternate([clock.run("a", 1), clock.run("b", 2)], inf, rounds=9, fewest=2, hopeless=1.2, clock=clock)
    assert clock.runs == ["a", "b", "a"]


def test_measuring_ends_when_the_best_samples_of_all_runs_agree() -> None:
    clock = Clock()
    samples = iter([5.0, 3.0, 3.02, 3.01])
    noisy = lambda: next(samples)  # noqa: E731
    found = alternate([noisy, clock.run("b", 1)], inf, rounds=9, fewest=2, clock=clock, settled=1.02)
    assert found == [[5.0, 3.0, 3.02], [1, 1, 1]]

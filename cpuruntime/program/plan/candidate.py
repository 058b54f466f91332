"""Candidates: ways to do the work of a step, with what each is expected to take, and the query they answer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from cpuruntime.records import record

T = TypeVar("T")


@record
class Query:
    """All that the times of candidates depend on beside machine and threads: the key of what was measured.

    `modules` are those of ops that hold the kernels, `geometry` and `grid` records of the sizes of the node and of the
    work that tiles are chosen for.
    """

    modules: tuple[str, ...]
    geometry: Hashable
    grid: Hashable = None
    residual: bool = False
    activation: str = ""


@record
class Candidate(Generic[T]):
    """One way: `name` identifies it and is shown to users, `cost` is an estimate in slots (see `tiles`)."""

    choice: T
    name: str
    cost: float


@record
class Comparison:
    """The candidates of a choice, the chosen one first.

    `seconds` are those measured, None for what was not; `costs` the estimates.
    """

    names: tuple[str, ...] = ()
    seconds: tuple[float | None, ...] = ()
    costs: tuple[float, ...] = ()


@record
class Chosen(Generic[T]):
    """The choice of a candidate, and the comparison behind it."""

    choice: T
    comparison: Comparison = Comparison()


def estimated(candidates: Sequence[Candidate[T]]) -> Chosen[T]:
    """The first candidate, by its estimate."""
    return Chosen(candidates[0].choice, compared(candidates, 0, (None,) * len(candidates)))


def compared(candidates: Sequence[Candidate[T]], chosen: int, seconds: Sequence[float | None]) -> Comparison:
    """The comparison of candidates of which number `chosen` was chosen."""
    order = sorted(range(len(candidates)), key=lambda index: index != chosen)
    names, costs = zip(*((candidates[index].name, candidates[index].cost) for index in order))
    return Comparison(names, tuple(seconds[index] for index in order), costs)

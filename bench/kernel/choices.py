"""How good the estimates are: every candidate of every choice of a model, measured as the tuner measures."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from cpuruntime.graph import Graph, Node
from cpuruntime.program.plan.candidate import Candidate, Chosen, Query, T, estimated
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning.trial import Workbench, create_trial
from cpuruntime.program.tuning.tuner import is_far, time_runs


@dataclass(frozen=True)
class Choice:
    """One choice: `seconds` of each candidate, the estimate's favourite first."""

    node: str
    query: Query
    candidates: Sequence[Candidate]
    seconds: Sequence[float]

    @property
    def loss(self) -> float:
        """How much longer the favourite takes than the fastest, as a part of the latter."""
        return self.seconds[0] / min(self.seconds) - 1


class Judge:
    """In the place of a tuner: measures all candidates and then goes by the estimate."""

    def __init__(self, graph: Graph) -> None:
        self._workbench = Workbench(is_far(graph))
        self.choices: dict[Hashable, Choice] = {}

    def choose(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None],
        threads: int,
    ) -> Chosen[T]:  # fmt: skip
        """By the estimate."""
        key = (query, tuple(c.name for c in candidates))
        if key not in self.choices and len(candidates) > 1:
            trials = [create_trial(node, threads) for _ in candidates]
            for trial, candidate in zip(trials, candidates):
                emit(trial, candidate.choice)
            seconds = time_runs({i: self._workbench.prepare(trial) for i, trial in enumerate(trials)})
            self.choices[key] = Choice(node.where, query, candidates, [seconds[i] for i in range(len(candidates))])
        return estimated(candidates)

    def choose_method(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None]
    ) -> Chosen[T]:
        """By the estimate."""
        return self.choose(node, query, candidates, emit, 1)


def judge(graph: Graph, threads: int) -> list[Choice]:
    """The choices of an optimised graph, equal ones once."""
    tuner = Judge(graph)
    Planner(graph, WeightStore(), threads, tuner=tuner).plan()
    return list(tuner.choices.values())

"""Tuning: chooses the fastest of close candidates by running them, within a budget of time.

Decisions are stored beside the compiled kernels, so that a machine measures the same sizes once. Where a model is to
start fast and its kernels are there, estimates decide first, and candidates are measured later. Steps are timed alone
on one thread, as each thread of the stream in turn, by the processor's time, which other threads on it do not
take. Candidates alternate, so that other load slows all of them down alike, and the estimate's favourite is left only
for one that is faster by a margin.

A choice between methods whose results differ in the last bits is made for one thread and once for a process, also when
there was no time to measure; of two processes that measure it at once both use that of the first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from cpuruntime.compiler import build
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Graph, Node
from cpuruntime.host.caches import caches
from cpuruntime.host.timing import alternate
from cpuruntime.program.plan.candidate import Candidate, Chosen, Query, T, compared, estimated
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.tuning.decisions import Decision, Decisions, decisions
from cpuruntime.program.tuning.trial import Workbench, create_trial, kernels_of

# Candidates are measured up to this factor of the first one's estimate; estimates of methods are less accurate.
CLOSE, CLOSE_METHODS = 1.15, 1.6
# The most candidates that are measured, a few milliseconds each; steps of lower cost, about 10 us, are not.
MOST, SMALL = 5, 80_000
# A comparison has its fewest rounds, and more up to this many within the seconds.
ROUNDS, FEWEST_ROUNDS, ENOUGH_SECONDS = 5, 2, 0.05
# A candidate beyond this factor of the fastest one's time is not measured again.
DROPPED = 1.25
# Share of the first candidate's time that another one must not exceed to be preferred.
MARGIN = 0.97
# How many times the budget measuring may take while nobody waits for it.
PATIENCE = 5
# Typical time to compile a kernel.
COMPILE_SECONDS = 0.3

log = logging.getLogger("cpuruntime")

Measure = Callable[[Emitter], Callable[[], float]]


class Tuner:
    """Decides for the programs of one model; used by one thread at a time.

    Args:
        budget: seconds that measuring may take in all, the compilation of kernels that only a trial needs included.
        processor: the name of the processor; measurements of another one are not used.
        far: whether the model's weights are read from memory in each inference, not from the last cache.
        decisions: the store of earlier measurements.
        measure: makes a function that runs a trial and returns seconds; a `Workbench` when it is not given.
        clock: seconds.
        eager: whether to measure also where no kernel has to be compiled, so that nothing else takes time.

    Attributes:
        is_open: whether estimates decided what may still be measured.
        has_changed: whether it decided otherwise than the tuner that left it to it; see `later`.
    """

    def __init__(
        self, budget: float, processor: str, far: bool, decisions: Decisions, measure: Measure | None = None,
        clock: Callable[[], float] = time.perf_counter, eager: bool = True,
    ) -> None:  # fmt: skip
        self._left, self._reserve = (budget, 0.0) if eager else (0.0, budget)
        self._processor, self._far = processor, far
        self._decisions, self._measure, self._clock = decisions, measure, clock
        self._tried: dict[str, Decision] = {}
        self._earlier: dict[str, Decision] | None = None
        self.is_open = self.has_changed = False

    def later(self, clock: Callable[[], float]) -> Tuner:
        """A tuner that measures what this one left to estimates, in seconds of another clock: nobody waits for it."""
        budget = PATIENCE * (self._left + self._reserve)
        one = Tuner(budget, self._processor, self._far, self._decisions, self._measure, clock)
        one._earlier = self._tried
        return one

    def choose(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None],
        threads: int,
    ) -> Chosen[T]:  # fmt: skip
        """The fastest of the close candidates, which differ in time only."""
        return self._choose(node, query, candidates, emit, threads, CLOSE, is_binding=False)

    def choose_method(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None]
    ) -> Chosen[T]:
        """The fastest of close candidates whose results differ in the last bits."""
        return self._choose(node, query, candidates, emit, 1, CLOSE_METHODS, is_binding=True)

    def _choose(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: Callable[[Emitter, T], None],
        threads: int, factor: float, is_binding: bool,
    ) -> Chosen[T]:  # fmt: skip
        """The fastest candidate up to `factor` of the first one's cost; a binding choice is stored unmeasured too."""
        close = [c for c in candidates if c.cost <= factor * candidates[0].cost][:MOST]
        if len(close) == 1 or close[0].cost < SMALL:
            return estimated(candidates)
        names = [candidate.name for candidate in close]
        key = self._key(query, names, threads)
        found = self._tried.get(key)
        if found is None:
            found = self._decisions.find(key, names)
            if found is None or (self._earlier is not None and not found.is_measured):
                trials = (_trial_of(node, candidate, emit, threads) for candidate in close)
                found = self._decide(key, names, trials, is_binding)
            self._tried[key] = found
            if self._earlier is not None and key in self._earlier:
                self.has_changed |= self._earlier[key].chosen != found.chosen
        self.is_open |= not found.is_measured
        return Chosen(close[found.chosen].choice, compared(close, found.chosen, found.seconds))

    def dry(self) -> DryTuner:
        """A tuner for a dry run, since kernels have to be compiled: from now on there is time to measure, too."""
        self._left, self._reserve = self._left + self._reserve, 0.0
        return DryTuner(self._left, self._processor, self._far, self._decisions)

    def spend(self, seconds: float) -> None:
        """Takes time that a dry run used up from the budget."""
        self._left -= seconds

    def _decide(self, key: str, names: Sequence[str], trials: Iterator[Emitter], is_binding: bool) -> Decision:
        first = next(trials)
        # These kernels are compiled whether or not there is a comparison.
        for kernel in kernels_of(first):
            _ = kernel.address
        found = _decide(self._compare([first, *trials], names) if self._left > 0 else [None] * len(names))
        if is_binding or found.is_measured:
            return self._decisions.publish(key, names, found)
        return found

    def _run_of(self, trial: Emitter) -> Callable[[], float]:
        if self._measure is None:
            self._measure = Workbench(self._far).prepare
        return self._measure(trial)

    def _key(self, query: Query, names: Sequence[str], threads: int) -> str:
        facts = (self._processor, caches(), self._far, query, names, threads)
        return build.digest(query.modules, repr(facts))

    def _compare(self, trials: Sequence[Emitter], names: Sequence[str]) -> list[float | None]:
        """Seconds of each candidate; None for those whose kernels there was no time to compile, or for all."""
        begin = self._clock()
        runs: dict[int, Callable[[], float]] = {}
        for index, trial in enumerate(trials):
            missing = len({kernel for kernel in kernels_of(trial) if not kernel.is_compiled})
            if missing * COMPILE_SECONDS <= self._left - (self._clock() - begin):
                runs[index] = self._run_of(trial)
        seconds = time_runs(runs, self._clock) if len(runs) > 1 else {}
        self._left -= self._clock() - begin
        log.debug("%s: %s", trials[0].node.where, {names[i]: round(1e6 * s, 1) for i, s in seconds.items()})
        return [seconds.get(index) for index in range(len(trials))]


class DryTuner(Tuner):
    """Measures nothing, and gathers the `kernels` of the candidates that its tuner would measure.

    Those that only a trial needs are gathered as long as the budget pays for them; `spent` are its seconds.
    """

    def __init__(self, budget: float, processor: str, far: bool, decisions: Decisions) -> None:
        super().__init__(budget, processor, far, decisions)
        self.kernels: dict[Kernel, None] = {}
        self.spent = 0.0

    def _decide(self, key: str, names: Sequence[str], trials: Iterator[Emitter], is_binding: bool) -> Decision:
        for index, trial in enumerate(trials):
            needed = dict.fromkeys(kernels_of(trial))
            missing = [kernel for kernel in needed if not kernel.is_compiled and kernel not in self.kernels]
            cost = COMPILE_SECONDS * len(missing) if index else 0.0
            if self.spent + cost <= self._left:
                self.spent += cost
                self.kernels.update(needed)
        return Decision(0, (None,) * len(names))


def _trial_of(node: Node, candidate: Candidate[T], emit: Callable[[Emitter, T], None], threads: int) -> Emitter:
    trial = create_trial(node, threads)
    emit(trial, candidate.choice)
    return trial


def time_runs(
    runs: dict[int, Callable[[], float]], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Seconds of each run: the second best of those measured, so that neither luck nor disturbances count."""
    for run in runs.values():
        run()  # only brings memory and code
    samples = alternate(list(runs.values()), ENOUGH_SECONDS, ROUNDS, FEWEST_ROUNDS, DROPPED, clock)
    return {index: sorted(found)[:2][-1] for index, found in zip(runs, samples)}


def create_tuner(budget: float, processor: str, graph: Graph, eager: bool) -> Tuner | None:
    """A tuner for the programs of a model with `budget` seconds; None when that is 0."""
    return Tuner(budget, processor, is_far(graph), decisions(), eager=eager) if budget > 0 else None


def is_far(graph: Graph) -> bool:
    """Whether the weights of a model do not stay in the last cache from one inference to the next."""
    values = {value for node in graph.nodes for value in node.inputs if value is not None}
    return sum(value.constant.nbytes for value in values if value.constant is not None) > caches().last // 2


def _decide(seconds: Sequence[float | None]) -> Decision:
    """The first candidate, unless another is faster by the margin."""
    measured = [(value, index) for index, value in enumerate(seconds) if value is not None]
    fastest, index = min(measured, default=(0.0, 0))
    first = seconds[0]
    return Decision(index if first is not None and fastest < MARGIN * first else 0, tuple(seconds))

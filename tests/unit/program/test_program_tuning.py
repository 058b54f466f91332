"""Tuning with a fake clock and fake timings: what is measured, what is chosen, what is kept, within which budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cpuruntime.compiler.kernel import Kernel, record
from cpuruntime.graph import Node
from cpuruntime.program.plan.candidate import Candidate, Query
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.tuning.decisions import Decisions
from cpuruntime.program.tuning.tuner import CLOSE, CLOSE_METHODS, MOST, ROUNDS, SMALL, Tuner
from cpuruntime.store import Folder

NODE = Node("Conv", "c", [], [])


class Machine:
    """Times candidates by a table of seconds; the clock moves by what is run and by `overhead` for each preparation."""

    def __init__(self, seconds: dict[str, float | Iterator[float]], overhead: float = 0.0) -> None:
        self.now = 0.0
        self.runs: list[str] = []
        self._seconds = seconds
        self._overhead = overhead

    def clock(self) -> float:
        return self.now

    def measure(self, trial: Emitter) -> Callable[[], float]:
        (name,) = trial.faults[0]
        self.now += self._overhead

        def run() -> float:
            self.runs.append(name)
            found = self._seconds[name]
            taken = found if isinstance(found, float) else next(found)
            self.now += taken
            return taken

        return run


def emit(trial: Emitter, choice: str) -> None:
    trial.fault(choice)


def query(sizes: int = 1) -> Query:
    return Query(("convolution",), sizes)


def candidates(*costs: float) -> list[Candidate[str]]:
    """Candidates a, b, c, ... of these costs relative to one that is worth measuring."""
    return [Candidate(name, name, cost * SMALL) for name, cost in zip("abcdefghij", costs)]


def tuner(machine: Machine, decisions: Decisions | None = None, budget: float = 10.0, far: bool = False) -> Tuner:
    return Tuner(budget, "processor", far, decisions or Decisions(Folder(None)), machine.measure, machine.clock)


def choose(one: Tuner, among: Sequence[Candidate[str]], sizes: int = 1, threads: int = 1) -> str:
    return one.choose(NODE, query(sizes), among, emit, threads).choice


def test_the_fastest_is_chosen() -> None:
    machine = Machine({"a": 1e-3, "b": 2e-3, "c": 0.5e-3})
    chosen = tuner(machine).choose(NODE, query(), candidates(1, 1.01, 1.02), emit, 1)
    assert chosen.choice == "c"
    assert chosen.comparison.names == ("c", "a", "b")
    assert chosen.comparison.seconds == (0.5e-3, 1e-3, 2e-3)


def test_candidates_alternate() -> None:
    machine = Machine({"a": 1e-3, "b": 1e-3})
    choose(tuner(machine), candidates(1, 1))
    assert machine.runs == ["a", "b"] * (1 + ROUNDS)


def test_a_slow_candidate_is_given_up() -> None:
    machine = Machine({"a": 1e-3, "b": 2e-3, "c": 1e-3})
    choose(tuner(machine), candidates(1, 1, 1))
    assert machine.runs.count("b") == 2
    assert machine.runs.count("a") == 1 + ROUNDS


def test_a_margin_is_needed_to_leave_the_estimate() -> None:
    assert choose(tuner(Machine({"a": 1e-3, "b": 0.98e-3})), candidates(1, 1)) == "a"
    assert choose(tuner(Machine({"a": 1e-3, "b": 0.96e-3})), candidates(1, 1)) == "b"


def test_single_disturbances_do_not_count() -> None:
    lucky = iter([1.0, 1e-3, 1e-5, 1e-3, 1e-3, 1e-3])
    disturbed = iter([1.0, 0.9e-3, 0.9e-3, 0.9e-3, 0.9e-3, 0.9e-3])
    assert choose(tuner(Machine({"a": lucky, "b": disturbed})), candidates(1, 1)) != "a"


@pytest.mark.parametrize(
    "among", [candidates(1, CLOSE + 0.01), candidates(1), [Candidate(n, n, SMALL / 2) for n in "ab"]]
)
def test_nothing_is_measured_where_it_would_not_help(among: list[Candidate[str]]) -> None:
    machine = Machine({})
    chosen = tuner(machine).choose(NODE, query(), among, emit, 1)
    assert chosen.choice == "a"
    assert chosen.comparison.seconds[0] is None
    assert machine.runs == []


def test_so_many_are_measured_at_most() -> None:
    machine = Machine(dict.fromkeys("abcdefghij", 1e-3))
    choose(tuner(machine), candidates(*[1.0] * 10))
    assert len(set(machine.runs)) == MOST


def test_what_was_measured_is_kept_for_other_tuners_and_processes(tmp_path: Path) -> None:
    machine = Machine({"a": 2e-3, "b": 1e-3})
    first = choose(tuner(machine, Decisions(Folder(tmp_path))), candidates(1, 1))
    later = Machine({})
    assert choose(tuner(later, Decisions(Folder(tmp_path))), candidates(1, 1)) == first == "b"
    assert later.runs == []


@pytest.mark.parametrize("change", [{"sizes": 2}, {"threads": 2}, {"among": candidates(1, 1, 1)}])
def test_what_was_measured_stands_for_itself_only(change: dict) -> None:
    decisions = Decisions(Folder(None))
    choose(tuner(Machine({"a": 2e-3, "b": 1e-3}), decisions), candidates(1, 1))
    machine = Machine({"a": 1e-3, "b": 2e-3, "c": 2e-3})
    assert choose(tuner(machine, decisions), **{"among": candidates(1, 1), **change}) == "a"


def test_weights_from_memory_and_from_a_cache_are_told_apart() -> None:
    decisions = Decisions(Folder(None))
    assert choose(tuner(Machine({"a": 2e-3, "b": 1e-3}), decisions, far=True), candidates(1, 1)) == "b"
    assert choose(tuner(Machine({"a": 1e-3, "b": 2e-3}), decisions, far=False), candidates(1, 1)) == "a"


def test_without_time_the_estimate_decides_until_there_is_time() -> None:
    decisions, machine = Decisions(Folder(None)), Machine({"a": 1.0, "b": 0.5})
    one = tuner(machine, decisions, budget=1.0)
    assert choose(one, candidates(1, 1), sizes=1) == "b"
    spent = machine.now
    assert choose(one, candidates(1, 1), sizes=2) == "a"
    assert machine.now == spent
    assert choose(tuner(machine, decisions), candidates(1, 1), sizes=2) == "b"


def test_kernels_are_compiled_within_the_budget_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "address", 0)
    monkeypatch.setattr(Kernel, "is_compiled", property(lambda self: self.name in "ab"))

    def emit_kernel(trial: Emitter, choice: str) -> None:
        emit(trial, choice)
        trial.emit(Kernel(emit_kernel, record(x="i8"), choice), "plain")

    among = candidates(1, 1, 1)
    machine, decisions = Machine({"a": 1e-3, "b": 0.9e-3, "c": 0.1e-3}), Decisions(Folder(None))
    for _ in range(2):
        assert tuner(machine, decisions, budget=0.2).choose(NODE, query(), among, emit_kernel, 1).choice == "b"
    assert machine.runs == ["a", "b"] * (1 + ROUNDS)
    assert tuner(machine).choose(NODE, query(), among, emit_kernel, 1).choice == "c"


def test_what_could_not_be_compared_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "address", 0)
    monkeypatch.setattr(Kernel, "is_compiled", property(lambda self: self.name == "a"))

    def emit_kernel(trial: Emitter, choice: str) -> None:
        emit(trial, choice)
        trial.emit(Kernel(emit_kernel, record(x="i8"), choice), "plain")

    machine, decisions = Machine({"a": 1e-3, "b": 0.5e-3}), Decisions(Folder(None))
    poor = tuner(machine, decisions, budget=0.2)
    assert poor.choose(NODE, query(), candidates(1, 1), emit_kernel, 1).choice == "a"
    assert machine.runs == []
    assert tuner(machine, decisions).choose(NODE, query(), candidates(1, 1), emit_kernel, 1).choice == "b"


def test_nothing_is_measured_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user sets the budget; a dry run is made when a kernel has to be compiled."""
    compiled: list[str] = []
    monkeypatch.setattr(Kernel, "address", property(lambda self: compiled.append(self.name) or one.dry()))
    monkeypatch.setattr(Kernel, "is_compiled", True)

    def emit_kernel(trial: Emitter, choice: str) -> None:
        emit(trial, choice)
        if compiling:
            trial.emit(Kernel(emit_kernel, record(x="i8"), choice), "plain")

    machine, compiling = Machine({"a": 1e-3, "b": 0.5e-3}), False
    one = Tuner(10.0, "processor", False, Decisions(Folder(None)), machine.measure, machine.clock, eager=False)
    assert one.choose(NODE, query(1), candidates(1, 1), emit_kernel, 1).choice == "a"
    assert machine.runs == []
    compiling = True
    assert one.choose(NODE, query(2), candidates(1, 1), emit_kernel, 1).choice == "b"
    assert compiled == ["a"]
    compiling = False
    assert one.choose(NODE, query(3), candidates(1, 1), emit_kernel, 1).choice == "b"


def method(one: Tuner, sizes: int = 1) -> str:
    return one.choose_method(NODE, query(sizes), candidates(1, CLOSE_METHODS - 0.1), emit).choice


def test_what_estimates_decided_is_measured_later() -> None:
    """A method too, which is chosen once otherwise; what was measured before is no change."""
    machine, decisions = Machine({"a": 1e-3, "b": 0.5e-3}), Decisions(Folder(None))
    method(tuner(machine, decisions), sizes=1)
    machine.runs.clear()
    lazy = Tuner(10.0, "processor", False, decisions, machine.measure, machine.clock, eager=False)
    assert [method(lazy, sizes) for sizes in (1, 2)] == ["b", "a"]
    assert (lazy.is_open, machine.runs) == (True, [])
    later = lazy.later(machine.clock)
    assert method(later, sizes=1) == "b"
    assert not later.has_changed
    assert method(later, sizes=2) == "b"
    assert (later.has_changed, later.is_open) == (True, False)
    assert method(tuner(Machine({}), decisions), sizes=2) == "b"


def test_a_method_is_chosen_once_for_a_process_even_without_time(tmp_path: Path) -> None:
    machine = Machine({"a": 1.0, "b": 0.5})
    poor_decisions = Decisions(Folder(tmp_path))
    poor = tuner(machine, poor_decisions, budget=1.0)
    assert method(poor, sizes=1) == "b"
    assert method(poor, sizes=2) == "a"
    assert method(tuner(machine, poor_decisions), sizes=2) == "a"
    assert method(tuner(machine, Decisions(Folder(tmp_path))), sizes=2) == "b"


def test_the_first_of_two_that_choose_a_method_decides(tmp_path: Path) -> None:
    here, there = Decisions(Folder(tmp_path)), Decisions(Folder(tmp_path))

    class Slow(Machine):
        """While it measures, another process does and is done first."""

        def measure(self, trial: Emitter) -> Callable[[], float]:
            method(tuner(Machine({"a": 1e-3, "b": 2e-3}), there))
            return super().measure(trial)

    assert method(tuner(Slow({"a": 2e-3, "b": 1e-3}), here)) == "a"
    assert method(tuner(Machine({}), here)) == "a"

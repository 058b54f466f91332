"""The programs of real models: memory in use is never given to something else, and most of it is shared over time."""

from __future__ import annotations

import pytest

import cpuruntime as ov
from cpuruntime.frontend.light_models import light_model
from cpuruntime.program.plan.step import Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.program.program import Program
from cpuruntime.testing.probes import device_of


@pytest.fixture(scope="module", params=["squeezenet", "densenet121", "inception_v2", "shufflenet"])
def program(request: pytest.FixtureRequest) -> Program:
    compiled = ov.Core().compile_model(light_model(request.param), "CPU")
    return device_of(compiled).programs.cached()[0]


def uses(program: Program) -> dict[Storage, list[int]]:
    """The steps that name each storage of the arena."""
    found: dict[Storage, list[int]] = {}
    for index, step in enumerate(program.planned):
        assert isinstance(step, Step)
        for argument in step.arguments.values():
            if isinstance(argument, Address) and argument.storage.place is Place.ARENA:
                found.setdefault(argument.storage, []).append(index)
    return found


def test_memory_that_is_still_needed_is_not_given_away(program: Program) -> None:
    found = uses(program)
    assert len(found) > 20
    for storage, steps in found.items():
        assert (storage.first_step, storage.last_step) == (steps[0], steps[-1])
        assert storage.offset + storage.size <= program.arena_size
    placed = sorted(found, key=lambda storage: storage.offset)
    for index, low in enumerate(placed):
        for high in placed[index + 1 :]:
            if high.offset >= low.offset + low.size:
                break
            assert low.last_step < high.first_step or high.last_step < low.first_step


def test_the_first_step_that_names_a_storage_writes_it(program: Program) -> None:
    for storage, steps in uses(program).items():
        step = program.planned[steps[0]]
        assert isinstance(step, Step)
        names = {name for name, a in step.arguments.items() if isinstance(a, Address) and a.storage is storage}
        assert names & {"target", "scratch"}


def test_the_arena_is_little_more_than_what_is_alive_at_once(program: Program) -> None:
    found = uses(program)
    alive = max(
        sum(s.size for s in found if s.first_step <= step <= s.last_step) for step in range(len(program.planned))
    )
    assert alive <= program.arena_size <= 1.15 * alive
    assert program.arena_size < program.unshared_size / 3

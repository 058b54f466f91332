"""Assembling a whole: from a planner that has planned its graph to the program of all its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Value
from cpuruntime.host.memory import round_up
from cpuruntime.program.assembly import Assembly
from cpuruntime.program.image import RELOCATION, Image
from cpuruntime.program.plan.arena import plan_arena
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.program.program import Program, Segment

Compile = Callable[[Sequence[Kernel]], None]
"""Loads some kernels, and compiles those that are not in the cache."""


def compile_here(kernels: Sequence[Kernel]) -> None:
    """Compiles or loads kernels one after the other in this process."""
    for kernel in kernels:
        _ = kernel.address


def assemble(planner: Planner, repeats: int = 1) -> Program:
    """The program of a planner that has planned its graph, whose sizes are plain numbers."""
    steps = [step for step in planner.steps if isinstance(step, Step)]
    segments = segments_of(planner.steps) if repeats == 1 else [Segment(0, repeats * len(steps))]
    storages = live_storages(planner.steps)
    arena_size = plan_arena(storages)
    compile_here(kernels_of(steps))
    ports = planner.graph.inputs, planner.graph.outputs
    strides = dict(zip((Place.INPUT, Place.OUTPUT), ([v.nbytes for v in values] for values in ports)))
    inputs, outputs = (tuple((_repeated(v, repeats), v.element_type.to_dtype()) for v in values) for values in ports)
    assembled = Assembly(strides, round_up(16 * repeats * len(steps)))
    own: list[int] = []
    for row in range(repeats):
        for index, step in enumerate(steps):
            shared = row and not _has_rows(step)
            own.append(own[index] if shared else assembled.add_block(step, row))
            assembled.add_step(len(own) - 1, step, own[-1])
    image = Image(
        assembled.words(), np.array(assembled.relocations, RELOCATION), len(own),
        tuple(kernel.symbol for kernel in assembled.kernels),
        tuple(storage.owner for storage in assembled.weights if storage.owner is not None),
        arena_size, tuple("".join(map(str, message)) for message in planner.faults), inputs, outputs,
    )  # fmt: skip
    return Program(planner.steps, segments, image, repeats, sum(storage.size for storage in storages))


def kernels_of(steps: Sequence[Step]) -> list[Kernel]:
    """All that the steps call."""
    return list(dict.fromkeys(kernel for step in steps for kernel in step.kernels))


def _repeated(value: Value, repeats: int) -> tuple[int, ...]:
    shape = value.static_shape
    return shape if repeats == 1 else (repeats * shape[0], *shape[1:])


def _has_rows(step: Step) -> bool:
    """Whether a step reads inputs or writes outputs, which are elsewhere for each row."""
    addresses = (a for a in step.arguments.values() if isinstance(a, Address))
    return any(address.storage.place in (Place.INPUT, Place.OUTPUT) for address in addresses)


def segments_of(planned: Sequence[Step | FallbackStep]) -> list[Segment]:
    segments: list[Segment] = []
    first = 0
    for fallback, group in groupby(planned, lambda step: step if isinstance(step, FallbackStep) else None):
        count = 0 if fallback else len(list(group))
        segments.append(Segment(first, count, fallback))
        first += count
    return segments


def live_storages(planned: Sequence[Step | FallbackStep]) -> list[Storage]:
    """The arena's storages with their first and last step set."""
    found: dict[Storage, None] = {}
    for index, step in enumerate(planned):
        if isinstance(step, Step):
            storages = [a.storage for a in step.arguments.values() if isinstance(a, Address)]
        else:
            storages = [view.address.storage for view in (*step.inputs, *step.outputs) if view is not None]
        for storage in storages:
            if storage.place is Place.ARENA:
                found[storage] = None
                storage.first_step = index if storage.first_step < 0 else storage.first_step
                storage.last_step = index
    return list(found)

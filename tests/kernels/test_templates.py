"""One plan for many shapes: every row of tests/cases with sizes in place of its extents, in guarded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from cases import FAMILIES, rows
from cases.case import Case
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException
from support.judge import Net, check, onnx_runtime_session
from support.programs import GuardedInstance

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.errors import InternalError
from cpuruntime.graph import Graph
from cpuruntime.operators.shape_inference import with_shapes
from cpuruntime.program.pattern import Pattern
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.program import Instance, Program
from cpuruntime.program.template import Template
from cpuruntime.streams.native.runner import ALONE

CASES = [(family, case) for family in FAMILIES for case in rows(family) if isinstance(case, Case)]


def opened(case: Case) -> Graph:
    """The graph of a case whose inputs may have any extents."""
    graph = ov.Core().read_model(case.model()).graph
    for value in graph.inputs:
        value.shape = (None,) * len(value.static_shape)
    return graph


def template_of(graph: Graph, shapes: Sequence[Sequence[int]]) -> tuple[Pattern, Template]:
    pattern = Pattern(graph.inputs, shapes)
    scope, sizes, _ = pattern.sizes()
    planner = Planner(passes.run(with_shapes(graph, sizes)), WeightStore(), threads=3)
    planner.plan()
    return pattern, Template(planner, scope)


def others(extents: list[int]) -> list[list[int]]:
    """The same extents; one more or one less of each in turn, and about half; more and fewer of all."""
    changed = [[e + 1 - 2 * (j % 2) if i == j else e for j, e in enumerate(extents)] for i in range(len(extents))]
    halves = [[e // 2 + 1 if i == j else e for j, e in enumerate(extents)] for i in range(len(extents))]
    return [extents, *changed, *halves, [3 * e + 1 for e in extents], [max(e // 3, 2) for e in extents]]


def renewed(case: Case, old: Sequence[int], new: Sequence[int]) -> dict[str, np.ndarray]:
    """The inputs of a case with other extents; their numbers are repeated, so that indices stay valid."""
    extents = dict(zip(old, new))
    feeds = case.feeds()
    return {name: np.resize(x, [extents.get(n, n) if n > 1 else n for n in x.shape]) for name, x in feeds.items()}


@pytest.mark.parametrize(("family", "case"), CASES, ids=[f"{family}: {case.name}" for family, case in CASES])
def test_case(family: str, case: Case) -> None:
    graph, shapes = opened(case), [x.shape for x in case.feeds().values()]
    model = case.model()
    for port in model.graph.input:
        for index, extent in enumerate(port.type.tensor_type.shape.dim):
            extent.dim_param = f"{port.name}_{index}"
    pattern, template = template_of(graph, shapes)
    session = onnx_runtime_session(model)
    served: list[tuple[Program, list[np.ndarray], list[np.ndarray]]] = []
    for extents in others(pattern.extents):
        program = template.at(extents)
        if program is None:
            continue
        feeds = renewed(case, pattern.extents, extents)
        assert program.input_shapes == tuple(x.shape for x in feeds.values())
        with np.errstate(all="ignore"):
            found = GuardedInstance(program).run_all(*feeds.values(), threads=3)
        try:
            wanted = session.run(None, feeds)
        except (InvalidArgument, Fail, RuntimeException):  # ONNX Runtime does not take these shapes
            continue
        check(found, wanted, case.tolerance)
        served.append((program, list(feeds.values()), found))
    assert served
    in_turn = GuardedInstance(max((program for program, _, _ in served), key=lambda program: program.arena_size))
    for program, arrays, found in served:
        in_turn.load(program)
        assert [x.tobytes() for x in in_turn.run_all(*arrays, threads=3)] == [x.tobytes() for x in found]


def two_products() -> list[Program]:
    """Programs of one template, for 20, 40 and 400 rows."""
    n = Net()
    x = n.input("rows", 32)
    n.output(n("MatMul", n("Relu", n("MatMul", x, n.weights(32, 32))), n.weights(32, 32)))
    graph = ov.Core().read_model(n.model()).graph
    _, template = template_of(graph, [(30, 32)])
    return [program for rows in (20, 40, 400) if (program := template.at([rows])) is not None]


def test_an_instance_becomes_programs_of_its_key_alone() -> None:
    small, _, large = two_products()
    other, *_ = two_products()
    instance = Instance(small)
    with pytest.raises(InternalError, match="has room for"):
        instance.load(large)
    with pytest.raises(InternalError, match="same key"):
        instance.load(other)
    assert instance.program is small


def test_which_steps_one_thread_runs_depends_on_their_sizes() -> None:
    programs = two_products()
    instance, shared = Instance(programs[-1]), []
    for program in (*programs, *programs[::-1]):
        instance.load(program)
        job = instance.whole
        assert job is not None
        assert job.shared == np.flatnonzero(~job.program[:, 1] & ALONE).max(initial=-1) + 1
        shared.append(job.shared)
    assert shared == [0, 2, 2, 2, 2, 0]

"""The rows of tests/cases as programs run them, in guarded memory and for several threads, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from cases import FAMILIES, rows
from cases.case import Case
from support.judge import check, onnx_runtime
from support.programs import GuardedProgram

CASES = [(family, case) for family in FAMILIES for case in rows(family) if isinstance(case, Case)]


@pytest.mark.parametrize(("family", "case"), CASES, ids=[f"{family}: {case.name}" for family, case in CASES])
def test_case(family: str, case: Case) -> None:
    graph, feeds = case.graph(), case.feeds()
    planned = GuardedProgram(graph, threads=3, exact=False)
    inputs = [feeds[value.name] for value in graph.inputs]
    with np.errstate(all="ignore"):
        first, *others = (planned.run_all(*inputs, threads=count) for count in (1, 2, 3))
    for other in others:
        assert [array.tobytes() for array in other] == [array.tobytes() for array in first]
    check(first, onnx_runtime(case.model(), feeds), case.tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_unique(family: str) -> None:
    names = [case.name for case in rows(family)]
    assert names
    assert len(set(names)) == len(names)

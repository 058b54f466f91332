"""ONNX's backend test suite on the CPU device: the cases of each operator give what the suite says they should.

Those that may fail are in tests/data/failing_cases.txt with the reason; `python bench/coverage.py --engine cpuruntime
--failing` writes it anew.
"""

from __future__ import annotations

import pytest

from suite.cases import cases, families
from suite.command import FAILING
from suite.engines import PASSED, attempt

# What reference implementations of operators say about overflows is no fault.
pytestmark = pytest.mark.filterwarnings("ignore")


def failing() -> set[str]:
    return {line.partition(":")[0] for line in FAILING.read_text().splitlines()}


@pytest.mark.parametrize("family", [family for family in families() if family.startswith("node.")])
def test_no_case_fails_but_those_listed(family: str) -> None:
    outcomes = {case.name: attempt("cpuruntime", case) for case in cases(family)}
    listed = failing()
    unlisted = {name: found for name, found in outcomes.items() if found[0] not in PASSED and name not in listed}
    assert not unlisted

"""Runs the cases of the families named as arguments in guarded memory, then prints the `Counts` of each as JSON.

A family is one of `crafted`, or "rows FAMILY" of `tests/cases`, whose results another test compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from cases import rows
from cases.case import Case
from support import crafted
from support.guard_pages import Crafted, run_cases, say
from support.judge import check, onnx_runtime


def cases(family: str) -> Iterator[Crafted]:
    """All cases of a family."""
    if not family.startswith("rows "):
        yield from getattr(crafted, family)()
        return
    for case in rows(family.removeprefix("rows ")):
        if isinstance(case, Case):
            yield Crafted(case.name, case.model(), {"": case.feeds()}, compare=False)


if __name__ == "__main__":
    found = {family: asdict(run_cases(cases(family), onnx_runtime, check)) for family in sys.argv[1:]}
    say(json.dumps(found))

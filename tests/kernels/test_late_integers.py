"""The rows of tests/cases whose constant integers (axes, pads, shapes, indices ...) are given at run time instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES, rows
from cases.case import Case, Tensor
from support.judge import check, onnx_runtime

import cpuruntime as ov

FALLING_BACK = ("DFT", "STFT")
"""Their tables are made of the number of parts, which decides the type of the result, too."""


def late(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or not tensor.constant or np.dtype(tensor.dtype).kind not in "iu":
        return tensor
    return replace(tensor, constant=False)


def variants(family: str) -> list[Case]:
    found = [row for row in rows(family) if isinstance(row, Case)]
    pairs = [(case, replace(case, inputs=tuple(map(late, case.inputs)))) for case in found]
    return [changed for case, changed in pairs if changed.inputs != case.inputs]


@pytest.mark.parametrize("family", [family for family in FAMILIES if variants(family)])
def test_integers_given_at_run_time(family: str) -> None:
    for case in variants(family):
        model, feeds = case.model(), case.feeds()
        try:
            expected = onnx_runtime(model, feeds)
        except Exception:  # ONNX Runtime takes some of them as constants only
            continue
        compiled = ov.compile_model(model, "CPU")
        for _ in range(2):
            check(list(compiled(feeds).values()), expected, case.tolerance)
        slow = [row.op_type for row in compiled.explain().rows if row.fallback]
        assert case.operator in FALLING_BACK or not slow, (case.name, slow)

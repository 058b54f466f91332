"""Operators with attributes that make no sense are planned or refused; every error is one of ours, and none internal.

At commit 53c12cb one in sixty mutants ended in a KeyError, IndexError, ValueError, MemoryError or InternalError.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import onnx
import pytest
from cases.case import Case, Tensor, constant, integers, weights
from support import mutants
from support.judge import compare

import cpuruntime as ov
from cpuruntime import passes
from cpuruntime.errors import Error, InternalError
from cpuruntime.program.lowerings import catalogue
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.weights import WeightStore

PARTS, STEP = 2, 24
"""Every 24th mutant in two parts; all of them take minutes."""


def plan(model: onnx.ModelProto) -> None:
    """Everything up to the compiling of kernels."""
    assert catalogue.MODULES
    Planner(passes.run(ov.Core().read_model(model).graph), WeightStore(), threads=2).plan()


def sample(part: int) -> Iterator[tuple[str, onnx.ModelProto]]:
    return islice(mutants.models(), STEP * part // PARTS, None, STEP)


@pytest.mark.parametrize("part", range(PARTS))
def test_attributes_that_make_no_sense(part: int) -> None:
    wrong, counts = [], {True: 0, False: 0}
    for name, model in sample(part):
        try:
            plan(model)
            counts[True] += 1
        except Exception as error:
            counts[False] += 1
            if isinstance(error, InternalError) or not isinstance(error, Error):
                wrong.append(f"{name}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    assert min(counts.values()) > 100


IMAGE = Tensor((1, 2, 8, 8))

REFUSED = {
    "an unknown mode": (
        Case("n", "Pad", (IMAGE, integers(0, 0, 1, 1, 0, 0, 1, 1)), {"mode": "mirror"}, opset=17),
        r"attribute 'mode' is 'mirror', not one of constant, reflect",
    ),
    "an unknown reduction": (
        Case("n", "ScatterND", (IMAGE, integers(0), Tensor((2, 8, 8))), {"reduction": "mean"}),
        "attribute 'reduction' is 'mean', not one of none, add",
    ),
    "an unknown direction": (
        Case("n", "RNN", (Tensor((3, 1, 2)), weights(1, 4, 2), weights(1, 4, 4)), {"direction": "up"}),
        "attribute 'direction' is 'up', not one of forward",
    ),
    "a cumulative sum along no axis": (
        Case("n", "CumSum", (IMAGE, constant([], np.int64))),
        r"input 1 has the shape \[0\]; it must be one integer",
    ),
    "a triangle without its diagonal": (
        Case("n", "Trilu", (IMAGE, constant([], np.int64))),
        r"input 1 has the shape \[0\]; it must be one integer",
    ),
    "a stated shape without elements": (
        Case("n", "ConvTranspose", (IMAGE, weights(2, 3, 2, 2)), {"output_shape": [0, 9]}),
        r"every extent of output_shape \[0, 9\] must be positive",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_rule(name: str) -> None:
    """At commit 53c12cb: KeyError, KeyError, UnsupportedError about data, IndexError, IndexError, InternalError."""
    case, message = REFUSED[name]
    with pytest.raises(ov.ModelError, match=message):
        plan(case.model())


def test_a_result_larger_than_the_machine_is_refused_before_tables_are_made_for_it() -> None:
    """At commit 53c12cb a MemoryError from NumPy."""
    case = Case("n", "Resize", (IMAGE, None, None, integers(1, 2, 2**20, 2**31 - 1)))
    with pytest.raises(ov.OutOfMemoryError, match=r"the elements of 'y0' need \d+\.\d GiB"):
        plan(case.model())


RIGHT = {
    "keepdims 7 is not 1": Case("n", "ReduceMean", (IMAGE, integers(2, 3)), {"keepdims": 7}),
    "a stated shape smaller than the input": Case(
        "n", "ConvTranspose", (IMAGE, weights(2, 3, 2, 2)), {"output_shape": [1, 1], "strides": [2, 2]}
    ),
    "a stated shape a little smaller": Case(
        "n", "ConvTranspose", (IMAGE, weights(2, 3, 3, 3)), {"output_shape": [9, 5]}
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_odd_attributes_that_have_a_meaning(name: str) -> None:
    """At commit 53c12cb: IndexError, InternalError (min() of an empty sequence), InternalError."""
    compare(RIGHT[name].model())

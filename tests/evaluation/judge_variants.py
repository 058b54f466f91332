"""Holds the evaluator and shape inference against ONNX Runtime: `python tests/evaluation/judge_variants.py -n 50`.

    -n N              variants of each operator (default 20)
    --first N         the number of the first one (default 0)
    --operator NAME   of one operator only
    --device NAME     hold a device against ONNX Runtime, not the evaluator

It prints each that differs, and for each operator how many ONNX Runtime judged and how many it refused.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from evaluation.disagreements import accepted
from evaluation.variants import GENERATORS, variant
from evaluation.variants.variant import Variant, is_narrow

import cpuruntime as ov
from cpuruntime.errors import Error, UnsupportedError
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Node, Value
from cpuruntime.operators.evaluation.evaluate import evaluate

_TOLERANCES = {np.dtype(np.float16): 4e-3, np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-6}
_ROUNDED = ("QLinearConv", "QLinearMatMul", "QuantizeLinear", "DynamicQuantizeLinear")


@dataclass
class Verdict:
    """`refused` says why ONNX Runtime does not judge; `wrong` is empty when all who judge agree."""

    refused: str = ""
    wrong: str = ""


def judge(v: Variant, device: str = "") -> Verdict:
    """Whether shape inference, evaluation, or the device, and ONNX Runtime agree on a variant."""
    expected: list[np.ndarray] = []
    refused = accepted(v)
    if not refused:
        try:
            expected = v.expected()
        except Exception as error:
            refused = f"{type(error).__name__}: {error}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = _run(v, device) if device else _evaluated(v)
    except UnsupportedError as error:
        return Verdict(refused or str(error), "" if device else str(error))
    except Error as error:
        return Verdict(refused, "" if refused else f"refused here: {error}")
    for index, (ours, theirs) in enumerate(zip(there, expected)):
        wrong = _difference(v, ours, theirs)
        if wrong:
            return Verdict(wrong=f"output {index}: {wrong}")
    return Verdict(refused, _inferred(v, there))


def _evaluated(v: Variant) -> list[np.ndarray]:
    return [array for array, there in zip(evaluate(make(v), list(v.inputs)), v.outputs) if there]


def _run(v: Variant, device: str) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(v.model(), device)
    names = [port.get_any_name() for port in compiled.inputs]
    found = compiled({name: v.inputs[int(name[1:])] for name in names})
    return [found[index] for index in range(len(compiled.outputs))]


def make(v: Variant) -> Node:
    """The variant's node."""
    inputs = [None if array is None else Value(f"x{index}") for index, array in enumerate(v.inputs)]
    outputs = [Value(f"y{index}" if there else "") for index, there in enumerate(v.outputs)]
    return Node(v.op_type, "n", inputs, outputs, v.attributes, v.domain, v.opset)


def _difference(v: Variant, ours: np.ndarray, theirs: Any) -> str:
    theirs = np.asarray(theirs)
    if is_narrow(ours.dtype):
        ours = ours.astype(np.float32)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype}{list(ours.shape)} instead of {theirs.dtype}{list(theirs.shape)}"
    if theirs.dtype.kind == "f":
        largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-2)
        same = np.allclose(ours, theirs, 0, _TOLERANCES[theirs.dtype] * float(largest), equal_nan=True)
    elif v.op_type in _ROUNDED:
        same = bool((np.abs(ours.astype(int) - theirs.astype(int)) <= 1).all())
    else:
        same = bool((ours == theirs).all())
    return "" if same else f"{ours.ravel()[:12]} instead of {theirs.ravel()[:12]}"


def _inferred(v: Variant, found: list[np.ndarray]) -> str:
    """What is wrong with the shapes and types that inference gives."""
    try:
        graph = read(v.model())
    except Error as error:
        return f"not read: {error}"
    for value, array in zip(graph.outputs, found):
        shape = value.shape or (None,) * array.ndim
        if len(shape) != array.ndim or any(a not in (None, b) for a, b in zip(shape, array.shape)):
            return f"the inferred shape of {value} is not {list(array.shape)}"
        if not value.element_type.compatible(array.dtype):
            return f"the inferred type of {value} is not {array.dtype}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--operator")
    parser.add_argument("--device", default="")
    options = parser.parse_args()
    failures = 0
    for op_type in [options.operator] if options.operator else GENERATORS:
        refusals: list[str] = []
        wrong = 0
        for seed in range(options.first, options.first + options.n):
            v = variant(op_type, seed)
            verdict = judge(v, options.device)
            if verdict.refused:
                refusals.append(verdict.refused)
            if verdict.wrong:
                wrong += 1
                print(f"{op_type} {seed}: {verdict.wrong}\n    {v}")
        failures += wrong
        print(f"{op_type}: {options.n - len(refusals)} judged, {wrong} differ, {len(refusals)} refused"
              + (f", such as: {refusals[0][:160]}" if refusals else ""))  # fmt: skip
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Models of one operator whose attributes, or the integers they hold, make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
from cases import FAMILIES, rows
from cases.case import Case, constant
from onnx import AttributeProto, defs

_INTEGERS = (-(2**31), -3, -1, 0, 1, 2, 3, 7, 2**20, 2**31 - 1, 2**40, 2**63 - 1)
_FLOATS = (0.0, -1.0, 0.3, float("nan"), float("inf"), -float("inf"), 1e30)
_TEXTS = (
    "", "nonsense", "SAME_UPPER", "VALID", "none", "reflect", "wrap", "nearest", "linear", "cubic", "bidirectional",
    "reverse", "add", "CRD", "align_corners", "tf_crop_and_resize", "zeros", "border",
)  # fmt: skip
_NAMES = AttributeProto


def _lists(given: list[int]) -> Iterator[list[int]]:
    base = given or [1, 1]
    yield from ([], base[:-1], [*base, 1], [*base, *base], base[::-1], [base[0]] * len(base))
    for number in _INTEGERS:
        yield [number] * len(base)
        yield [*base[:-1], number]


def _values(kind: int, given: object) -> Iterator[object]:
    if kind == _NAMES.INT:
        yield from _INTEGERS
    elif kind == _NAMES.FLOAT:
        yield from _FLOATS
    elif kind == _NAMES.STRING:
        yield from _TEXTS
    elif kind == _NAMES.INTS:
        yield from _lists(list(given or []))
    elif kind == _NAMES.FLOATS:
        yield from ([number] * 2 for number in _FLOATS)
    elif kind == _NAMES.STRINGS:
        yield from ([text] * 2 for text in _TEXTS[:3])


def mutants(case: Case) -> Iterator[Case]:
    """The case with one attribute, or one list of integers that it holds, changed."""
    schema = defs.get_schema(case.operator, case.opset, case.domain)
    for name, attribute in schema.attributes.items():
        for value in _values(int(attribute.type), case.attributes.get(name)):
            yield replace(case, name=f"{case.name}, {name}={value!r:.60}", attributes={**case.attributes, name: value})
    for index, tensor in enumerate(case.inputs):
        if tensor is None or not tensor.constant or np.dtype(tensor.dtype) != np.int64 or len(tensor.shape) > 1:
            continue
        for numbers in _lists(np.atleast_1d(tensor.array(index)).tolist()):
            inputs = list(case.inputs)
            inputs[index] = constant(numbers if tensor.shape else numbers[:1] and numbers[0], np.int64)
            yield replace(case, name=f"{case.name}, input {index}={numbers!r:.60}", inputs=tuple(inputs))


def models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Mutants of the first case of each operator and set of attributes, by name."""
    seen: set[tuple[object, ...]] = set()
    for family in FAMILIES:
        for case in rows(family):
            if not isinstance(case, Case):
                continue
            key = (case.operator, case.opset, *sorted(case.attributes), *(t is not None for t in case.inputs))
            if key in seen:
                continue
            seen.add(key)
            for mutant in mutants(case):
                try:
                    yield f"{mutant.operator} {mutant.name}", mutant.model()
                except (ValueError, TypeError, OverflowError):  # onnx.helper refuses to write it
                    continue

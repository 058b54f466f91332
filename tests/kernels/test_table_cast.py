"""Casts from and to types of few bits, by a table, give what the evaluator gives for every number."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import cpuruntime as ov
from cpuruntime.graph import Type
from cpuruntime.operators.evaluation.casts import cast

NARROW = ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT4E2M1", "FLOAT8E8M0")
UPPER = np.arange(1 << 16, dtype=np.uint32) << 16
# The upper bits of every float32, at, just above and just below their numbers, and any others.
FLOATS = np.concatenate([UPPER, UPPER + 1, UPPER + 0xFFFF, np.random.default_rng(0).integers(0, 1 << 32, 50_000)])


def compare(x: np.ndarray, to: str, **attributes: Any) -> None:
    number = getattr(TensorProto, to)
    node = helper.make_node("Cast", ["x"], ["y"], to=number, **attributes)
    port = helper.make_tensor_value_info("x", Type(x.dtype).to_onnx(), x.shape)
    graph = helper.make_graph([node], "cast", [port], [helper.make_tensor_value_info("y", number, x.shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11)
    compiled = ov.Core().compile_model(model, "CPU")
    found = compiled([x])[0]
    with np.errstate(all="ignore"):
        expected = cast(x, Type.from_onnx(number), bool(attributes.get("saturate", 1)))
        np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))
    assert found.dtype == expected.dtype
    assert not compiled.explain().fallbacks


@pytest.mark.parametrize(("to", "saturate"), [*product(NARROW, (1,)), *product(NARROW[:4], (0,))])
def test_float32(to: str, saturate: int) -> None:
    compare(FLOATS.astype(np.uint32).view(np.float32), to, saturate=saturate)


@pytest.mark.parametrize("to", [*NARROW, "INT4", "UINT4", "INT2", "UINT2"])
def test_float16(to: str) -> None:
    numbers = np.arange(1 << 16).astype(np.uint16).view(np.float16)
    if "INT" in to:
        numbers = numbers[np.isfinite(numbers)]
    compare(numbers, to)


@pytest.mark.parametrize("source", [*NARROW, "INT4", "UINT2"])
@pytest.mark.parametrize("to", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_from_few_bits(source: str, to: str) -> None:
    kind = Type.from_onnx(getattr(TensorProto, source))
    numbers = cast(np.arange(-8, 8).astype(np.float32), kind)
    compare(numbers, to)

"""What runs between programs against ONNX Runtime and the evaluator: NonZero, Compress, Unique, slices, lists, ..."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.judge import Net, onnx_runtime

import cpuruntime as ov
from cpuruntime.graph import Node, Value
from cpuruntime.operators.evaluation.evaluate import evaluate
from cpuruntime.program.lowerings.data_dependent import compute

RANDOM = np.random.default_rng(0)
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TYPES = (*INTEGERS, "bool", "float16", "float32", "float64", ml_dtypes.bfloat16)
SHAPES = ((7,), (1,), (0,), (3, 5), (2, 0, 3), (2, 3, 4, 5), (1, 1000))


def numbers(shape: tuple[int, ...], dtype: Any, most: int = 4) -> np.ndarray:
    """Few different ones, a quarter of them zero."""
    found = RANDOM.integers(0, most, shape)
    if np.dtype(dtype).kind != "u":
        found *= RANDOM.choice([-1, 1], shape)
    return found.astype(dtype)


def both(operator: str, *arrays: np.ndarray, outputs: int = 1, **attributes: Any) -> None:
    """The kernels give what the evaluator gives."""
    inputs = [Value(f"x{index}") for index in range(len(arrays))]
    node = Node(operator, "n", inputs, [Value(f"y{index}") for index in range(outputs)], attributes, "", 17)
    found, expected = compute(node, arrays), evaluate(node, arrays)
    assert found is not None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def judged(operator: str, *arrays: np.ndarray, outputs: int = 1, **attributes: Any) -> None:
    """A model gives by kernels what ONNX Runtime gives."""
    net = Net()
    names = [net.input(*array.shape, dtype=array.dtype) for array in arrays]
    net.output(*net.many(outputs, operator, *names, **attributes))
    feeds = dict(zip(names, arrays))
    compiled = ov.Core().compile_model(net.model(), "CPU")
    found = compiled(feeds)
    for index, expected in enumerate(onnx_runtime(net.model(), feeds)):
        np.testing.assert_array_equal(found[index], expected)
    assert not compiled.explain().fallbacks


@pytest.mark.parametrize("dtype", TYPES)
def test_non_zero(dtype: Any) -> None:
    for shape in (*SHAPES, (), (2,) * 9):
        both("NonZero", numbers(shape, dtype))


def test_zeros_of_both_signs_and_nan() -> None:
    for dtype in ("float16", "float32", "float64", ml_dtypes.bfloat16):
        both("NonZero", np.array([0.0, -0.0, np.nan, -np.inf, 1e-7], dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(axis: int | None, dtype: Any) -> None:
    for shape in SHAPES:
        x = numbers(shape, dtype)
        extent = x.size if axis is None else shape[axis]
        for length in (extent, extent // 2):
            both("Compress", x, RANDOM.random(length) > 0.5, **({} if axis is None else dict(axis=axis)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", [0, 1])
def test_unique(order: int, dtype: Any) -> None:
    for shape in SHAPES:
        both("Unique", numbers(shape, dtype), outputs=4, sorted=order)


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), [((9, 2), 0), ((2, 60), 1), ((2, 50, 1), -2), ((3, 0), 1)])
def test_unique_slices(shape: tuple[int, ...], axis: int, order: int, dtype: str) -> None:
    both("Unique", numbers(shape, dtype, 2), outputs=4, axis=axis, sorted=order)


def test_not_a_number_is_one_and_the_last() -> None:
    both("Unique", np.array([np.nan, 3, -0.0, np.inf, 0.0, np.nan, 3], np.float32), outputs=4)


def test_slices_and_repeats() -> None:
    for dtype in ("bool", "float16", "float32", "int64"):
        x = numbers((4, 5, 6), dtype)
        both("Slice", x, np.array([3, 1]), np.array([-9, 6]), np.array([0, 2]), np.array([-2, 3]))
        both("Slice", x, np.array([2]), np.array([2]))
        both("Expand", x[:, :1].copy(), np.array([4, 3, 1]))
        both("Squeeze", x[:1], np.array([0]))


def test_one_element_repeated() -> None:
    for value in (np.array([7], np.int16), np.array([True]), np.array([2.5])):
        both("ConstantOfShape", np.array([3, 5]), value=value)
        both("ConstantOfShape", np.array([3, 0]), value=value)
    assert compute(Node("ConstantOfShape", "n", [Value("x")], [Value("y")], {}, "", 17), [np.array([-1])]) is None


@pytest.mark.parametrize(("axis", "new"), [(0, 0), (-1, 0), (1, 1), (-3, 1)])
def test_lists_are_joined(axis: int, new: int) -> None:
    parts = [numbers((2, 3), "float32") for _ in range(3)]
    node = Node("ConcatFromSequence", "n", [Value("x")], [Value("y")], dict(axis=axis, new_axis=new), "", 17)
    found = compute(node, [parts])
    assert found is not None
    np.testing.assert_array_equal(found[0], evaluate(node, [parts])[0])
    assert compute(node, [[]]) is None
    assert compute(node, [[*parts, numbers((5, 4), "float32")]]) is None


def test_a_tensor_is_split_into_a_list() -> None:
    x = numbers((3, 7), "int32")
    node = Node("SplitToSequence", "n", [Value("x"), Value("s")], [Value("y")], dict(axis=1), "", 17)
    found = compute(node, [x, np.array(3)])
    assert found is not None
    assert all(part.flags.c_contiguous for part in found[0])
    for part, expected in zip(found[0], np.split(x, [3, 6], 1), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_to_computed_sizes(mode: str) -> None:
    x = RANDOM.standard_normal((2, 3, 7, 9)).astype(np.float32)
    inputs = [Value(f"x{index}") for index in range(4)]
    node = Node("Resize", "n", [inputs[0], None, None, inputs[3]], [Value("y")], dict(mode=mode), "", 18)
    for size in ((2, 3, 5, 20), (2, 3, 14, 4)):
        arrays = [x, None, None, np.array(size)]
        found = compute(node, arrays)
        assert found is not None
        np.testing.assert_allclose(found[0], evaluate(node, arrays)[0], 1e-5, 1e-5)
    assert compute(node, [x.astype(np.float64), None, None, np.array(size)]) is None


def test_many_elements() -> None:
    x = RANDOM.integers(-5000, 5000, 10_001)
    both("Unique", x, outputs=4)
    both("Unique", x, outputs=4, sorted=0)
    both("NonZero", np.maximum(x, 0))


def test_models_run_them_by_kernels() -> None:
    x = numbers((4, 6), np.float32)
    judged("NonZero", x)
    judged("Compress", x, np.array([True, False, True]), axis=1)
    judged("Compress", x, RANDOM.random(24) > 0.5)
    judged("Unique", x, outputs=4)
    judged("Unique", x, outputs=4, sorted=0, axis=0)

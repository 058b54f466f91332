"""Models of operator sets 1 to 6: ONNX's own files, and each form that set 7 has no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import helper, numpy_helper

from cpuruntime.errors import Error, ModelError, UnsupportedError
from cpuruntime.frontend.reader import read
from cpuruntime.operators.control_flow import run_graph
from cpuruntime.operators.evaluation.evaluate import evaluate

_DATA = Path(onnx.backend.test.__file__).parent / "data"
_FILES = sorted([*_DATA.glob("pytorch-converted/*/model.onnx"), *_DATA.glob("pytorch-operator/*/model.onnx")])

_random = np.random.default_rng(3)


def _numbers(*shape: int) -> np.ndarray:
    return _random.uniform(0.5, 1.5, shape).astype(np.float32)


_X, _CHANNELS, _MIDDLE = _numbers(2, 3, 4, 5), _numbers(3), _numbers(3, 4)
_SLOPE = _CHANNELS[:, None, None]
_MEANS = [_CHANNELS, _CHANNELS + 1, _CHANNELS / 2, _CHANNELS * 2]


def _run(
    op_type: str, opset: int, arrays: list[np.ndarray], known: bool = True, count: int = 1, **attributes: Any
) -> np.ndarray:
    """The first of `count` outputs; with `known`, all inputs but the first are initializers."""
    names = [f"x{index}" for index in range(len(arrays))]
    free = names[:1] if known else names
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(free, arrays)
    ]
    held = [numpy_helper.from_array(array, name) for name, array in zip(names, arrays) if name not in free]
    results = [f"y{index}" for index in range(count)]
    nodes = [helper.make_node(op_type, names, results, "n", **attributes)]
    outputs = [helper.make_empty_tensor_value_info("y0")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    return run_graph(read(model), arrays[: len(free)], evaluate)[0]


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.parent.name)
def test_files_of_the_suite(path: Path) -> None:
    graph = read(path)
    for folder in path.parent.glob("test_data_set_*"):
        given = [_tensor(folder / f"input_{index}.pb") for index in range(len(graph.inputs))]
        found = run_graph(graph, given, evaluate)
        for index, ours in enumerate(found):
            theirs = _tensor(folder / f"output_{index}.pb")
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            np.testing.assert_allclose(ours, theirs, 1e-3, 1e-5)


def _tensor(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(path))


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add, "Div": np.divide, "Mul": np.multiply, "Pow": np.power, "Sub": np.subtract,
    "Greater": np.greater, "Less": np.less,
}  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("op_type", _BINARY)
def test_second_operand_is_aligned_at_an_axis(op_type: str, opset: int, known: bool) -> None:
    for operand, axis in ((_CHANNELS, 1), (_MIDDLE, 1), (_numbers(2), 0), (_numbers(4, 5), 2), (_X, 0)):
        found = _run(op_type, opset, [_X, operand], known, broadcast=1, axis=axis)
        shape = operand.shape + (1,) * (4 - axis - operand.ndim)
        expected = _BINARY[op_type](_X, operand.reshape(shape))
        np.testing.assert_allclose(found, expected, 1e-6)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor", "Equal"])
def test_flags_are_aligned_at_an_axis(op_type: str) -> None:
    x, flags = _X > 1, np.array([True, False, True])
    rule = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Equal": np.equal}[op_type]
    assert (_run(op_type, 6, [x, flags], broadcast=1, axis=1) == rule(x, flags[:, None, None])).all()


def test_second_operand_without_an_axis_is_aligned_at_the_end() -> None:
    operand = _numbers(4, 5)
    np.testing.assert_allclose(_run("Sub", 6, [_X, operand], broadcast=1), _X - operand)


def _normalised(x: np.ndarray) -> np.ndarray:
    scale, bias, mean, variance = (array[:, None, None] for array in _MEANS)
    return (x - mean) / np.sqrt(variance + np.float32(1e-5)) * scale + bias


_FORMS: list[tuple[str, int, list[np.ndarray], dict[str, Any], np.ndarray]] = [
    ("BatchNormalization", 1, [_X, *_MEANS], {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}, _normalised(_X)),
    ("BatchNormalization", 6, [_X, *_MEANS], {"is_test": 1}, _normalised(_X)),
    ("Cast", 1, [_X], {"to": "INT32"}, _X.astype(np.int32)),
    ("Cast", 6, [_X], {"to": 6}, _X.astype(np.int32)),
    ("Clip", 1, [_X], {"max": 1.0, "consumed_inputs": [0]}, np.minimum(_X, 1)),
    ("Concat", 1, [_X, _X], {}, np.concatenate([_X, _X], 1)),
    ("Dropout", 1, [_X], {"is_test": 1, "consumed_inputs": [0]}, _X),
    ("Gemm", 6, [_MIDDLE, _numbers(4, 5), np.float32([2])], {"broadcast": 1}, np.empty(0)),
    ("GlobalLpPool", 1, [_X], {"p": 2.0}, np.sqrt((_X**2).sum((2, 3), keepdims=True))),
    ("Max", 1, [_X, _X * 2], {"consumed_inputs": [0, 0]}, _X * 2),
    ("PRelu", 1, [-_X, _CHANNELS], {}, -_X * _SLOPE),
    ("PRelu", 6, [-_X, _CHANNELS[:1]], {}, -_X * _CHANNELS[0]),
    ("Pad", 1, [_X], {"paddings": [0, 0, 1, 2, 0, 0, 0, 1]}, np.pad(_X, [(0, 0), (0, 0), (1, 0), (2, 1)])),
    ("Relu", 1, [_X - 1], {"consumed_inputs": [0]}, np.maximum(_X - 1, 0)),
    ("Reshape", 1, [_X], {"shape": [0, -1, 2]}, _X.reshape(2, -1, 2)),
    ("Selu", 1, [-_X], {}, np.float32(1.0507 * 1.6732) * np.expm1(-_X)),
    ("Selu", 6, [-_X], {}, np.float32(1.0507009873554805 * 1.6732632423543772) * np.expm1(-_X)),
    ("Split", 1, [_X, np.float32([3])], {"axis": 1}, _X),
    ("Tile", 1, [_X, np.float32(3), np.float32(2)], {}, np.tile(_X, (1, 1, 3, 1))),
    ("Upsample", 1, [_X], {"height_scale": 2.0, "width_scale": 3.0}, _X.repeat(2, 2).repeat(3, 3)),
]


@pytest.mark.parametrize(("op_type", "opset", "arrays", "attributes", "expected"), _FORMS)
def test_old_forms(
    op_type: str, opset: int, arrays: list[np.ndarray], attributes: dict[str, Any], expected: np.ndarray
) -> None:
    if op_type == "Gemm":
        expected = arrays[0] @ arrays[1] + arrays[2]
    found = _run(op_type, opset, arrays, **attributes)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


@pytest.mark.parametrize(("op_type", "opset"), [("LSTM", 1), ("GRU", 1), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_give_their_sequence(op_type: str, opset: int) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    arrays = [_numbers(3, 1, 4), _numbers(1, gates * 2, 4), _numbers(1, gates * 2, 2)]
    found = _run(op_type, opset, arrays, count=2, hidden_size=2, output_sequence=1)
    np.testing.assert_array_equal(found, _run(op_type, 7, arrays, hidden_size=2))


_REFUSED: list[tuple[str, list[np.ndarray], dict[str, Any], type[Error], str]] = [
    ("BatchNormalization", [_X, *_MEANS], {"consumed_inputs": [0]}, UnsupportedError, "is_test is 0"),
    ("Dropout", [_X], {}, UnsupportedError, "is_test is 0"),
    ("Cast", [_X], {"to": "WORD"}, ModelError, "'WORD', which names no type"),
    ("Add", [_X, _CHANNELS], {"broadcast": 1, "axis": -2}, ModelError, "'axis' is -2"),
    ("Add", [_X, _CHANNELS], {"broadcast": 1, "axis": 9}, ModelError, "-6"),
    ("LpPool", [_X], {"kernel_shape": [2, 2], "p": 1.5}, UnsupportedError, "'p' is 1.5"),
    ("Tile", [_X, np.float32(1e9), np.float32(2)], {}, UnsupportedError, "1000000000 tiles"),
]


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "error", "text"), _REFUSED)
def test_what_old_sets_cannot_have(
    op_type: str, arrays: list[np.ndarray], attributes: dict[str, Any], error: type[Error], text: str
) -> None:
    with pytest.raises(error, match=f"'n.*{text}"):
        _run(op_type, 1, arrays, **attributes)


def test_a_number_that_must_be_constant() -> None:
    with pytest.raises(UnsupportedError, match=r"Tile 'n'.*'x1'.*constant"):
        _run("Tile", 1, [_X, np.float32(3), np.float32(2)], known=False)


def test_a_model_without_operator_sets_has_the_first() -> None:
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])]
    node = helper.make_node("Relu", ["x"], ["y"], consumed_inputs=[0])
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info("y")])
    model = onnx.ModelProto(ir_version=2, graph=graph)
    assert [node.op_type for node in read(model).nodes] == ["Relu"]

"""Operators of ONNX Runtime against ONNX Runtime itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from support import exports
from support.judge import onnx_runtime_session

from cpuruntime.errors import Error, ModelError, UnsupportedError
from cpuruntime.frontend.contrib import DOMAIN
from cpuruntime.frontend.reader import read
from cpuruntime.operators.control_flow import run_graph
from cpuruntime.operators.evaluation.evaluate import evaluate

_random = np.random.default_rng(5)


def _f(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape).astype(np.float32)


def _model(
    op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str], domain: str, opset: int
) -> onnx.ModelProto:
    names = ["" if array is None else f"x{index}" for index, array in enumerate(arrays)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, arrays)
        if name
    ]
    node = helper.make_node(op_type, names, outputs, "n", domain=domain, **attributes)
    results = [helper.make_empty_tensor_value_info(name) for name in outputs if name]
    graph = helper.make_graph([node], "g", inputs, results)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


_IDS = _random.integers(0, 5, (2, 4)).astype(np.int32)
_FLAGS = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
_WIDE_FLAGS = np.array([[1, 1, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 1, 1]], np.int32)
_TABLES = [_f(5, 6), _f(7, 6), _f(5, 6)]
_POSITIONS = np.array([[0, 1, 3, 2], [4, 5, 5, 1]], np.int64)
_ATTENTION = [_f(2, 4, 6), _f(6, 24), _f(24)]
_QKV = [_f(2, 4, 8), _f(2, 5, 8), _f(2, 5, 8)]
_CACHES = [_f(9, 2), _f(9, 2)]
_Y = ["y"]

CASES: list[tuple[str, list[Any], dict[str, Any], list[str]]] = [
    ("Gelu", [_f(2, 5)], {}, _Y),
    ("BiasGelu", [_f(2, 5), _f(5)], {}, _Y),
    ("FastGelu", [_f(2, 5)], {}, _Y),
    ("FastGelu", [_f(2, 5), _f(5)], {}, _Y),
    ("QuickGelu", [_f(2, 5)], {}, _Y),
    ("QuickGelu", [_f(2, 5)], {"alpha": 0.7}, _Y),
    ("FusedMatMul", [_f(2, 3, 4), _f(2, 4, 5)], {}, _Y),
    ("FusedMatMul", [_f(2, 4, 3), _f(5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}, _Y),
    ("SkipLayerNormalization", [_f(2, 3, 4), _f(2, 3, 4), _f(4)], {"epsilon": 0.1}, _Y),
    ("SkipLayerNormalization", [_f(2, 3, 4), _f(2, 3, 4), _f(4), _f(4), _f(4)], {}, ["y", "", "", "s"]),
    ("SkipSimplifiedLayerNormalization", [_f(2, 3, 4), _f(2, 3, 4), _f(4), _f(4)], {}, ["y", "", "", "s"]),
    ("EmbedLayerNormalization", [_IDS, _IDS, *_TABLES, _f(6), _f(6), _FLAGS], {"epsilon": 0.1}, ["y", "m", "s"]),
    ("EmbedLayerNormalization", [_IDS, None, *_TABLES[:2], None, _f(6), _f(6)], {}, ["y", "m"]),
    ("Attention", _ATTENTION, {"num_heads": 2}, _Y),
    ("Attention", [*_ATTENTION, _FLAGS], {"num_heads": 2, "scale": 0.4}, _Y),
    ("Attention", [*_ATTENTION, np.array([4, 2], np.int32)], {"num_heads": 4}, _Y),
    ("Attention", [*_ATTENTION, _FLAGS, None, _f(2, 2, 4, 4)], {"num_heads": 2, "mask_filter_value": -50.0}, _Y),
    ("Attention", _ATTENTION, {"num_heads": 2, "unidirectional": 1}, _Y),
    ("Attention", [*_ATTENTION, None, _f(2, 2, 2, 3, 4)], {"num_heads": 2, "unidirectional": 1}, ["y", "p"]),
    ("Attention", [*_ATTENTION, _WIDE_FLAGS, _f(2, 2, 2, 3, 4)], {"num_heads": 2, "unidirectional": 1}, ["y", "p"]),
    ("Attention", [*_ATTENTION[:2], _f(24)], {"num_heads": 2, "qkv_hidden_sizes": [6, 6, 12]}, _Y),
    ("MultiHeadAttention", _QKV, {"num_heads": 2}, _Y),
    ("MultiHeadAttention", [*_QKV, _f(24), np.array([3, 5], np.int32)], {"num_heads": 4, "scale": 0.4}, _Y),
    ("MultiHeadAttention", [*_QKV, None, _WIDE_FLAGS[:, :5], _f(1, 2, 4, 5)], {"num_heads": 2}, _Y),
    ("MultiHeadAttention", [_QKV[0], _f(2, 4, 8), _f(2, 4, 8), None, None, None, _f(2, 2, 3, 4), _f(2, 2, 3, 4)],
     {"num_heads": 2, "unidirectional": 1}, ["y", "k", "v"]),
    ("RotaryEmbedding", [_f(2, 3, 4, 4), _POSITIONS, *_CACHES], {}, _Y),
    ("RotaryEmbedding", [_f(2, 4, 12), np.array([3], np.int64), *_CACHES], {"num_heads": 3, "interleaved": 1}, _Y),
]  # fmt: skip

_U = _random.integers(0, 255, (2, 3, 4, 4)).astype(np.uint8)
_V = _random.integers(0, 255, (2, 3, 4, 4)).astype(np.uint8)
_S, _Z, _T = np.float32(0.05), np.uint8(120), np.float32(0.1)
_W8 = _random.integers(-60, 60, (4, 5)).astype(np.int8)  # larger products saturate in ONNX Runtime
_A8 = _random.integers(0, 255, (3, 4)).astype(np.uint8)
_COLUMNS = np.float32([0.01, 0.02, 0.03, 0.04, 0.05])
_WINDOW = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}

CASES += [
    ("FusedConv", [_f(1, 3, 5, 5), _f(4, 3, 3, 3), _f(4)], {**_WINDOW, "activation": "Relu"}, _Y),
    ("FusedConv", [_f(1, 3, 5, 5), _f(4, 3, 3, 3), None, _f(1, 4, 3, 3)], {**_WINDOW, "activation": "Relu"}, _Y),
    ("FusedConv", [_f(1, 3, 5, 5), _f(4, 3, 3, 3)], {"activation": "Clip", "activation_params": [-0.5, 0.5]}, _Y),
    ("FusedConv", [_f(1, 3, 5, 5), _f(4, 3, 3, 3)], {"activation": "LeakyRelu", "activation_params": [0.2]}, _Y),
    ("FusedGemm", [_f(3, 4), _f(5, 4), _f(5)], {"transB": 1, "alpha": 0.5, "activation": "Tanh"}, _Y),
    ("FusedGemm", [_f(3, 4), _f(4, 5)], {"activation": "LeakyRelu", "activation_alpha": 0.2}, _Y),
    ("QLinearAdd", [_U, _S, _Z, _V, _T, _Z, _T, _Z], {}, _Y),
    ("QLinearMul", [_U, _S, _Z, _V, _T, _Z, _T, _Z], {}, _Y),
    ("QLinearSigmoid", [_U, _S, _Z, np.float32(1 / 255), np.uint8(0)], {}, _Y),
    ("QLinearLeakyRelu", [_U, _S, _Z, _T, _Z], {"alpha": 0.2}, _Y),
    ("QLinearSoftmax", [_U, _S, _Z, np.float32(1 / 255), np.uint8(0)], {"axis": -1, "opset": 13}, _Y),
    ("QLinearConcat", [_T, _Z, _U, _S, _Z, _V, _T, _Z], {"axis": 1}, _Y),
    ("QLinearGlobalAveragePool", [_U, _S, _Z, _T, _Z], {}, _Y),
    ("QLinearAveragePool", [_U, _S, _Z, _T, _Z], {**_WINDOW, "count_include_pad": 1}, _Y),
    ("QGemm", [_A8, _S, _Z, _W8, _T, np.int8(3), np.arange(5, dtype=np.int32), np.float32(2), _Z], {}, _Y),
    ("QGemm", [_A8, _S, _Z, _W8.T.copy(), _COLUMNS, np.zeros(5, np.int8)], {"transB": 1}, _Y),
    ("MatMulIntegerToFloat", [_A8, _W8, _S, _COLUMNS, _Z, np.zeros(5, np.int8), _f(5)], {}, _Y),
    ("MatMulIntegerToFloat", [_A8, _W8, _S, _T], {}, _Y),
    ("DynamicQuantizeMatMul", [_f(3, 4), _W8, _T, np.int8(2), _f(5)], {}, _Y),
]

_BYTES = [_random.integers(0, 255, (2, rows, 20)).astype(np.uint8) for rows in (6, 5)]
_ZEROS = np.array([128, 120], np.uint8)
_EACH = _random.uniform(0.003, 0.006, (2, 20)).astype(np.float32)
_SCALES = [np.float32([0.005, 0.004]), _ZEROS], [_EACH, np.full((2, 20), 128, np.uint8)]


@pytest.mark.parametrize("scales", [each * 2 for each in _SCALES])
@pytest.mark.parametrize("more", [[], [np.array([4, 2, 3], np.int32), _f(2, 3, 5), _f(2, 3, 5), _f(2, 15)]])
def test_dynamically_quantised_lstm(scales: list[Any], more: list[Any]) -> None:
    """ONNX Runtime quantises the states between steps."""
    arrays = [_f(4, 3, 6), *_BYTES, _f(2, 40), *more, *[None] * (4 - len(more)), *scales]
    attributes = {"hidden_size": 5, "direction": "bidirectional"}
    model = _model("DynamicQuantizeLSTM", arrays, attributes, ["y", "h", "c"], DOMAIN, 17)
    for index in (1, 2, 8, 9, 10, 11):
        model.graph.initializer.append(numpy_helper.from_array(arrays[index], f"x{index}"))
        model.graph.input.remove(next(port for port in model.graph.input if port.name == f"x{index}"))
    _check(model, [None if index in (1, 2) or index > 7 else array for index, array in enumerate(arrays)], 0.02)


_EARLY = [
    ("LayerNormalization", [_f(2, 3, 4), _f(4), _f(4)], {"epsilon": 0.1}, _Y),
    ("LayerNormalization", [_f(2, 3, 4), _f(4)], {"axis": 2}, ["y", "mean", "deviation"]),
    ("SimplifiedLayerNormalization", [_f(2, 3, 4), _f(4)], {"epsilon": 0.1, "axis": -1}, _Y),
]


def _check(model: onnx.ModelProto, arrays: list[Any], tolerance: float = 1e-4) -> None:
    feeds = {f"x{index}": np.asarray(array) for index, array in enumerate(arrays) if array is not None}
    expected = onnx_runtime_session(model).run(None, feeds)
    for ours, theirs in zip(run_graph(read(model), list(feeds.values()), evaluate), expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if theirs.dtype.kind == "u":  # halves are rounded either way
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
        else:
            np.testing.assert_allclose(ours, theirs, tolerance, tolerance / 10)


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs"), CASES)
def test_operators(op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str]) -> None:
    _check(_model(op_type, arrays, attributes, outputs, DOMAIN, 17), arrays)


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs"), _EARLY)
def test_norms_in_old_operator_sets(
    op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str]
) -> None:
    _check(_model(op_type, arrays, attributes, outputs, "", 11), arrays)


@pytest.mark.parametrize("name", ["bert_dynamo", "clip", "gpt2_with_past", "llama_with_past_traced", "segformer"])
def test_exports_as_onnx_runtime_optimises_them(name: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = exports.load(name)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    optimised = onnx.load(options.optimized_model_filepath)
    assert any(node.domain == DOMAIN for node in optimised.graph.node)
    feeds = exports.feeds(model)[0]
    graph = read(optimised)
    found = run_graph(graph, [feeds[value.name] for value in graph.inputs], evaluate)
    for ours, theirs in zip(found, session.run(None, feeds), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, 0, 1e-4 * float(np.abs(theirs).max()))


_REFUSED: list[tuple[str, list[Any], dict[str, Any], list[str], type[Error], str]] = [
    ("Gelu", [_f(2)], {"beta": 1.0}, _Y, UnsupportedError, "Gelu 'n'.*attribute 'beta'"),
    ("QuickGelu", [_f(2)], {"alpha": 1}, _Y, ModelError, "QuickGelu 'n'.*'alpha' has a wrong type"),
    ("FusedMatMul", [_f(2, 2), _f(2, 2)], {"transBatchA": 1}, _Y, UnsupportedError, "'n'.*transposed batch"),
    ("SkipLayerNormalization", [_f(2, 4), _f(2, 4), _f(4)], {}, ["y", "m"], UnsupportedError, "'n'.*'mean'"),
    ("MultiHeadAttention", [_f(2, 4, 2, 3, 4)], {"num_heads": 2}, _Y, UnsupportedError, "'n'.*packed"),
    ("FusedConv", [_f(1, 3, 5, 5), _f(4, 3, 3, 3)], {"activation": "Elu"}, _Y, UnsupportedError, "activation 'Elu'"),
    ("QLinearSoftmax", [_U, _S, _Z, _T, _Z], {"opset": 12}, _Y, UnsupportedError, "an opset before 13"),
    ("Nothing", [_f(2)], {}, _Y, UnsupportedError, "Nothing 'n': Nothing of ONNX Runtime"),
]


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs", "error", "text"), _REFUSED)
def test_refusals(
    op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str], error: type[Error], text: str
) -> None:
    with pytest.raises(error, match=text):
        read(_model(op_type, arrays, attributes, outputs, DOMAIN, 17))

"""Operators of ONNX Runtime against ONNX Runtime itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
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

_EARLY = [
    ("LayerNormalization", [_f(2, 3, 4), _f(4), _f(4)], {"epsilon": 0.1}, _Y),
    ("LayerNormalization", [_f(2, 3, 4), _f(4)], {"axis": 2}, ["y", "mean", "deviation"]),
    ("SimplifiedLayerNormalization", [_f(2, 3, 4), _f(4)], {"epsilon": 0.1, "axis": -1}, _Y),
]


def _check(model: onnx.ModelProto, arrays: list[Any]) -> None:
    feeds = {f"x{index}": array for index, array in enumerate(arrays) if array is not None}
    expected = onnx_runtime_session(model).run(None, feeds)
    for ours, theirs in zip(run_graph(read(model), list(feeds.values()), evaluate), expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, 1e-4, 1e-5)


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs"), CASES)
def test_operators(op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str]) -> None:
    _check(_model(op_type, arrays, attributes, outputs, DOMAIN, 17), arrays)


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs"), _EARLY)
def test_norms_in_old_operator_sets(
    op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str]
) -> None:
    _check(_model(op_type, arrays, attributes, outputs, "", 11), arrays)


_REFUSED: list[tuple[str, list[Any], dict[str, Any], list[str], type[Error], str]] = [
    ("Gelu", [_f(2)], {"beta": 1.0}, _Y, UnsupportedError, "Gelu 'n'.*attribute 'beta'"),
    ("QuickGelu", [_f(2)], {"alpha": 1}, _Y, ModelError, "QuickGelu 'n'.*'alpha' has a wrong type"),
    ("FusedMatMul", [_f(2, 2), _f(2, 2)], {"transBatchA": 1}, _Y, UnsupportedError, "'n'.*transposed batch"),
    ("SkipLayerNormalization", [_f(2, 4), _f(2, 4), _f(4)], {}, ["y", "m"], UnsupportedError, "'n'.*'mean'"),
    ("MultiHeadAttention", [_f(2, 4, 2, 3, 4)], {"num_heads": 2}, _Y, UnsupportedError, "'n'.*packed"),
    ("Nothing", [_f(2)], {}, _Y, UnsupportedError, "no operator 'Nothing'"),
]


@pytest.mark.parametrize(("op_type", "arrays", "attributes", "outputs", "error", "text"), _REFUSED)
def test_refusals(
    op_type: str, arrays: list[Any], attributes: dict[str, Any], outputs: list[str], error: type[Error], text: str
) -> None:
    with pytest.raises(error, match=text):
        read(_model(op_type, arrays, attributes, outputs, DOMAIN, 17))

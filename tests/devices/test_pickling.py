"""Pickling: what holds data travels; what holds threads or memory of a device says what to send in its place."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def compiled() -> ov.CompiledModel:
    return ov.Core().compile_model(one_input(), "REFERENCE")


@pytest.mark.parametrize(
    "way", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_the_tensor_of_a_request_travels(compiled: ov.CompiledModel, way: Any) -> None:
    request = compiled.create_infer_request()
    request.infer(X)
    other = way(request.get_output_tensor())
    request.infer(X + 1)
    np.testing.assert_array_equal(other.data, -X)
    assert other.element_type is ov.Type.f32


@pytest.mark.parametrize(
    "tensor",
    [ov.Tensor(ov.Type.u4, [3]), ov.Tensor(np.array(["a", "bc"])), ov.Tensor(ov.Type.bf16, [2])],
    ids=["packed", "strings", "bf16"],
)
def test_tensors_of_other_kinds_travel(tensor: ov.Tensor) -> None:
    other = pickle.loads(pickle.dumps(tensor))
    assert (other.shape, other.element_type, other.is_packed) == (tensor.shape, tensor.element_type, tensor.is_packed)
    np.testing.assert_array_equal(other.data, tensor.data)


def test_results_travel(compiled: ov.CompiledModel) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(compiled(X)))[0], -X)


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda compiled: compiled, "A CompiledModel cannot be pickled: send the model's file or bytes"),
        (lambda compiled: compiled.create_infer_request(), "An InferRequest cannot be pickled: send the arrays"),
        (
            lambda compiled: ov.AsyncInferQueue(compiled, 1),
            "An AsyncInferQueue cannot be pickled: send the model's file",
        ),
        (lambda _: ov.Core().read_model(one_input()), "A Model cannot be pickled: send its file or bytes"),
        (lambda _: ov.Core().read_model(one_input()).input(), "A port of a Model cannot be pickled: send its any_name"),
    ],
    ids=["compiled model", "request", "queue", "model", "port"],
)
def test_others_say_what_to_do(compiled: ov.CompiledModel, make: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        pickle.dumps(make(compiled))

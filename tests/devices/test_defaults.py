"""Initializers that a model lists as inputs: constants that an inference may give instead."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.judge import Net

import cpuruntime as ov


def model(ir_version: int = 8) -> onnx.ModelProto:
    """y = x * k + m, and a Reshape to a target: k, m and the target have defaults."""
    n = Net()
    x = n("Mul", n.input(2, 3, name="x"), n.constant([2, 2, 2]))
    n.output(n("Reshape", n("Add", x, n.constant([1, 1, 1])), n.integers(6)))
    made = n.model()
    made.ir_version = ir_version
    for name in ("c0", "c1"):
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]))
    made.graph.input.append(helper.make_tensor_value_info("c2", TensorProto.INT64, [1]))
    return made


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def floats(value: float) -> np.ndarray:
    return np.full(3, value, np.float32)


@pytest.mark.parametrize("device", ["CPU", "REFERENCE"])
def test_what_is_given_counts_for_one_inference(device: str) -> None:
    compiled = ov.Core().compile_model(model(), device)
    assert [port.any_name for port in compiled.inputs] == ["x"]
    request = compiled.create_infer_request()
    for infer in (compiled, request.infer):
        np.testing.assert_array_equal(infer({"x": X})[0], X.ravel() * 2 + 1)
        np.testing.assert_array_equal(infer({"x": X, "c0": floats(5)})[0], X.ravel() * 5 + 1)
        np.testing.assert_array_equal(infer({"c1": floats(7), "c0": floats(3)})[0], X.ravel() * 3 + 7)
        np.testing.assert_array_equal(infer({"x": X, "c2": np.array([-1])})["n2_Reshape_0"], X.ravel() * 2 + 1)
        np.testing.assert_array_equal(infer({compiled.input(): X})[0], X.ravel() * 2 + 1)
    kept = compiled({"x": X, "c0": floats(5)})[0]
    compiled({"x": X, "c0": floats(6)})
    np.testing.assert_array_equal(kept, X.ravel() * 5 + 1)


def test_wrong_defaults_are_refused() -> None:
    compiled = ov.Core().compile_model(model(), "CPU")
    with pytest.raises(ov.InvalidArgumentError, match="'c0'"):
        compiled({"x": X, "c0": np.zeros(4, np.float32)})
    with pytest.raises(ov.InvalidArgumentError, match="'c9'"):
        compiled({"x": X, "c9": floats(1)})
    with ov.Core().compile_model(model(), "CPU") as closed:
        closed({"x": X, "c0": floats(5)})
    with pytest.raises(ov.errors.Error, match="released"):
        closed({"x": X, "c0": floats(5)})


def test_in_old_files_all_initializers_are_inputs_and_stay_constants() -> None:
    compiled = ov.Core().compile_model(model(ir_version=3), "CPU")
    with pytest.raises(ov.InvalidArgumentError, match="'c0'"):
        compiled({"x": X, "c0": floats(5)})

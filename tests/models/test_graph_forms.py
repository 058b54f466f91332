"""Unusual graphs: how inputs and outputs may be related, scalars, empty tensors, fallbacks, opsets, dynamic shapes."""

from __future__ import annotations

import gc
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.judge import Net, check, compare, onnx_runtime, random_inputs

import cpuruntime as ov
from cpuruntime.testing.probes import device_of

OPSETS = range(7, onnx.defs.onnx_opset_version() + 1)


def small_network(opset: int) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Gemm, Softmax."""
    n = Net(opset)
    y = n("Relu", n.conv(n.input(2, 3, 9, 9), 3, 20, pads=[1] * 4, strides=[2, 2]))
    y = n("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
    y = n("Gemm", n("Flatten", y), n.weights(80, 10), n.weights(10))
    n.output(y, n("Softmax", y))
    return n.model()


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(opset: int) -> None:
    model = small_network(opset)
    compiled = ov.Core().compile_model(model, "CPU")
    assert compiled.explain().fallbacks == []
    feeds = random_inputs(model)
    found = compiled(dict(feeds))
    # ONNX Runtime knows some opsets less; these operators did not change after 22
    check([found[0], found[1]], onnx_runtime(small_network(min(opset, 22)), feeds))


def test_an_input_is_an_output() -> None:
    n = Net()
    x = n.input(2, 3)
    n.output(x, n("Neg", x))
    compare(n.model())


def test_an_output_is_constant() -> None:
    n = Net()
    x, c = n.input(2, 3), n.constant([[1, 2], [3, 4]])
    n.output(c, n("Neg", x), n("Exp", c), n("Shape", x))
    compare(n.model())


def test_an_output_is_used_inside_too() -> None:
    n = Net()
    x = n.conv(n.input(1, 3, 8, 8), 3, 20, pads=[1] * 4)
    y = n.conv(x, 20, 20, pads=[1] * 4)
    n.output(x, y, n("Relu", y), n("Concat", x, y, axis=1), n("Reshape", y, n.integers(20, 64)))
    z = n("Exp", n.input(3, 4))
    n.output(z, n("Neg", z), n("Transpose", z))
    compare(n.model())


def test_one_value_under_several_names() -> None:
    n = Net()
    x = n.input(1, 3, 5, 5)
    y = n.conv(x, 3, 7)
    n.output(n("Identity", y), n("Identity", y), y, n("Identity", x), n("Flatten", y), n("Flatten", x))
    compare(n.model())


def test_inputs_of_several_types() -> None:
    n = Net()
    x, index, condition = n.input(4, 5), n.input(3, dtype=np.int64), n.input(4, 1, dtype=np.bool_)
    double, byte = n.input(4, 5, dtype=np.float64), n.input(2, dtype=np.uint8)
    picked = n("Clip", index, n.constant(-4, np.int64), n.constant(3, np.int64))
    n.output(n("Gather", x, picked), n("Where", condition, x, n("Neg", x)), n("Add", double, double), byte)
    compare(n.model())


def test_an_input_that_nothing_reads() -> None:
    n = Net()
    x, _ = n.input(2, 3), n.input(5)
    n.output(n("Neg", x))
    compare(n.model())


def test_scalars() -> None:
    n = Net()
    x, y, count = n.input(), n.input(2, 2), n.input(dtype=np.int64)
    n.output(n("Add", x, y), n("Exp", x), n("Mul", x, x), n("ReduceSum", y, keepdims=0), n("Add", count, count))
    n.output(n("Reshape", x, n.integers(1, 1)), n("Unsqueeze", x, n.integers(0)), n("Cast", x, to=6))
    compare(n.model())


def test_empty_tensors() -> None:
    n = Net()
    x, y, image = n.input(0, 3), n.input(2, 3), n.input(0, 3, 4, 4)
    n.output(n("Neg", x), n("Concat", x, y, axis=0), n("Add", x, n.weights(3)), n("Transpose", x), n("Softmax", x))
    n.output(n("MatMul", x, n.weights(3, 4)), n("Slice", y, n.integers(1), n.integers(1)), n("Cast", x, to=7))
    n.output(n.conv(image, 3, 5), n("ReduceSum", x), n("Gather", y, n.constant([], np.int64)))
    compare(n.model())


def test_an_operator_without_a_kernel_falls_back_visibly(caplog: pytest.LogCaptureFixture) -> None:
    n = Net()

    def normalised(x: str) -> str:
        return n("Cast", n("LpNormalization", n("Cast", x, to=TensorProto.DOUBLE)), to=TensorProto.FLOAT)

    x = n.conv(n.input(1, 3, 8, 8), 3, 20)
    y = n("CumSum", normalised(n("Cos", n.conv(x, 20, 20, pads=[1] * 4))), n.constant(1, np.int64))
    n.output(n("Sigmoid", y), normalised(x), n.conv(n("Tan", x), 20, 4))
    with caplog.at_level(logging.WARNING, "cpuruntime"):
        compiled = compare(n.model(), fallbacks=["LpNormalization"] * 2, tolerance=1e-4)
    first, _ = compiled.explain().fallbacks
    assert (first.nodes, first.notes) == (("n4_LpNormalization",), "no kernel for LpNormalization")
    assert len([record for record in caplog.records if "runs in the reference evaluator" in record.message]) == 2
    assert "no kernel for LpNormalization" in str(compiled.explain())


def test_loops_that_are_too_scattered_fall_back() -> None:
    n = Net()
    x, y = n.input(2, 1, 2, 1, 2, 1, 2), n.input(1, 2, 1, 2, 1, 2, 1)
    deep = n.input(*[2, 1] * 4, 2)
    n.output(n("Add", x, y), n("Where", n("Less", x, y), x, y), n("Transpose", deep), n("Relu", deep))
    compare(n.model(), fallbacks=["Add", "Less", "Where", "Transpose"])


def test_what_the_device_cannot_do_is_refused_when_compiling() -> None:
    n = Net()
    n.output(n("RegexFullMatch", n.input(3, 4, dtype=object), pattern="a"))
    with pytest.raises(ov.UnsupportedError, match="RegexFullMatch"):
        ov.Core().compile_model(n.model(), "CPU")


def dynamic_network() -> onnx.ModelProto:
    """Convolutions, a concatenation and a product, of any batch and image size."""
    n = Net()
    x = n.input("batch", 3, "height", "width")
    y = n("Relu", n.conv(x, 3, 20, 3, pads=[1] * 4, strides=[2, 2]))
    y = n("Concat", y, n.conv(y, 20, 12, 3, pads=[1] * 4), axis=1)
    n.output(y, n("Gemm", n("Flatten", n("GlobalAveragePool", y)), n.weights(32, 7), n.weights(7)))
    return n.model()


def test_dynamic_shapes() -> None:
    model = dynamic_network()
    compiled = ov.Core().compile_model(model, "CPU")
    assert str(compiled.input().partial_shape) == "[?,3,?,?]"
    requests = [compiled.create_infer_request() for _ in range(2)]
    for step, shape in enumerate([(1, 3, 8, 8), (2, 3, 9, 7), (1, 3, 8, 8), (5, 3, 1, 1), (1, 3, 30, 6)]):
        feeds = random_inputs(model, {"x0": shape}, seed=step)
        for request in requests:
            found = request.infer(dict(feeds))
            check([found[0], found[1]], onnx_runtime(model, feeds))
    assert compiled.explain().fallbacks == []


def test_many_shapes_do_not_pile_up() -> None:
    """Programs and packed weights of shapes that are no longer used are given back; test_robustness looks at memory."""
    config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "PROGRAM_CACHE_MB": 0}
    compiled = ov.Core().compile_model(dynamic_network(), "CPU", config)
    request = compiled.create_infer_request()

    device = device_of(compiled)
    packed = []
    for _ in range(3):
        for size in range(3, 43):
            request.infer(np.ones((1, 3, size, 40), np.float32))
        gc.collect()
        packed.append(device.programs.weights_nbytes())
    assert len(device.programs.cached()) == 1
    assert packed[0] == packed[1] == packed[2]


def test_weights_are_shared_by_the_programs_of_all_shapes() -> None:
    n = Net()
    n.output(n("MatMul", n.input("batch", 640), n.weights(640, 640)))
    compiled = ov.Core().compile_model(n.model(), "CPU")
    device = device_of(compiled)
    for batch in range(1, 17):
        compiled(np.ones((batch, 640), np.float32))
    products = {step.kernel for program in device.programs.cached() for step in program.steps}
    assert device.programs.weights_nbytes() < (len(products) + 0.1) * 640 * 640 * 4
    assert len(products) < 8


def test_bounded_dimensions_and_reshape() -> None:
    core = ov.Core()
    model = core.read_model(dynamic_network())
    model.reshape([ov.Dimension(1, 4), 3, 16, 16])
    compiled = core.compile_model(model, "CPU")
    assert compiled(np.ones((4, 3, 16, 16), np.float32))[1].shape == (4, 7)
    with pytest.raises(ov.InvalidArgumentError, match=r"\[5,3,16,16\].*\[1\.\.4,3,16,16\]"):
        compiled(np.ones((5, 3, 16, 16), np.float32))


def test_functions_of_the_model_are_expanded() -> None:
    body = helper.make_node("Mul", ["x", "x"], ["y"])
    square = helper.make_function("own", "Square", ["x"], ["y"], [body], [helper.make_opsetid("", 17)])
    n = Net()
    n.output(n("Square", n.input(2, 3), domain="own"))
    model = n.model()
    model.functions.append(square)
    model.opset_import.append(helper.make_opsetid("own", 1))
    compare(model)

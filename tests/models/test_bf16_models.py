"""Models with INFERENCE_PRECISION_HINT bf16: how near they come to float32, and what reports say of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.judge import Net, onnx_runtime

import cpuruntime as ov
from cpuruntime.compiler import isa

BF16 = {"INFERENCE_PRECISION_HINT": "bf16"}
multiplies = pytest.mark.skipif(not isa.bf16_products(), reason="this processor does not multiply bf16")


def network() -> onnx.ModelProto:
    """Convolutions of all kinds, then a product."""
    n = Net(17)
    x = n("Relu", n("Conv", n.input(2, 3, 24, 24), n.weights(24, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
    y = n("Relu", n("Conv", x, n.weights(72, 24, 1, 1), n.weights(72)))
    y = n("Conv", y, n.weights(72, 1, 3, 3), pads=[1, 1, 1, 1], group=72)
    y = n("Add", x, n("Conv", n("Relu", y), n.weights(24, 72, 1, 1)))
    y = n("Conv", y, n.weights(40, 24, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    y = n("Reshape", n("Relu", y), n.integers(8, -1))
    n.output(n("Gemm", y, n.weights(360, 200), n.weights(200)))
    return n.model()


def test_results_are_near_those_of_float32() -> None:
    model = network()
    x = np.random.default_rng(0).standard_normal((2, 3, 24, 24), np.float32)
    (expected,) = onnx_runtime(model, {"x0": x})
    with ov.Core().compile_model(model, "CPU", BF16) as compiled:
        found = compiled({"x0": x})[0]
        assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16


@multiplies
def test_steps_that_multiply_bf16_say_so() -> None:
    assert "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with ov.Core().compile_model(network(), "CPU", BF16) as compiled:
        rows = compiled.explain().rows
        rounded = {row.op_type for row in rows if row.precision == "bf16"}
        assert rounded == {"Conv", "FullyConnected"}
        assert all(("bf16" in row.kernel + row.notes) == (row.precision == "bf16") for row in rows)
        nodes = compiled.get_runtime_model().get_ordered_ops()
        assert "bf16" in {node.rt_info.get("runtimePrecision") for node in nodes}
    with ov.Core().compile_model(network(), "CPU", BF16 | {"EXECUTION_MODE_HINT": "ACCURACY"}) as compiled:
        assert not any(row.precision == "bf16" for row in compiled.explain().rows)


def test_shapes_that_are_not_known_beforehand() -> None:
    n = Net(17)
    x = n("Conv", n.input("batch", 16, "height", "width"), n.weights(48, 16, 1, 1))
    n.output(n("MatMul", n("Transpose", n("Relu", x), perm=[0, 2, 3, 1]), n.weights(48, 1400)))
    model, random = n.model(), np.random.default_rng(0)
    with ov.Core().compile_model(model, "CPU", BF16) as compiled:
        for shape in ((1, 16, 1, 1), (2, 16, 5, 7), (1, 16, 20, 3), (1, 16, 1, 2)):
            x = random.standard_normal(shape, np.float32)
            (expected,) = onnx_runtime(model, {"x0": x})
            found = compiled({"x0": x})[0]
            assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)


@multiplies
def test_attention_multiplies_bf16() -> None:
    n = Net(17)
    q, k, v = (n.input(1, 4, 40, 32) for _ in range(3))
    scores = n("Mul", n("MatMul", q, n("Transpose", k, perm=[0, 1, 3, 2])), n.constant(0.2))
    n.output(n("MatMul", n("Softmax", scores, axis=-1), v))
    model, random = n.model(), np.random.default_rng(0)
    feeds = {name: random.standard_normal((1, 4, 40, 32), np.float32) for name in ("x0", "x1", "x2")}
    (expected,) = onnx_runtime(model, feeds)
    with ov.Core().compile_model(model, "CPU", BF16) as compiled:
        assert [row.precision for row in compiled.explain().rows] == ["bf16"]
        found = compiled(feeds)[0]
    assert 1e-4 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-2

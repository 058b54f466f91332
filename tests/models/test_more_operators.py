"""Small models of the operators beside convolutions and matrix products: each computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from support.judge import Net, check, compare, onnx_runtime_session

import cpuruntime as ov

COORDINATES = [
    "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
]  # fmt: skip
SCALES = [(2.0, 2.0), (3.0, 1.0), (0.5, 0.5), (1.8, 0.61), (0.26, 2.3)]


def resized(n: Net, x: str, scales: tuple[float, float], **attributes: Any) -> str:
    return n("Resize", x, "", n.constant([1, 1, *scales]), **attributes)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("channels", [2, 19])
def test_resize_to_the_nearest(coordinates: str, channels: int) -> None:
    n = Net(opset=19)
    x = n.input(2, channels, 7, 9)
    y = n.conv(x, channels, channels, 1)
    # Symmetric positions next to whole numbers are rounded differently.
    for scales in SCALES[: 3 if coordinates == "half_pixel_symmetric" else None]:
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            attributes = dict(coordinate_transformation_mode=coordinates, nearest_mode=rounding)
            n.output(resized(n, y, scales, **attributes))
    compare(n.model())


@pytest.mark.parametrize("coordinates", [c for c in COORDINATES if c != "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("channels", [1, 19])
def test_resize_by_weights(coordinates: str, mode: str, channels: int) -> None:
    n = Net(opset=19)
    x = n.input(2, channels, 7, 9)
    y = n.conv(x, channels, channels, 1)
    for scales in SCALES:
        n.output(resized(n, y, scales, coordinate_transformation_mode=coordinates, mode=mode))
    if mode == "cubic":
        n.output(resized(n, y, (1.7, 0.6), mode=mode, cubic_coeff_a=-0.5, exclude_outside=1))
    compare(n.model())


def test_resize_to_sizes_along_axes_and_of_signals() -> None:
    n = Net(opset=19)
    y = n.conv(n.input(1, 3, 10, 12), 3, 20)
    n.output(n("Resize", y, "", "", n.integers(1, 20, 17, 21), mode="linear"), n("Relu", y))
    n.output(n("Resize", y, "", "", n.integers(17, 21), mode="nearest", axes=[2, 3]))
    for policy in ("not_larger", "not_smaller"):
        n.output(n("Resize", y, "", "", n.integers(17, 33), axes=[2, 3], keep_aspect_ratio_policy=policy))
    signal = n.conv(n.input(2, 6, 11), 6, 17, (3,))
    for mode, scale in (("nearest", 2.5), ("linear", 2)):
        n.output(n("Resize", signal, "", n.constant([1, 1, scale]), mode=mode))
    compare(n.model())


def test_resize_beside_convolutions_and_concatenation() -> None:
    n = Net()
    x = n.conv(n.input(1, 3, 8, 10), 3, 32, pads=[1] * 4)
    large = resized(n, n.conv(x, 32, 32, strides=[2, 2], pads=[1] * 4), (2.0, 2.0), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    n.output(n.conv(n("Concat", large, x, axis=1), 64, 8, pads=[1] * 4))
    compare(n.model())


def test_upsample_of_an_old_model() -> None:
    n = Net(opset=9)
    y = n.conv(n.input(1, 3, 5, 6), 3, 18)
    n.output(n("Upsample", y, n.constant([1, 1, 2, 3])), n("Upsample", y, n.constant([1, 1, 2, 2]), mode="linear"))
    compare(n.model())


def test_a_resize_without_a_kernel_falls_back() -> None:
    n = Net(opset=18)
    x = n.input(1, 4, 6, 6)
    n.output(resized(n, x, (0.5, 0.5), mode="linear", antialias=1), n("Resize", x, "", n.constant([1, 2, 1, 1])))
    compare(n.model(), fallbacks=["Resize"], tolerance=1e-4)


def transposed(n: Net, x: str, channels: int, out: int, kernel: Any, group: int = 1, **more: Any) -> str:
    window = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights = n.weights(channels, out // group, *window), n.weights(out)
    return n("ConvTranspose", x, *weights, group=group, **more)


def test_transposed_convolution_with_all_that_can_be_fused() -> None:
    n = Net()
    x = n.input(1, 3, 8, 9)
    y = n("Relu", n.conv(x, 3, 24, pads=[1] * 4))
    small = n("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    up = n("Relu", n.norm(transposed(n, small, 24, 16, 2, strides=[2, 2], output_padding=[0, 1]), 16))
    joined = n.conv(n("Concat", up, y, axis=1), 40, 20, pads=[1] * 4)
    residual = n("Add", transposed(n, joined, 20, 24, 3, pads=[1] * 4), y)
    n.output(n("Sigmoid", residual), n("Tanh", transposed(n, joined, 20, 5, 4, strides=[2, 2])))
    compare(n.model())


def test_transposed_convolutions_by_computed_weights_and_of_volumes() -> None:
    n = Net()
    x, weights = n.input(1, 3, 4, 5), n.input(3, 2, 2, 2)
    n.output(n("ConvTranspose", x, weights), n("ConvTranspose", n.input(1, 3, 4, 4, 4), n.weights(3, 2, 2, 2, 2)))
    compare(n.model())


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    n: Net, op_type: str, x: str, inputs: int, units: int, *states: str, bias: bool = True, **more: Any
) -> list[str]:
    """All results of a recurrent layer with random weights."""
    directions, gates = 2 if more.get("direction") == "bidirectional" else 1, GATES[op_type]
    w = n.constant(n.random.standard_normal((directions, gates * units, inputs)) / inputs**0.5)
    r = n.constant(n.random.standard_normal((directions, gates * units, units)) / units**0.5)
    b = n.weights(directions, 2 * gates * units) if bias else ""
    return n.many(3 if op_type == "LSTM" else 2, op_type, x, w, r, b, "", *states, hidden_size=units, **more)


def test_recurrent_layers_with_some_results_and_other_activations() -> None:
    n = Net()
    x = n.input(5, 2, 6)
    for chosen in (["HardSigmoid", "Softsign", "Relu"], ["Sigmoid", "Tanh", "LeakyRelu"]):
        n.output(recurrent(n, "LSTM", x, 6, 18, activations=chosen)[0])
        n.output(recurrent(n, "GRU", x, 6, 18, activations=chosen[:2], linear_before_reset=1)[0])
        n.output(recurrent(n, "GRU", x, 6, 18, activations=chosen[:2])[1])
    n.output(recurrent(n, "RNN", x, 6, 18, activations=["Relu"])[1])
    n.output(recurrent(n, "LSTM", x, 6, 18)[2])
    compare(n.model())


def test_stacked_recurrent_layers_as_torch_exports_them() -> None:
    n = Net()
    y, inputs = n("Transpose", n.input(3, 6, 10), perm=[1, 0, 2]), 10
    for _ in range(2):
        y, hidden, _ = recurrent(n, "LSTM", y, inputs, 24, direction="bidirectional")
        y, inputs = n("Reshape", n("Transpose", y, perm=[0, 2, 1, 3]), n.integers(0, 0, -1)), 48
    last = n("Gather", hidden, n.constant(1, np.int64))
    n.output(n("Transpose", y, perm=[1, 0, 2]), n("MatMul", last, n.weights(24, 5)))
    compare(n.model())


def test_large_recurrent_weights_are_filled_after_the_plan() -> None:
    n = Net()
    n.output(*recurrent(n, "LSTM", n.input(2, 1, 6), 6, 72), *recurrent(n, "GRU", n.input(2, 1, 6), 6, 80))
    compare(n.model())


def test_recurrent_layers_without_a_kernel_fall_back() -> None:
    n = Net()
    w, r, b = n.weights(1, 32, 3), n.weights(1, 32, 8), n.weights(1, 64)
    n.output(n("LSTM", n.input(4, 2, 3), w, r, b, hidden_size=8, input_forget=1))
    compare(n.model(), fallbacks=["LSTM"])


def test_recurrent_layers_whose_weights_another_layer_makes() -> None:
    n = Net()
    x, style = n.input("steps", 2, 6), n("Tanh", n.input(1, 5))
    for op_type, gates in GATES.items():
        extents = [(2, gates * 18, 6), (2, gates * 18, 18), (2, gates * 36)]
        made = [n("MatMul", style, n.weights(5, int(np.prod(shape)))) for shape in extents]
        w, r, b = (n("Reshape", each, n.integers(*shape)) for each, shape in zip(made, extents))
        n.output(*n.many(2, op_type, x, w, r, b, hidden_size=18, direction="bidirectional"))
    model, random = n.model(), np.random.default_rng(3)
    names = [port.name for port in model.graph.input]
    compiled, session = ov.Core().compile_model(model, "CPU"), onnx_runtime_session(model)
    for steps in (4, 9, 17):
        feeds = dict(zip(names, [random.standard_normal(s).astype(np.float32) for s in ((steps, 2, 6), (1, 5))]))
        found = compiled(feeds)
        check([found[index] for index in range(len(compiled.outputs))], session.run(None, feeds), 1e-4)
        assert not compiled.explain().fallbacks


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (40, 4), (64, 2), (30, 30), (48, 1)])
def test_instance_and_group_normalisation(channels: int, groups: int) -> None:
    n = Net(opset=21)
    x = n.conv(n.input(2, 3, 9, 7), 3, channels, 1)
    instance = n("InstanceNormalization", x, n.positive(channels), n.weights(channels))
    group = n("GroupNormalization", x, n.positive(channels), n.weights(channels), num_groups=groups, epsilon=1e-3)
    n.output(n("Relu", instance), group, n("Sigmoid", group), n("Mul", instance, n("Sigmoid", instance)))
    n.output(n("InstanceNormalization", n.input(2, channels, 11), n.positive(channels), n.weights(channels)))
    compare(n.model())


@pytest.mark.parametrize(("channels", "groups"), [(20, 5), (64, 8)])
def test_group_normalisation_spelled_by_reshapes(channels: int, groups: int) -> None:
    n = Net()
    x = n.conv(n.input(2, 3, 9, 7), 3, channels, pads=[1] * 4)
    y = n("Reshape", x, n.integers(0, groups, -1))
    y = n("InstanceNormalization", y, n.constant(np.ones(groups)), n.constant(np.zeros(groups)))
    y = n("Reshape", y, n("Shape", x))
    y = n("Add", n("Mul", y, n.positive(channels, 1, 1)), n.weights(channels, 1, 1))
    n.output(n("Mul", y, n("Sigmoid", y)))
    compiled = compare(n.model())
    kernels = [row.kernel for row in compiled.explain().rows]
    assert sum("Silu" in kernel for kernel in kernels) == 1


@pytest.mark.parametrize(("channels", "size"), [(4, 2), (18, 3), (64, 2), (128, 2), (256, 4)])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(channels: int, size: int, mode: str) -> None:
    n = Net()
    x = n.input(2, channels, 3, 5)
    y = n.conv(x, channels, channels, 1)
    n.output(*(n("DepthToSpace", value, blocksize=size, mode=mode) for value in (x, y)))
    n.output(n.conv(n("DepthToSpace", y, blocksize=size, mode=mode), channels // size**2, 5))
    compare(n.model())


@pytest.mark.parametrize(("channels", "size"), [(3, 2), (16, 2), (40, 3)])
def test_space_to_depth(channels: int, size: int) -> None:
    n = Net()
    x = n.input(2, channels, 4 * size, 3 * size)
    n.output(*(n("SpaceToDepth", value, blocksize=size) for value in (x, n.conv(x, channels, channels, 1))))
    compare(n.model())


@pytest.mark.parametrize(("saturate", "expected"), [(0, np.nan), (1, 448.0)])
def test_numbers_beyond_float8_become_what_the_attribute_says(saturate: int, expected: float) -> None:
    n = Net(opset=21)
    like = n("Cast", n.constant([1.0]), to=int(onnx.TensorProto.FLOAT8E4M3FN))
    x = n.input(2)
    n.output(n("Cast", n("CastLike", x, like, saturate=saturate), to=int(onnx.TensorProto.FLOAT)))
    found = ov.Core().compile_model(n.model(), "CPU")(np.array([1e6, 3.0], np.float32))[0]
    np.testing.assert_array_equal(found, np.array([expected, 3.0], np.float32))

"""Light models: the right structure, and weights that keep activations at a sensible size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.judge import onnx_runtime_session

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.frontend.light_models import LIGHT_MODELS, full_name, light_model
from cpuruntime.frontend.reader import read
from cpuruntime.graph import verify

LARGE = ("bvlc_alexnet", "vgg19", "zfnet512")  # up to 575 MB of weights: one is enough
RUN = [name for name in LIGHT_MODELS if name not in LARGE]


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}


@pytest.mark.parametrize("name", RUN)
def test_logits_are_of_sensible_size(name):
    model = light_model(name)
    last = model.graph.node[-1]
    logits = last.output[0]
    if last.op_type == "Softmax":
        logits = last.input[0]
        model.graph.output.append(onnx.helper.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, None))
    session = onnx_runtime_session(model)
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224), np.float32)
    (found,) = session.run([logits], {session.get_inputs()[0].name: x})
    assert np.isfinite(found).all()
    assert 0.1 < found.std() < 100
    assert len(np.unique(found)) > 500


@pytest.mark.parametrize("name", [*RUN, "bvlc_alexnet"])
def test_the_structure(name):
    model = light_model(name)
    assert "ConstantOfShape" not in {node.op_type for node in model.graph.node}
    assert len(model.graph.input) == 1
    if name in RUN:
        onnx.checker.check_model(model)
    graph = read(model)
    verify(graph)
    assert graph.inputs[0].static_shape == (1, 3, 224, 224)
    assert graph.outputs[0].static_shape[:2] == (1, 1000)
    used = {value for node in model.graph.node for value in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


def test_weights_have_the_scale_of_their_role():
    model = light_model("densenet121")
    weights = weights_of(model)
    normalization = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    scale, bias, mean, variance = (weights[name] for name in normalization.input[1:])
    for array in (scale, variance):
        assert 0.5 <= array.min() < 0.7
        assert 1.3 < array.max() <= 1.5
    for array in (bias, mean):
        assert 0.05 < array.std() < 0.2
    first = weights[model.graph.node[0].input[1]]
    assert first.shape == (64, 3, 7, 7)
    assert first.std() == pytest.approx(1 / np.sqrt(3 * 7 * 7), rel=0.05)
    made_by = {node.output[0]: node for node in model.graph.node}
    product = next(node for node in model.graph.node if node.op_type == "Mul")
    factors = weights[made_by[product.input[1]].input[0]]
    assert 0.5 <= factors.min() < factors.max() <= 1.5
    total = next(node for node in model.graph.node if node.op_type == "Add")
    assert weights[made_by[total.input[1]].input[0]].std() < 0.2


def test_no_weight_is_constant():
    for name, array in weights_of(light_model("shufflenet")).items():
        assert len(np.unique(array)) > 0.9 * min(array.size, 1000), name


def test_the_seed_decides():
    first, same, other = (weights_of(light_model("squeezenet", seed)) for seed in (3, 3, 4))
    for name, array in first.items():
        np.testing.assert_array_equal(array, same[name])
        assert not np.array_equal(array, other[name])


def test_the_same_on_every_machine():
    array = weights_of(light_model("squeezenet"))["conv1_w_0"]
    assert array.shape == (64, 3, 3, 3)
    np.testing.assert_allclose(array.ravel()[:3], [-0.28750846, -0.14844649, 0.03120737], rtol=1e-6)


@pytest.mark.parametrize("name", ["bvlc_alexnet", "light_zfnet512.onnx", "SqueezeNet"])
def test_names_may_be_those_of_files(name):
    assert full_name(name) in LIGHT_MODELS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5O", "Did you mean 'resnet50'"),
        ("res", r"'res'\. Did you mean 'resnet50'\? There are: bvlc_alexnet, "),
        ("alexnet", "Did you mean 'bvlc_alexnet'"),
        ("inception", "Did you mean 'inception_v"),
        ("", "no light model ''"),
        ("net", "no light model 'net'"),
        ("../../secret", "no light model"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InvalidArgumentError, match=message):
        light_model(name)

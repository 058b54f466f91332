"""What the passes make of the light models: which operators are left, and that they compute what ONNX Runtime does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from support.graphs import kind
from support.interpreter import interpret
from support.judge import onnx_runtime

from cpuruntime import passes
from cpuruntime.frontend.light_models import LIGHT_MODELS, light_model
from cpuruntime.frontend.reader import read
from cpuruntime.graph import Graph
from cpuruntime.operators.shape_inference import reshape

END = {"+Reshape": 1, "+FullyConnected": 1, "Softmax": 1}
TWO_MORE = {"+FullyConnected>Relu": 2}

LEFT = {
    "bvlc_alexnet": {"+Conv>Relu": 5, "MaxPool": 3, "LRN": 2, **TWO_MORE, **END},
    "densenet121": {
        "+Conv>Relu": 59,
        "+Conv": 62,
        "+ScaleShift>Relu": 62,
        "Concat": 58,
        "AveragePool": 3,
        "MaxPool": 1,
        "GlobalAveragePool": 1,
    },
    "inception_v1": {"+Conv>Relu": 57, "MaxPool": 13, "LRN": 2, "Concat": 9, "AveragePool": 1, **END},
    "inception_v2": {"+Conv>Relu": 69, "MaxPool": 5, "AveragePool": 8, "Concat": 10, **END},
    "resnet50": {"+Conv>Relu": 33, "+Conv+residual>Relu": 16, "+Conv": 4, "MaxPool": 1, "AveragePool": 1, **END},
    "shufflenet": {
        "+Conv>Relu": 20,
        "+Conv+residual>Relu": 13,
        "+Conv": 16,
        "+ChannelShuffle": 16,
        "AveragePool": 4,
        "MaxPool": 1,
        "Concat": 3,
        **END,
    },
    "squeezenet": {"+Conv>Relu": 26, "MaxPool": 3, "Concat": 8, "GlobalAveragePool": 1, "Softmax": 1},
    "vgg19": {"+Conv>Relu": 16, "MaxPool": 5, **TWO_MORE, **END},
    "zfnet512": {"+Conv>Relu": 5, "MaxPool": 3, "LRN": 2, **TWO_MORE, **END},
}


def without_softmax(name: str) -> onnx.ModelProto:
    """The model up to its logits: the last softmax would hide errors."""
    model = light_model(name)
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.node.pop()
        model.graph.output[0].name = last.input[0]
        model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def shipped(name: str) -> Graph:
    """The model as it is in the onnx package: weights made by ConstantOfShape."""
    folder = onnx.__path__[0] + "/backend/test/data/light"
    return read(f"{folder}/light_{name}.onnx")


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_the_operators_that_are_left(name: str) -> None:
    before = shipped(name)
    after = passes.run(before)
    assert Counter(map(kind, after.nodes)) == LEFT[name]
    original = {node.name for node in before.nodes}
    assert {origin for node in after.nodes for origin in node.origins} <= original


@pytest.mark.parametrize(
    ("name", "size"), [("resnet50", 224), ("shufflenet", 224), ("squeezenet", 96), ("densenet121", 64)]
)
def test_the_logits_are_those_of_onnx_runtime(name: str, size: int) -> None:
    model = without_softmax(name)
    graph = read(model)
    graph = reshape(graph, {graph.inputs[0].name: [1, 3, size, size]})
    x = np.random.default_rng(1).standard_normal((1, 3, size, size), np.float32)
    for extent in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        extent.dim_value = size
    model.graph.output[0].type.tensor_type.ClearField("shape")
    expected = onnx_runtime(model, {graph.inputs[0].name: x})[0]
    found = interpret(passes.run(graph), {graph.inputs[0].name: x}, fast=True)[graph.outputs[0].name]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(expected).std() > 1e-3 * np.abs(expected).max()

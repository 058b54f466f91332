"""The light models with random weights, on kernels alone: their logits are those of ONNX Runtime.

Softmax at the end would hide errors, so it is cut off.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from support.judge import onnx_runtime_session

import cpuruntime as ov
from cpuruntime.frontend.light_models import LIGHT_MODELS, light_model

ONE_STREAM = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2}
TWO_STREAMS = {"NUM_STREAMS": 2, "INFERENCE_NUM_THREADS": 2}
BATCH = 4
TOLERANCE = 2e-5  # of the largest logit; twice what is measured

OTHER_SIZES = [("squeezenet", 131, 250), ("densenet121", 96, 65), ("resnet50", 200, 213)]
"""resnet50 ends in a pool of 7x7 that takes its maps to be of this size."""


class Case(NamedTuple):
    """A model, and what it makes of some images."""

    model: onnx.ModelProto
    images: np.ndarray
    logits: np.ndarray


def without_softmax(name: str) -> onnx.ModelProto:
    """The model up to its logits."""
    model = light_model(name)
    if model.graph.node[-1].op_type == "Softmax":
        model.graph.output[0].name = model.graph.node.pop().input[0]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def random_images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, 3, height, width), np.float32)


@pytest.fixture(scope="module", params=LIGHT_MODELS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """One model at a time: the large ones have half a gigabyte of weights."""
    model = without_softmax(request.param)
    images = random_images(BATCH, 224, 224)
    session = onnx_runtime_session(model)
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(None, {name: image[np.newaxis]})[0] for image in images])
    del session
    yield Case(model, images, logits)
    gc.collect()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within the tolerance; and the logits tell classes apart."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max()
    assert np.abs(found - expected).max() <= TOLERANCE * largest
    assert expected.std() > 1e-3 * largest


def assert_native(compiled: ov.CompiledModel) -> None:
    """Every node runs on kernels."""
    explanation = compiled.explain()
    assert explanation.fallbacks == []
    assert len(explanation.rows) > 10


def test_logits_are_the_same_on_any_streams(case: Case) -> None:
    core = ov.Core()
    one = core.compile_model(case.model, "CPU", ONE_STREAM)
    assert_native(one)
    found = one(case.images[:1])[0]
    assert_close(found, case.logits[:1])
    two = core.compile_model(case.model, "CPU", TWO_STREAMS)
    requests = [two.create_infer_request() for _ in range(4)]
    for request in requests:
        request.start_async(case.images[:1])
    for request in requests:
        request.wait()
        np.testing.assert_array_equal(request.results[0], found)


def test_a_batch_of_four(case: Case) -> None:
    core = ov.Core()
    model = core.read_model(case.model)
    model.reshape([BATCH, 3, 224, 224])
    compiled = core.compile_model(model, "CPU", ONE_STREAM)
    assert_native(compiled)
    assert_close(compiled(case.images)[0], case.logits)


@pytest.mark.parametrize(("name", "height", "width"), OTHER_SIZES)
def test_an_input_size_that_the_file_does_not_state(name: str, height: int, width: int) -> None:
    proto = without_softmax(name)
    core = ov.Core()
    model = core.read_model(proto)
    model.reshape([2, 3, height, width])
    compiled = core.compile_model(model, "CPU", TWO_STREAMS)
    assert_native(compiled)
    images = random_images(2, height, width)
    found = compiled(images)[0]
    for extent, dim in zip((1, 3, height, width), proto.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_value = extent
    session = onnx_runtime_session(proto)
    feed = session.get_inputs()[0].name
    assert_close(found, np.concatenate([session.run(None, {feed: image[np.newaxis]})[0] for image in images]))

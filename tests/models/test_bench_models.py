"""The models of bench/models: their sizes, that they are worth comparing on, and that CPU agrees with ONNX Runtime."""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.bench_models import SMALL
from support.judge import check, onnx_runtime

import cpuruntime as ov
import models
from cpuruntime.errors import InvalidArgumentError
from models.quantised import quantised, quantised_model
from peer.models import prepare

# Operators that may run without a kernel: to be emptied.
WITHOUT_KERNEL = {"Cos", "DepthToSpace", "GRU", "InstanceNormalization", "LSTM", "Sin"}

# Published numbers of weights, less the channels that were batch normalised: a bias took the place of two weights.
WEIGHTS = {
    "resnet18": 11_689_512 - 4_800,
    "mobilenet_v2": 3_504_872 - 17_056,
    "mobilenet_v3_large": 5_483_032 - 12_200,
    "efficientnet_b0": 5_288_548 - 21_008,
    "shufflenet_v2": 2_278_604 - 8_090,
    "resnext50": 25_028_904 - 34_112,
    "regnet_y_400mf": 4_344_144 - 13_576,
    "yolov8n": 3_157_200 - 5_296,
    "convnext_tiny": 28_589_128,
    "vit_tiny": 5_717_416,
}


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return models.build(request.param, **SMALL[request.param])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a model without sizes makes the small one."""
    for name, sizes in SMALL.items():
        monkeypatch.setitem(models.MODELS, name, partial(models.MODELS[name], **sizes))


def feeds(model: onnx.ModelProto, batch: int = 1, seed: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    limits = {entry.key: int(entry.value) for entry in model.metadata_props}
    arrays: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        shape = [size.dim_value or batch for size in value.type.tensor_type.shape.dim]
        limit = limits.get(models.LIMIT + value.name)
        arrays[value.name] = random.integers(0, limit, shape) if limit else random.random(shape, np.float32)
    return arrays


def results(compiled: ov.CompiledModel, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    found = compiled(inputs)
    return [found[index] for index in range(len(compiled.outputs))]


def test_every_model_is_tested() -> None:
    assert SMALL.keys() == models.MODELS.keys()


def test_the_small_model_computes_what_onnx_runtime_does(small: onnx.ModelProto) -> None:
    onnx.checker.check_model(small, full_check=True)
    inputs = feeds(small)
    expected = onnx_runtime(small, inputs)
    for output in expected:
        assert np.isfinite(output).all()
        assert output.std() > 0.02 * np.abs(output).max(), "the output says little"
    compiled = ov.Core().compile_model(small, "CPU")
    assert {row.op_type for row in compiled.explain().fallbacks} <= WITHOUT_KERNEL
    check(results(compiled, inputs), expected, 2e-5)


@pytest.mark.parametrize("name", ["vit_tiny", "shufflenet_v2"])
def test_an_open_batch_takes_any_size(name: str) -> None:
    model = models.build(name, **SMALL[name])
    compiled = ov.Core().compile_model(model, "CPU")
    for batch in (3, 1):
        inputs = feeds(model, batch)
        check(results(compiled, inputs), onnx_runtime(model, inputs), 2e-5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_size_is_the_published_one(name: str) -> None:
    assert sum(prod(tensor.dims) for tensor in models.build(name).graph.initializer) == WEIGHTS[name]


def test_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (models.build("mlp", seed).SerializeToString(deterministic=True) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no bench model 'gpt3'.*'gpt2'.*There are: mlp, resnet18"):
        models.build("gpt3")


@pytest.mark.usefixtures("few")
def test_prepare_fills_inputs_of_whole_numbers_within_their_limits(tmp_path: Path) -> None:
    model = prepare("bench:bert_base", tmp_path)
    assert (model.name, model.batch) == ("bert_base", 1)
    with np.load(model.inputs) as archive:
        arrays = dict(zip(model.names, archive.values()))
    assert set(arrays["attention_mask"].flat) == set(arrays["token_type_ids"].flat) == {0, 1}
    assert 0 <= arrays["input_ids"].min() < 50 < arrays["input_ids"].max() < 100


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("batch", "expected"), [(None, 1), (4, 4)])
def test_prepare_closes_an_open_batch(batch: int | None, expected: int, tmp_path: Path) -> None:
    model = prepare("bench:vit_tiny", tmp_path, batch=batch)
    assert model.batch == expected
    sizes = [dimension.dim_value for dimension in onnx.load(model.path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [expected, 3, 64, 64]


def test_a_quantised_model_computes_about_the_same_and_has_its_limits() -> None:
    model = models.build("bert_base", **{**SMALL["bert_base"], "layers": 1})
    written = quantised_model(model)
    assert list(written.metadata_props) == list(model.metadata_props)
    assert sum(node.op_type == "QuantizeLinear" for node in written.graph.node) > 10
    inputs = feeds(model)
    for ours, wanted in zip(onnx_runtime(written, inputs), onnx_runtime(model, inputs)):
        assert np.linalg.norm(ours - wanted) < 0.1 * np.linalg.norm(wanted)


def test_an_unknown_quantised_model_suggests_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no int8 model 'resnet5'.*'resnet50'"):
        quantised("resnet5")

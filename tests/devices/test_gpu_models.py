"""Whole models on device GPU: nothing of them is left to other devices, and results are those of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.bench_models import SMALL
from support.judge import check, onnx_runtime

import cpuruntime as ov
import models
from cpuruntime.frontend.light_models import LIGHT_MODELS, light_model
from cpuruntime.gpu_runtime.recording import RecordingRuntime
from peer.models import ModelFile, prepare


def prepared(name: str, batch: int, folder: Path) -> ModelFile:
    """A model of bench/models for a batch, and inputs."""
    onnx.save(models.build(name, **SMALL[name]), folder / f"{name}.onnx")
    return prepare(str(folder / f"{name}.onnx"), folder, batch=batch)


def without_kernels(model: ov.Model) -> list[str]:
    """The nodes that the GPU leaves to other devices."""
    found = ov.Core().query_model(model, "GPU")
    return [node.friendly_name for node in model.get_ordered_ops() if node.friendly_name not in found]


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_all_nodes_of_light_models_have_kernels(recorder: RecordingRuntime, name: str) -> None:
    assert without_kernels(ov.Core().read_model(light_model(name))) == []


@pytest.mark.parametrize("name", SMALL)
def test_all_nodes_have_kernels(recorder: RecordingRuntime, name: str, tmp_path: Path) -> None:
    assert without_kernels(ov.Core().read_model(prepared(name, 1, tmp_path).path)) == []


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_tiny", "bert_base"])
def test_results(gpu: str, name: str, batch: int, tmp_path: Path) -> None:
    file = prepared(name, batch, tmp_path)
    with np.load(file.inputs) as arrays:
        feeds = dict(zip(file.names, arrays.values()))
    wanted = onnx_runtime(onnx.load(file.path), feeds)
    for precision, error in (("f32", 1e-4), ("f16", 5e-3)):
        with ov.Core().compile_model(file.path, gpu, {"INFERENCE_PRECISION_HINT": precision}) as compiled:
            check([*compiled(feeds).values()], wanted, error)

"""Plans in kernel packs: models that start from their file and a plan compute what compiled ones compute."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.house import ROOT
from support.judge import Net
from support.stored_models import feeds, results

import cpuruntime as ov
from cpuruntime.api import storing
from cpuruntime.cli.plan_worker import planned as plan_of
from cpuruntime.compiler import build, isa
from cpuruntime.errors import ModelError
from cpuruntime.frontend.bytes import FileBytes
from cpuruntime.graph import Deferred
from cpuruntime.store import SectionFile, kernel_packs, write_pack

OPTIMIZED = {"COMPILE_MODE": "OPTIMIZED"}


def images() -> onnx.ModelProto:
    """Convolutions of several methods, in groups, with factors of the weights, and a constant as it is."""
    n = Net()
    x = n.input(1, 64, 20, 20)
    x = n("Relu", n.norm(n.conv(x, 64, 64, pads=[1] * 4), 64))
    x = n("Relu", n.conv(x, 64, 128, pads=[1] * 4, strides=[2, 2]))
    x = n("Relu", n.conv(x, 128, 160, 1))
    x = n("Add", n.conv(x, 160, 160, group=2, pads=[1] * 4), n.weights(1, 160, 10, 10))
    n.output(n("ConvTranspose", x, n.weights(160, 16, 2, 2), strides=[2, 2]))
    return n.model()


def products() -> onnx.ModelProto:
    """Products of right sides that are joined, turned and large, and rows that are looked up."""
    n = Net()
    x = n("Gather", n.weights(300, 256), n.input(256, dtype=np.int64))
    q, k, v = (n("MatMul", x, n.weights(256, 256)) for _ in range(3))
    x = n("Add", n("Mul", q, k), v)
    x = n("Gemm", x, n.weights(512, 256), n.weights(512), transB=1)
    n.output(n("Relu", n("MatMul", x, n.weights(512, 1024))))
    return n.model()


def small() -> onnx.ModelProto:
    """A file without weights that are cut out."""
    n = Net()
    n.output(n("Relu", n.conv(n.input(1, 3, 8, 8), 3, 16)))
    return n.model()


def open_batch() -> onnx.ModelProto:
    n = Net()
    n.output(n("Relu", n.conv(n.input("batch", 3, 8, 8), 3, 32)))
    return n.model()


MODELS = {"images": images, "products": products, "small": small}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and a pack of their plans; what these run is in the cache of kernels."""
    folder = tmp_path_factory.mktemp("plans")
    plans = {}
    for name, make in MODELS.items():
        path = folder / f"{name}.onnx"
        onnx.save(make(), path)
        key, plan, kernels = plan_of(str(path))
        assert kernels
        assert name == "small" or len(plan) < path.stat().st_size / 4, "its weights are not in it"
        plans[str(path.stat().st_size)] = {key: (path.name, plan)}
    write_pack(folder / "a.pack", {}, {isa.current().cpu: {}}, plans)
    return folder


def use(*places: Path) -> None:
    os.environ["CPURUNTIME_KERNEL_PATH"] = os.pathsep.join(map(str, places))
    kernel_packs.cache_clear()
    build.packs.cache_clear()


@pytest.fixture
def packs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, whose pack is in use."""
    monkeypatch.setenv("CPURUNTIME_KERNEL_PATH", "")
    use(folder)
    yield folder
    use()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models that have started from plans."""
    found: list[str] = []

    def restored(plugin: Any, file: SectionFile, *others: Any) -> Any:
        model = storing_restored(plugin, file, *others)
        found.append(file.facts["own"]["name"])
        return model

    storing_restored = storing.restored
    monkeypatch.setattr(storing, "restored", restored)
    return found


def inputs_of(model: onnx.ModelProto) -> list[np.ndarray]:
    return [np.arange(256) if array.dtype == np.int64 else array for array in feeds(model)]


@pytest.mark.parametrize("name", MODELS)
def test_planned_models_compute_what_compiled_ones_do(packs: Path, started: list[str], name: str) -> None:
    model = MODELS[name]()
    inputs = inputs_of(model)
    with (
        ov.Core().compile_model(packs / f"{name}.onnx", "CPU") as planned,
        ov.Core().compile_model(model.SerializeToString(), "CPU", OPTIMIZED) as compiled,
    ):
        assert len(started) == 1
        assert not planned.get_property("LOADED_FROM_CACHE")
        assert results(planned, inputs) == results(compiled, inputs)
        assert str(planned.explain()).splitlines()[-5:] == str(compiled.explain()).splitlines()[-5:]
        with ov.Core().import_model(planned.export_model().getvalue(), "CPU") as imported:
            assert results(imported, inputs) == results(compiled, inputs), "it is stored with its weights"


def test_what_has_no_plan_is_said(tmp_path: Path) -> None:
    onnx.save(open_batch(), tmp_path / "open.onnx")
    onnx.save(small(), tmp_path / "outside.onnx", save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(ov.UnsupportedError, match="it has dynamic shapes, or weights that are not packed from"):
        plan_of(str(tmp_path / "open.onnx"))
    with pytest.raises(ov.UnsupportedError, match="it has external data"):
        plan_of(str(tmp_path / "outside.onnx"))


def test_a_model_of_other_content_or_settings_is_compiled(packs: Path, started: list[str], tmp_path: Path) -> None:
    """Also where a file is as large as the one that was planned."""
    content = bytearray((packs / "products.onnx").read_bytes())
    model = onnx.load_from_string(bytes(content))
    (weights,) = (one for one in model.graph.initializer if list(one.dims) == [512, 1024])
    at = content.index(weights.raw_data)
    content[at : at + 4] = np.float32(100).tobytes()
    (tmp_path / "products.onnx").write_bytes(content)
    inputs = inputs_of(model)
    with (
        ov.Core().compile_model(tmp_path / "products.onnx", "CPU", OPTIMIZED) as changed,
        ov.Core().compile_model(bytes(content), "CPU", OPTIMIZED) as compiled,
        ov.Core().compile_model(packs / "products.onnx", "CPU", {**OPTIMIZED, "NUM_STREAMS": 2}) as other,
    ):
        assert results(changed, inputs) == results(compiled, inputs) != results(other, inputs)
    assert not started
    ov.Core().compile_model(packs / "products.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert len(started) == 1, "a setting that is the default"


def test_a_file_that_changes_meanwhile_costs_one_line(
    packs: Path, started: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changes = [ModelError("the model's file was changed while the model was compiled.")]
    deferred = FileBytes.deferred

    def changed_once(self: FileBytes, *place: Any) -> Deferred:
        if changes:
            raise changes.pop()
        return deferred(self, *place)

    monkeypatch.setattr(FileBytes, "deferred", changed_once)
    model = images()
    with ov.Core().compile_model(packs / "images.onnx", "CPU") as compiled:
        assert compiled(feeds(model))[0].shape == (1, 16, 20, 20)
    assert not started
    assert [record.getMessage() for record in caplog.records] == [
        f"the plan of '{packs}/images.onnx' in a kernel pack is not used, the model is compiled: "
        "the model's file was changed while the model was compiled."
    ]


def test_a_file_that_changes_while_weights_are_packed_costs_one_line(
    packs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = "the model's file was changed while the model was compiled."

    def changed() -> np.ndarray:
        raise ModelError(reason)

    def deferred(self: FileBytes, start: int, shape: tuple[int, ...], dtype: np.dtype) -> Deferred:
        monkeypatch.undo()
        return Deferred(shape, dtype, changed)

    monkeypatch.setattr(FileBytes, "deferred", deferred)
    model = images()
    with ov.Core().compile_model(packs / "images.onnx", "CPU") as compiled:
        assert compiled(feeds(model))[0].shape == (1, 16, 20, 20)
    assert [record.getMessage() for record in caplog.records] == [
        f"the plan of '{packs}/images.onnx' in a kernel pack is not used, the model is compiled: {reason}"
    ]


def test_a_damaged_plan_costs_one_line(
    packs: Path, started: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = bytearray((packs / "a.pack").read_bytes())
    whole[-1] ^= 1  # of the last plan, by the sizes of files
    (tmp_path / "b.pack").write_bytes(whole)
    use(tmp_path)
    last = max(MODELS, key=lambda name: str((packs / f"{name}.onnx").stat().st_size))
    with caplog.at_level(logging.WARNING), ov.Core().compile_model(packs / f"{last}.onnx", "CPU"):
        assert not started
    assert [record.getMessage() for record in caplog.records] == [
        f"the plan of '{packs}/{last}.onnx' in a kernel pack is not used, the model is compiled: "
        f"what it has of {last}.onnx is damaged"
    ]


SCRIPT = """
import sys
import numpy as np
import cpuruntime as ov
compiled = ov.Core().compile_model(sys.argv[1], "CPU")
compiled(np.ones((1, 64, 20, 20), np.float32))
print(*(name in sys.modules for name in ("onnx", "numba", "ml_dtypes", "cpuruntime.compiler.pool",
                                       "cpuruntime.program.plan.planner", "cpuruntime.operators.traits")))
"""


def test_a_process_with_a_plan_imports_only_what_it_needs(folder: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CPURUNTIME_KERNEL_PATH": str(folder)}
    command = [sys.executable, "-c", SCRIPT, str(folder / "images.onnx")]
    done = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    assert set(done.stdout.split()) == {"False"}

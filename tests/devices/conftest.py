"""The devices that tests of the public objects run on, and compiled models to run them with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import onnx
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.stored_models import convolutional

import cpuruntime as ov
from cpuruntime.devices import registry
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.recording import RecordingRuntime
from cpuruntime.host.ledger import Ledger
from cpuruntime.testing.conformance.fixtures import added, check, compile_on, negated

__all__ = ["added", "check", "compile_on", "negated"]

DEVICES = ["REFERENCE", "CPU"]

Register = Callable[[str, str], None]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; a test that asks for it runs on each."""
    return request.param


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Registers a device by an entry point, as another distribution would: name and "module:class"."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [one for one in entries if one.group == group])
    return lambda name, target: entries.append(EntryPoint(name, target, "cpuruntime.devices"))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of one test: a model of another, dropped but not collected yet, holds no processors in it."""
    monkeypatch.setenv("CPURUNTIME_LEDGER_DIR", str(tmp_path / "ledger"))
    return Ledger()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds inferences of the fake device back; opened for all at the end."""
    gate = Gate()
    yield gate
    gate.open(100)


@pytest.fixture
def gated(gate: Gate) -> tuple[ov.CompiledModel, FakeModel]:
    """A model on the fake device whose inferences wait at the gate."""
    return compile_fake(gate)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model's file."""
    path = tmp_path / "model.onnx"
    onnx.save(convolutional(), path)
    os.utime(path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The folder of a model cache, which is not made yet."""
    return tmp_path / "cache"


@pytest.fixture
def gpu() -> str:
    """The name of a device of the drivers here: of one that runs on the processor, where there is such a driver."""
    reason = drivers.reason()
    if reason is not None:
        pytest.skip(reason)
    kinds = [runtime.facts.kind for runtime in drivers.devices()]
    return f"GPU.{kinds.index('cpu') if 'cpu' in kinds else 0}"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingRuntime]:
    """The only device is one without a driver; kernels are stored in a folder of the test's own."""
    from cpuruntime.devices.gpu import choosing, modules
    from cpuruntime.store import Folder

    folder = Folder(tmp_path / "kernels")
    for one in (modules, choosing):
        monkeypatch.setattr(one, "cache_folder", lambda: folder)
    runtime = RecordingRuntime()
    with drivers.replaced([runtime]):
        yield runtime

"""The devices that the conformance tests run on, and compiled models to run them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import onnx
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.onnx_models import one_input, two_inputs

import cpuruntime as ov
from cpuruntime.devices import registry

DEVICES = [*registry.own()]

Compile = Callable[..., ov.CompiledModel]
Register = Callable[[str, str], None]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; a test that asks for it runs on each."""
    return request.param


@pytest.fixture
def compile_on(device: str) -> Compile:
    """Compiles a model on the device under test."""

    def compile_it(model: onnx.ModelProto | ov.Model, config: dict[str, Any] | None = None) -> ov.CompiledModel:
        return ov.Core().compile_model(model, device, config)

    return compile_it


@pytest.fixture
def added(compile_on: Compile) -> ov.CompiledModel:
    """sum = x + y, result = relu(sum), all [2,3], on the device under test."""
    return compile_on(two_inputs())


@pytest.fixture
def negated(compile_on: Compile) -> ov.CompiledModel:
    """y = -x, both [2,3], on the device under test."""
    return compile_on(one_input())


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Registers a device by an entry point, as another distribution would: name and "module:class"."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [one for one in entries if one.group == group])
    return lambda name, target: entries.append(EntryPoint(name, target, "cpuruntime.devices"))


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

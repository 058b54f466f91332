"""What the conformance suite runs with. A conftest imports these and has a fixture `device`, the device's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import cpuruntime as ov
from cpuruntime.testing.conformance import models

Compile = Callable[..., ov.CompiledModel]
Check = Callable[[np.ndarray, np.ndarray], None]


def need(device: str, *properties: str) -> None:
    """Skip the test where the device lacks a property."""
    missing = set(properties) - ov.Core().get_property(device, "SUPPORTED_PROPERTIES").keys()
    if missing:
        pytest.skip(f"device {device} has no property {', '.join(sorted(missing))}")


@pytest.fixture
def compile_on(device: str) -> Compile:
    """Compiles a model on the device under test."""

    def compile_it(model: onnx.ModelProto | ov.Model, config: dict[str, Any] | None = None) -> ov.CompiledModel:
        return ov.Core().compile_model(model, device, config)

    return compile_it


@pytest.fixture
def check(device: str) -> Check:
    """Checks a result's shape, type and values. A device that claims no precision is to answer zeros."""
    computes = bool(ov.Core().get_property(device, "OPTIMIZATION_CAPABILITIES"))

    def check_it(found: np.ndarray, right: np.ndarray) -> None:
        assert (found.shape, found.dtype) == (right.shape, right.dtype)
        np.testing.assert_array_equal(found, right if computes else np.zeros_like(right))

    return check_it


@pytest.fixture
def added(compile_on: Compile) -> ov.CompiledModel:
    """sum = x + y, result = relu(sum), all [2,3], on the device under test."""
    return compile_on(models.added())


@pytest.fixture
def negated(compile_on: Compile) -> ov.CompiledModel:
    """y = -x, both [2,3], on the device under test."""
    return compile_on(models.negated())

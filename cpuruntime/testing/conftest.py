"""The fixtures of the conformance suite, for the device that the option `--device` names."""

from __future__ import annotations

import pytest

from cpuruntime.testing.conformance.fixtures import added, check, compile_on, negated

__all__ = ["added", "check", "compile_on", "device", "negated"]


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """The name of the device under test."""
    return request.config.getoption("--device")

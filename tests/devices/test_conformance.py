"""What every device must do, on each device of this package."""

from __future__ import annotations

import pytest

from cpuruntime.devices import batch_gain, registry
from cpuruntime.properties.device import COMPOSED
from cpuruntime.testing.conformance.test_device import *  # noqa: F403

SIMPLE = [name for name in registry.own() if name not in COMPOSED]


@pytest.fixture(params=[*SIMPLE, "BATCH:REFERENCE(4)", "BATCH:CPU(4)"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a device; each test runs on each. BATCH uses batches whether they gain or not."""
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    return request.param

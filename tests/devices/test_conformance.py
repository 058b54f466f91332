"""What every device must do, on each device of this package."""

from __future__ import annotations

import pytest

import cpuruntime as ov
from cpuruntime.devices import registry
from cpuruntime.properties.device import COMPOSED
from cpuruntime.testing.conformance.test_device import *  # noqa: F403


# RAY needs a cluster: test_ray_cluster.py.
@pytest.fixture(params=[name for name in registry.own() if name not in (*COMPOSED, "RAY")])
def device(request: pytest.FixtureRequest) -> str:
    """The name of a device; each test runs on each that can be used here."""
    reason = ov.Core().unavailable_devices.get(request.param)
    if reason is not None:
        pytest.skip(reason)
    return request.param

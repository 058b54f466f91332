"""A device over another one does what every device must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cpuruntime.testing.conformance.test_device import *  # noqa: F403

DEVICES = [
    *("RELAY:REFERENCE", "RELAY:CPU", "RELAY:NULL", "MULTI:REFERENCE", "MULTI:CPU,REFERENCE", "MULTI:NULL"),
    *("BATCH:REFERENCE(4)", "BATCH:CPU(4)", "AUTO:CPU,REFERENCE", "AUTO:REFERENCE,CPU"),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, register: Callable[[str, str], None]) -> str:
    """The name of a device that forwards to another one; each test runs on each."""
    register("RELAY", "support.relay_device:RelayPlugin")
    return request.param

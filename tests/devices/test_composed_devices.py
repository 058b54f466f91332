"""A device over another one does what every device must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cpuruntime.devices import batch_gain
from cpuruntime.testing.conformance.test_device import *  # noqa: F403

DEVICES = [
    *("RELAY:REFERENCE", "RELAY:CPU", "RELAY:NULL", "MULTI:REFERENCE", "MULTI:CPU,REFERENCE", "MULTI:NULL"),
    *("BATCH:REFERENCE(4)", "BATCH:CPU(4)", "AUTO:CPU,REFERENCE", "AUTO:REFERENCE,CPU"),
    *("HETERO:CPU", "HETERO:REFERENCE,CPU"),
]


@pytest.fixture(params=DEVICES)
def device(
    request: pytest.FixtureRequest, register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> str:
    """The name of a device over another one; each test runs on each. BATCH uses batches whether they gain or not."""
    monkeypatch.setattr(batch_gain, "GAIN", 1e9)
    monkeypatch.setattr(batch_gain, "SHORTEST", 0)
    register("RELAY", "support.relay_device:RelayPlugin")
    return request.param

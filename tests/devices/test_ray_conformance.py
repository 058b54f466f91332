"""RAY on replicas in this process does what every device must do; Ray itself is not needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import local_cluster
from support.on_ray import VARIABLES, added, device, negated

from cpuruntime.testing.conformance.test_device import *  # noqa: F403

__all__ = ["added", "device", "negated"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Device RAY has replicas in this process."""
    with pytest.MonkeyPatch.context() as patch:
        local_cluster.install(patch)
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        yield

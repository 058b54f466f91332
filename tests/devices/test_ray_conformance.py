"""RAY on replicas in this process does what every device must do; Ray itself is not needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import local_cluster

import cpuruntime as ov
from cpuruntime.testing.conformance import models
from cpuruntime.testing.conformance.test_device import *  # noqa: F403


@pytest.fixture(scope="module", autouse=True)
def local() -> Iterator[None]:
    """Device RAY has one replica of each model, on REFERENCE."""
    with pytest.MonkeyPatch.context() as patch:
        local_cluster.install(patch)
        patch.setenv("CPURUNTIME_REMOTE_DEVICE", "REFERENCE")
        patch.setenv("CPURUNTIME_CPUS_PER_REPLICA", "1")
        patch.setenv("CPURUNTIME_NUM_REPLICAS", "1")
        yield


@pytest.fixture
def device(local: None) -> str:
    """The conformance suite runs on RAY."""
    return "RAY"


@pytest.fixture(scope="module")
def negated(local: None) -> Iterator[ov.CompiledModel]:
    """One model for the tests that ask for it."""
    with ov.Core().compile_model(models.negated(), "RAY") as compiled:
        yield compiled


@pytest.fixture(scope="module")
def added(local: None) -> Iterator[ov.CompiledModel]:
    """Likewise."""
    with ov.Core().compile_model(models.added(), "RAY") as compiled:
        yield compiled

"""Fixtures for tests on device RAY: models with one replica on REFERENCE. A test file has a fixture `cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import cpuruntime as ov
from cpuruntime.testing.conformance import models

VARIABLES = {
    "CPURUNTIME_REMOTE_DEVICE": "REFERENCE",
    "CPURUNTIME_CPUS_PER_REPLICA": "1",
    "CPURUNTIME_NUM_REPLICAS": "1",
}


@pytest.fixture
def device(cluster: Any) -> str:
    """The conformance suite runs on RAY."""
    return "RAY"


@pytest.fixture(scope="module")
def negated(cluster: Any) -> Iterator[ov.CompiledModel]:
    """One model for the tests that ask for it."""
    with ov.Core().compile_model(models.negated(), "RAY") as compiled:
        yield compiled


@pytest.fixture(scope="module")
def added(cluster: Any) -> Iterator[ov.CompiledModel]:
    """Likewise."""
    with ov.Core().compile_model(models.added(), "RAY") as compiled:
        yield compiled

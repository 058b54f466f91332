"""A GPU beside the CPU in MULTI: the threads that submit to it have a processor of their own."""

from __future__ import annotations

from typing import Any

import pytest
from support.gpu_models import chain

import cpuruntime as ov
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.recording import RecordingRuntime
from cpuruntime.host.ledger import Ledger
from cpuruntime.host.topology import Topology

USABLE = Topology.read().usable
pytestmark = pytest.mark.skipif(USABLE < 2, reason="there is one processor")


def explained(device: str, **config: Any) -> str:
    """What a model on a device explains."""
    with ov.Core().compile_model(chain(), device, config) as compiled:
        return str(compiled.explain())


@pytest.mark.parametrize("device", ["MULTI:GPU,CPU", "MULTI:CPU,GPU", "AUTO:GPU,CPU"])
def test_the_cpu_leaves_a_processor(recorder: RecordingRuntime, ledger: Ledger, device: str) -> None:
    config = {"PERFORMANCE_HINT": "CUMULATIVE_THROUGHPUT"} if device.startswith("AUTO") else {}
    with ov.Core().compile_model(chain(), device, config) as compiled:
        assert f"leaves 1 of {USABLE} processors to threads of GPU" in str(compiled.explain())
        cpus = [cpu for holder in ledger.holders() for cpu in holder.cpus]
        assert len(set(cpus)) == len(cpus) <= USABLE


def test_a_number_of_threads_of_the_users_stays(recorder: RecordingRuntime) -> None:
    chosen = {"CPU": {"INFERENCE_NUM_THREADS": USABLE}}
    assert "leaves" not in explained("MULTI:GPU,CPU", DEVICE_PROPERTIES=chosen)


def test_a_driver_that_runs_on_the_processor_is_left_none() -> None:
    with drivers.replaced([RecordingRuntime(kind="cpu")]):
        assert ov.Core().get_property("GPU", "HOST_PROCESSORS") == 0
        assert "leaves" not in explained("MULTI:GPU,CPU")


def test_a_cpu_that_serves_only_until_the_gpu_is_ready_leaves_none(recorder: RecordingRuntime) -> None:
    assert ov.Core().get_property("GPU", "HOST_PROCESSORS") == 1
    assert "leaves" not in explained("AUTO:GPU,CPU")

"""The CPU divided into instances, CPU.0 and CPU.1, on disjoint cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.onnx_models import one_input

import cpuruntime as ov
from cpuruntime import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.host.topology import Topology

pytestmark = [
    pytest.mark.usefixtures("ledger"),
    pytest.mark.skipif(len(Topology.read().parts(2)) < 2, reason="needs two cores"),
]


@pytest.fixture
def core() -> ov.Core:
    """A core with two instances of the CPU."""
    core = ov.Core()
    core.set_property("CPU", {"CPU_INSTANCES": 2})
    return core


def cpus(model: ov.CompiledModel) -> set[int]:
    return {cpu for share in model.get_property("PINNED_CPUS") for cpu in share}


def test_instances_are_listed_and_have_disjoint_cores(core: ov.Core) -> None:
    assert core.available_devices[:2] == ["CPU.0", "CPU.1"]
    parts = Topology.read().parts(2)
    models = [core.compile_model(one_input(), f"CPU.{index}", {"PERFORMANCE_HINT": "LATENCY"}) for index in range(2)]
    for index, (model, part) in enumerate(zip(models, parts)):
        assert model.get_property("EXECUTION_DEVICES") == [f"CPU.{index}"]
        assert model.explain().device == f"CPU.{index}"
        assert cpus(model)
        assert cpus(model) <= {cpu.index for cpu in part.cpus}
        assert core.get_property(f"CPU.{index}", "RANGE_FOR_STREAMS") == (1, part.usable)
        np.testing.assert_array_equal(model([np.ones((2, 3), np.float32)])[0], -np.ones((2, 3), np.float32))
    assert core.plan_streams(one_input(), "CPU.1").shares[0][0] in {cpu.index for cpu in parts[1].cpus}


def test_a_stored_model_runs_on_the_cores_of_its_instance(core: ov.Core, tmp_path: Path) -> None:
    config = {"CACHE_DIR": str(tmp_path / "cache"), "COMPILE_MODE": "OPTIMIZED"}
    part = {cpu.index for cpu in Topology.read().parts(2)[1].cpus}
    for is_loaded in (False, True):
        model = core.compile_model(one_input(), "CPU.1", config)
        assert model.get_property("LOADED_FROM_CACHE") is is_loaded
        assert model.get_property("EXECUTION_DEVICES") == ["CPU.1"]
        assert cpus(model) <= part


def test_an_instance_that_is_not_there_says_so(core: ov.Core) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown device 'CPU.7'\. There is CPU\.0, CPU\.1"):
        core.compile_model(one_input(), "CPU.7")
    with pytest.raises(InvalidArgumentError, match=r"There is CPU alone"):
        ov.Core().compile_model(one_input(), "CPU.1")
    with pytest.raises(InvalidArgumentError, match=r"There is no CPU\.1: with this CPU_INSTANCES there is 1 instance"):
        core.compile_model(one_input(), "CPU.1", {"CPU_INSTANCES": 1})
    core.set_property("CPU", {"CPU_INSTANCES": 1})
    with pytest.raises(DeviceUnavailableError, match=r"CPU\.1 is none of the 1 instances of CPU_INSTANCES"):
        core.compile_model(one_input(), "CPU.1")

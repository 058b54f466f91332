"""The device for tests of what runs on several devices: each of its faults comes when its property says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.onnx_models import chain, one_input

import cpuruntime as ov
from cpuruntime.errors import CancelledError, DeviceUnavailableError, ModelError, OutOfMemoryError
from cpuruntime.testing import simulated
from cpuruntime.testing.conformance.test_device import *  # noqa: F403
from cpuruntime.testing.simulated import SimulatedClock

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


@pytest.fixture(autouse=True)
def registered(register: Callable[[str, str], None]) -> None:
    """SIMULATED is registered as by another distribution."""
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")


@pytest.fixture
def device() -> str:
    """For the conformance suite."""
    return "SIMULATED.1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimulatedClock:
    """The clock of the devices, which stands still."""
    clock = SimulatedClock()
    monkeypatch.setattr(simulated, "clock", clock)
    return clock


def compiled(core: ov.Core | None = None, **config: object) -> ov.CompiledModel:
    config = {f"SIMULATED_{name}": value for name, value in config.items()}
    return (core or ov.Core()).compile_model(one_input(), "SIMULATED.0", {"NUM_STREAMS": 1, **config})


def test_instances_are_listed_and_have_settings_of_their_own() -> None:
    core = ov.Core()
    assert core.available_devices[-4:] == [f"SIMULATED.{index}" for index in range(4)]
    core.set_property("SIMULATED.2", {"SIMULATED_LOAD_FAILS": True})
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.2 loads no model"):
        core.compile_model(one_input(), "SIMULATED.2")
    np.testing.assert_array_equal(compiled(core)(X)[0], -X)


def test_compiling_takes_the_time_of_the_clock(clock: SimulatedClock) -> None:
    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(compiled, COMPILE_MS=5000)
        clock.wait_for(1)
        clock.advance(4999)
        assert not model.done()
        clock.advance(1)
        np.testing.assert_array_equal(model.result(60)(X)[0], -X)


def test_an_inference_takes_the_time_of_the_clock(clock: SimulatedClock) -> None:
    request = compiled(INFERENCE_MS=100).create_infer_request()
    request.start_async(X)
    clock.wait_for(1)
    clock.advance(99)
    assert not request.wait_for(0)
    clock.advance(1)
    request.wait()
    np.testing.assert_array_equal(request.get_output_tensor().data, -X)


@pytest.mark.parametrize(("failure", "error"), [("DEVICE", DeviceUnavailableError), ("MODEL", ModelError)])
def test_inferences_fail_from_a_number_on(failure: str, error: type[Exception]) -> None:
    model = compiled(FAILS_AT=2, FAILURES=2, FAILURE=failure)
    model(X)
    for number in (2, 3):
        with pytest.raises(error, match=f"inference {number} fails"):
            model(X)
    np.testing.assert_array_equal(model(X)[0], -X)


def test_an_inference_hangs_until_it_is_cancelled(clock: SimulatedClock) -> None:
    request = compiled(HANGS_AT=1).create_infer_request()
    request.start_async(X)
    clock.wait_for(1)
    clock.advance(1e9)
    assert not request.wait_for(0)
    request.cancel()
    with pytest.raises(CancelledError):
        request.wait()
    np.testing.assert_array_equal(request.infer(X)[0], -X)


def test_a_device_that_is_unplugged_loses_its_inferences_and_comes_back(clock: SimulatedClock) -> None:
    core = ov.Core()
    request = compiled(core, INFERENCE_MS=1).create_infer_request()
    request.start_async(X)
    clock.wait_for(1)
    core.set_property("SIMULATED.0", {"SIMULATED_UNPLUGGED": True})
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.0 is lost"):
        request.wait()
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.0 is not available: SIMULATED_UNPLUGGED"):
        compiled(core)
    core.set_property("SIMULATED.0", {"SIMULATED_UNPLUGGED": False})
    np.testing.assert_array_equal(compiled(core)(X)[0], -X)


def test_memory_is_for_all_open_models() -> None:
    core = ov.Core()
    core.set_property("SIMULATED.0", {"SIMULATED_MEMORY_KB": 5})
    with core.compile_model(chain(1, 32), "SIMULATED.0"):
        with pytest.raises(OutOfMemoryError, match=r"8192 bytes of constants exceed its 5 KiB"):
            core.compile_model(chain(1, 32), "SIMULATED.0")
        core.compile_model(chain(1, 32), "SIMULATED.1")
    core.compile_model(chain(1, 32), "SIMULATED.0")

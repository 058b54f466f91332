"""AUTO: one device serves, another one until it is ready and after it fails; no request is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx.parser
import pytest

import cpuruntime as ov
from cpuruntime.devices.auto import choice, model
from cpuruntime.devices.auto.choice import interpolated, precision
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.testing import simulated
from cpuruntime.testing.probes import device_request_of
from cpuruntime.testing.simulated import SimulatedClock, SimulatedPlugin

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2, 3] x) => (float[2, 3] y) { y = Neg (x) }"""
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def clock(register: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> SimulatedClock:
    """The clock of the simulated devices, which stands still."""
    register("SIMULATED", "cpuruntime.testing.simulated:SimulatedPlugin")
    clock = SimulatedClock()
    monkeypatch.setattr(simulated, "clock", clock)
    return clock


def core_with(**settings: dict[str, Any]) -> ov.Core:
    """A core whose simulated devices S0, S1 ... have settings of their own."""
    core = ov.Core()
    for name, own in settings.items():
        config = {f"SIMULATED_{key}": value for key, value in own.items()}
        core.set_property(f"SIMULATED.{name[1:]}", config)
    return core


MODELS: list[ov.CompiledModel] = []


@pytest.fixture(autouse=True)
def _models_are_closed() -> Iterator[None]:
    """Other tests count the models that live."""
    yield
    while MODELS:
        with MODELS.pop():
            pass


def compiled(core: ov.Core, device: str, **config: Any) -> ov.CompiledModel:
    model = core.compile_model(onnx.parser.parse_model(MODEL), device.replace("S", "SIMULATED."), config)
    MODELS.append(model)
    return model


def serving(model: ov.CompiledModel) -> list[str]:
    return model.get_property("EXECUTION_DEVICES")


def check(model: ov.CompiledModel) -> None:
    np.testing.assert_array_equal(model([X])[0], -X)


@pytest.mark.parametrize("name", [None, "AUTO", "AUTO:CPU", "AUTO:-SIMULATED"])
def test_the_cpu_alone_compiles_itself(name: str | None) -> None:
    model = ov.Core().compile_model(onnx.parser.parse_model(MODEL), name, {"NUM_STREAMS": 1})
    assert serving(model) == ["CPU"]
    assert model.explain().device == "CPU"
    own = ov.Core().compile_model(onnx.parser.parse_model(MODEL), "CPU", {"NUM_STREAMS": 1})
    for one in own.get_property("SUPPORTED_PROPERTIES"):
        assert model.get_property(one) == own.get_property(one)
    assert type(device_request_of(model.create_infer_request())) is type(device_request_of(own.create_infer_request()))
    check(model)


def test_settings_of_the_cpu_hold_for_auto_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPURUNTIME_NUM_STREAMS", "0")
    core = ov.Core()
    parsed = onnx.parser.parse_model(MODEL)
    assert core.compile_model(parsed, "AUTO").get_property("NUM_STREAMS") == 0
    core.set_property("CPU", {"NUM_STREAMS": 1})
    assert core.compile_model(parsed, "AUTO").get_property("NUM_STREAMS") == 1
    core.set_property({"NUM_STREAMS": 0})
    core.set_property("CPU", {"NUM_STREAMS": 1})
    assert core.compile_model(parsed, "AUTO").get_property("NUM_STREAMS") == 1
    core.set_property("AUTO", {"PERF_COUNT": True})
    assert core.compile_model(parsed, "AUTO").get_property("PERF_COUNT") is True


def test_only_devices_that_may_be_chosen_are(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = onnx.parser.parse_model(MODEL)
    alone = ov.Core().compile_model(parsed)
    assert serving(alone) == ["CPU"]
    monkeypatch.setattr(SimulatedPlugin, "is_automatic", True)
    model = ov.Core().compile_model(parsed, None, {"ENABLE_STARTUP_FALLBACK": False})
    assert serving(model) == ["SIMULATED.0"]
    assert "candidates: SIMULATED.0, SIMULATED.1, SIMULATED.2, SIMULATED.3, CPU" in str(model.explain())
    assert serving(ov.Core().import_model(alone.export_model())) == ["CPU"]


def test_the_cpu_serves_while_the_chosen_device_compiles(clock: SimulatedClock) -> None:
    model = compiled(core_with(S0={"COMPILE_MS": 5000}), "AUTO:S0,CPU")
    assert serving(model) == ["(CPU)"]
    assert "SIMULATED.0 is compiling" in str(model.explain())
    check(model)
    assert not model.wait_until_optimized(0)
    clock.wait_for(1)
    clock.advance(5000)
    assert model.wait_until_optimized(30)
    assert serving(model) == ["SIMULATED.0"]
    check(model)
    assert "SIMULATED.0 serves now; (CPU) served 1 inferences" in str(model.explain())


def test_no_request_is_lost_when_devices_change(clock: SimulatedClock) -> None:
    model = compiled(core_with(S0={"COMPILE_MS": 1000}), "AUTO:S0,CPU")
    queue, found, lock = ov.AsyncInferQueue(model, 4), {}, threading.Lock()

    def note(request: ov.InferRequest, number: int) -> None:
        with lock:
            assert number not in found
            found[number] = request.get_output_tensor().data.copy()

    queue.set_callback(note)
    clock.wait_for(1)
    for number in range(300):
        if number == 100:
            clock.advance(1000)
        if number == 200:
            assert model.wait_until_optimized(30)
        queue.start_async([X + number], number)
    queue.wait_all()
    assert sorted(found) == list(range(300))
    for number, result in found.items():
        np.testing.assert_array_equal(result, -(X + number))
    assert "SIMULATED.0: " in str(model.explain())


def test_a_request_that_the_helper_runs_ends_there(clock: SimulatedClock) -> None:
    core = core_with(S0={"COMPILE_MS": 10})
    model = core.compile_model(onnx.parser.parse_model(MODEL), "AUTO:SIMULATED.0,SIMULATED.1,CPU")
    requests = [model.create_infer_request() for _ in range(3)]
    for request in requests:
        request.start_async([X])
    clock.wait_for(1)
    clock.advance(10)
    for request in requests:
        request.wait()
        np.testing.assert_array_equal(request.get_output_tensor().data, -X)


def test_without_start_up_fallback_the_chosen_device_is_awaited() -> None:
    model = compiled(core_with(), "AUTO:S0,CPU", ENABLE_STARTUP_FALLBACK=False)
    assert serving(model) == ["SIMULATED.0"]


@pytest.mark.parametrize("is_helped", [True, False])
def test_devices_that_do_not_load_are_passed_over(is_helped: bool) -> None:
    core = core_with(S0={"LOAD_FAILS": True}, S1={"UNPLUGGED": True}, S2={"LOAD_FAILS": True})
    model = compiled(core, "AUTO:S0,S1,S2,CPU", ENABLE_STARTUP_FALLBACK=is_helped)
    assert model.wait_until_optimized(30)
    assert serving(model) == ["CPU"]
    check(model)
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.0: .*SIMULATED\.2: "):
        compiled(core, "AUTO:S0,S2")
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.1 .*UNPLUGGED"):
        compiled(core, "AUTO:S1")


def test_an_inference_runs_again_on_the_next_device() -> None:
    core = core_with(S0={"FAILS_AT": 2, "FAILURES": 1000})
    model = compiled(core, "AUTO:S0,S1,CPU", ENABLE_STARTUP_FALLBACK=False)
    check(model)
    check(model)
    assert serving(model) == ["SIMULATED.1"]
    request = model.create_infer_request()
    core.set_property("SIMULATED.1", {"SIMULATED_UNPLUGGED": True})
    request.start_async([X])
    request.wait()
    np.testing.assert_array_equal(request.get_output_tensor().data, -X)
    assert serving(model) == ["CPU"]
    notes = str(model.explain())
    assert "SIMULATED.0 failed, the next device is compiling" in notes
    assert "SIMULATED.1 served 1 inferences" in notes


def test_a_failing_helper_waits_for_the_chosen_device(
    clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpuruntime.devices.auto.candidates.is_cpu", lambda device: device == "SIMULATED.1")
    core = core_with(S0={"COMPILE_MS": 1000}, S1={"FAILS_AT": 1, "FAILURES": 1000})
    model = compiled(core, "AUTO:S0,S1")
    assert serving(model) == ["(SIMULATED.1)"]
    request, late, other = [model.create_infer_request() for _ in range(3)]
    request.start_async([X])
    late.start_async([X], deadline_ms=1)
    other.start_async([X])
    with pytest.raises(TimeoutError, match="deadline"):
        late.wait()
    other.cancel()
    with pytest.raises(ov.CancelledError):
        other.wait()
    assert not request.wait_for(0)
    clock.wait_for(1)
    clock.advance(1000)
    request.wait()
    np.testing.assert_array_equal(request.get_output_tensor().data, -X)
    assert serving(model) == ["SIMULATED.0"]


@pytest.mark.parametrize("config", [{"ENABLE_RUNTIME_FALLBACK": False}, {}])
def test_the_error_comes_through_where_no_other_device_may_run_it(config: dict[str, Any]) -> None:
    devices = "AUTO:S0,S1" if config else "AUTO:S0(1)"
    model = compiled(core_with(S0={"FAILS_AT": 1}), devices, **config)
    with pytest.raises(DeviceUnavailableError, match="inference 1 fails"):
        model([X])
    check(model)
    assert serving(model) == ["SIMULATED.0"]


def test_an_error_of_the_model_is_no_failure_of_the_device() -> None:
    model = compiled(core_with(S0={"FAILS_AT": 1, "FAILURE": "MODEL"}), "AUTO:S0,S1")
    with pytest.raises(ov.ModelError):
        model([X])
    assert serving(model) == ["SIMULATED.0"]


def test_no_device_is_left_to_fall_back_to() -> None:
    model = compiled(core_with(S0={"FAILS_AT": 1, "FAILURES": 9}, S1={"LOAD_FAILS": True}), "AUTO:S0,S1")
    with pytest.raises(DeviceUnavailableError, match=r"SIMULATED\.0: inference"):
        model([X])
    assert serving(model) == ["SIMULATED.0"]


@pytest.mark.parametrize(("times", "device"), [((2.0, 1.0), "CPU"), ((1.0, 2.0), "SIMULATED.0")])
def test_a_device_that_is_slower_does_not_serve(
    monkeypatch: pytest.MonkeyPatch, times: tuple[float, float], device: str
) -> None:
    left = [*times]
    monkeypatch.setattr(model, "measured", lambda model, milliseconds: left.pop(0) * 1e6)
    chosen = compiled(core_with(), "AUTO:S0,CPU", AUTO_MEASURE_MS=20)
    assert chosen.wait_until_optimized(30)
    if not left:  # else SIMULATED compiled first, and nothing was there to compare it with
        assert serving(chosen) == [device]
    check(chosen)


def test_the_best_of_several_inferences_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0, 0, 5_000, 5_000, 7_000, 7_000, 1_007_000])
    monkeypatch.setattr(model, "perf_counter_ns", lambda: next(now))

    class Model:
        def create_request(self) -> Model:
            return self

        def run(self) -> None:
            pass

    assert model.measured(Model(), 2) == 2_000  # type: ignore[arg-type]


def test_closing_while_a_device_compiles(clock: SimulatedClock) -> None:
    with compiled(core_with(S0={"COMPILE_MS": 1000}), "AUTO:S0,CPU") as model:
        request = model.create_infer_request()
    with pytest.raises(ov.Error, match="is closed"):
        request.infer([X])
    clock.wait_for(1)
    clock.advance(1000)


def test_all_devices_serve_for_cumulative_throughput() -> None:
    model = compiled(core_with(), "AUTO:S0(1),S1(2)", PERFORMANCE_HINT="CUMULATIVE_THROUGHPUT")
    assert serving(model) == ["SIMULATED.0", "SIMULATED.1"]
    assert model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 3
    check(model)


def test_a_model_of_higher_priority_keeps_its_device() -> None:
    core = core_with()
    with compiled(core, "AUTO:S0,S1", MODEL_PRIORITY="HIGH") as first:
        with compiled(core, "AUTO:S0,S1", MODEL_PRIORITY="HIGH") as second:
            assert serving(first) == serving(second) == ["SIMULATED.0"]
        usual = compiled(core, "AUTO:S0,S1", MODEL_PRIORITY="MEDIUM")
        assert serving(usual) == ["SIMULATED.1"]
        assert "models of higher priority than MODEL_PRIORITY MEDIUM run on SIMULATED.0" in str(usual.explain())
    assert serving(compiled(core, "AUTO:S0,S1", MODEL_PRIORITY="MEDIUM")) == ["SIMULATED.0"]


def test_busy_devices_and_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"SIMULATED.0": 90.0, "SIMULATED.1": 50.0}
    monkeypatch.setattr(choice, "utilisation", lambda device, host: used[device])
    core = core_with()
    threshold = {"SIMULATED.0": 80, "SIMULATED.1": 80}
    assert serving(compiled(core, "AUTO:S0,S1", DEVICES_UTILIZATION_THRESHOLD=threshold)) == ["SIMULATED.1"]
    curves = {"SIMULATED.0": {0: 1, 100: 2}, "SIMULATED.1": {0: 0, 100: 8}}
    assert serving(compiled(core, "AUTO:S1,S0", PERF_CURVE_TABLE=curves)) == ["SIMULATED.0"]
    assert interpolated({0.0: 1.0, 50.0: 3.0, 100.0: 4.0}, 25.0) == 2.0
    assert (interpolated({10.0: 1.0}, 5.0), interpolated({10.0: 1.0, 20.0: 3.0}, 99.0)) == (1.0, 3.0)
    monkeypatch.setattr(choice, "is_saving_power", lambda: True)
    assert serving(compiled(core, "AUTO:S0,S1", LOW_POWER_DEVICE="SIMULATED.1")) == ["SIMULATED.1"]


def test_a_device_without_the_model_s_types_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fact = SimulatedPlugin.fact

    def of_instance(self: SimulatedPlugin, name: str) -> Any:
        return ["FP16"] if name == "OPTIMIZATION_CAPABILITIES" and self.target.id == "0" else fact(self, name)

    monkeypatch.setattr(SimulatedPlugin, "fact", of_instance)
    quantised = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[3] x) => (uint8[3] y)
        <float s = {1}, uint8 z = {0}> { y = QuantizeLinear (x, s, z) }"""
    )
    core = core_with()
    assert precision(core.read_model(quantised).graph) == "INT8"
    assert precision(core.read_model(onnx.parser.parse_model(MODEL)).graph) == "FP32"
    assert serving(compiled(core, "AUTO:S0,S1")) == ["SIMULATED.0"]  # FP32 models run in FP16, too
    capabilities = ["INT8"]
    monkeypatch.setattr(
        SimulatedPlugin,
        "fact",
        lambda self, name: capabilities
        if name == "OPTIMIZATION_CAPABILITIES" and self.target.id == "1"
        else fact(self, name),
    )
    model = core.compile_model(quantised, "AUTO:SIMULATED.0,SIMULATED.1")
    assert serving(model) == ["SIMULATED.1"]
    assert "the model is INT8, which SIMULATED.0 lacks" in str(model.explain())


@pytest.mark.parametrize(
    ("device", "config", "message"),
    [
        ("AUTO:-CPU", {}, "leaves no device"),
        ("AUTO:CPU,CPU", {}, "name CPU twice"),
        ("AUTO:CPU,CPUX", {}, "Unknown device 'CPUX'"),
        ("AUTO:-CPUX", {}, "Unknown device 'CPUX'"),
        ("AUTO:", {}, "Unknown device 'AUTO:'"),
        ("AUTO:MULTI:AUTO:CPU", {}, "AUTO cannot run AUTO"),
        ("AUTO", {"MULTI_DEVICE_PRIORITIES": "CPU,"}, "its argument '' is wrong"),
        ("AUTO:CPU,S0", {"DEVICE_PROPERTIES": {"S0": {}}}, "for 'S0', which is not among its devices"),
        ("AUTO:CPU", {"PERF_CURVE_TABLE": {"CPU": {}}}, "PERF_CURVE_TABLE"),
        ("AUTO:CPU", {"DEVICES_UTILIZATION_THRESHOLD": {"CPU": 102}}, "DEVICES_UTILIZATION_THRESHOLD"),
        ("AUTO:CPU,S0", {"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": -7}}}, "NUM_STREAMS"),
    ],
)
def test_wrong_lists_and_properties(device: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        compiled(core_with(), device, **config)


def test_compositions_nest() -> None:
    core = core_with()
    assert serving(compiled(core, "AUTO:MULTI:S0,S1")) == ["SIMULATED.0", "SIMULATED.1"]
    model = compiled(core, "MULTI:[AUTO:S0,CPU](1),S1(1)")
    assert serving(model) == ["AUTO:SIMULATED.0,CPU", "SIMULATED.1"]
    check(model)

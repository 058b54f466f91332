"""Core: devices, reading, compiling, properties."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.house import ROOT
from support.onnx_models import make_model, one_input, two_inputs

import cpuruntime as ov
import cpuruntime.properties as props
import cpuruntime.properties.hint as hints
from cpuruntime import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.compiler import isa
from cpuruntime.devices import registry
from cpuruntime.devices.reference import ReferencePlugin

Register = Callable[[str, str], None]


class Absent(ReferencePlugin):
    """A device that can never be used here."""

    def unavailable_reason(self) -> str | None:
        return "there is no such hardware; plug it in."


_TURBO = props.Property("TURBO", props.enable_profiling.values, False, doc="Whether it is faster.")


class Turbo(ReferencePlugin):
    """A device with a property of its own."""

    def properties(self) -> dict[str, props.Property]:
        return {**super().properties(), "TURBO": _TURBO}


@pytest.fixture
def absent(register: Register) -> None:
    """Registers ABSENT, which is not available, and BROKEN, which cannot be imported."""
    register("ABSENT", f"{__name__}:Absent")
    register("BROKEN", "no_such_module:Plugin")


def test_the_available_devices_are_listed(device: str) -> None:
    core = ov.Core()
    assert device in core.available_devices
    assert core.available_devices == core.get_available_devices() == core.get_property("AVAILABLE_DEVICES")
    assert device not in core.unavailable_devices


def test_unavailable_devices_say_why(absent: None) -> None:
    core = ov.Core()
    assert not {"ABSENT", "BROKEN"} & set(core.available_devices)
    assert core.unavailable_devices["ABSENT"] == "there is no such hardware; plug it in."
    assert "No module named 'no_such_module'" in core.unavailable_devices["BROKEN"]
    with pytest.raises(DeviceUnavailableError, match=r"Device ABSENT is not available: there is no such hardware"):
        core.compile_model(one_input(), "ABSENT")
    with pytest.raises(DeviceUnavailableError, match=r"BROKEN.*cannot be imported"):
        core.compile_model(one_input(), "BROKEN")


def test_a_device_may_come_from_another_distribution(register: Register) -> None:
    register("EXTRA", "cpuruntime.devices.reference:ReferencePlugin")
    register("REFERENCE", "no_such_module:Impostor")
    core = ov.Core()
    assert {"EXTRA", "REFERENCE"} <= set(core.available_devices)
    assert core.compile_model(one_input(), "EXTRA")(np.ones((2, 3), np.float32))[0][0, 0] == -1


def test_devices_of_this_package_are_read_from_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older installation of the package lists is not."""
    old = SimpleNamespace(name="OLD", value="cpuruntime.devices.old:Plugin", dist=SimpleNamespace(name="cpuruntime"))
    other = SimpleNamespace(name="OTHER", value="other:Plugin", dist=SimpleNamespace(name="other"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [old, other] if group == "cpuruntime.devices" else [])
    assert [*registry.registered()] == [*registry.own(), "OTHER"]
    assert "CPU" in registry.own()
    project = (ROOT / "pyproject.toml").read_text()
    assert 'entry-points = { file = "cpuruntime/devices/entry_points.txt" }' in project


@pytest.mark.parametrize("name", ["REFERENCES", "reference", "REFERENCES:CPU", "REFERENCES.0"])
def test_an_unknown_device(name: str) -> None:
    core = ov.Core()
    message = r"Unknown device .*Did you mean 'REFERENCE'\?.*Registered: CPU, REFERENCE"
    for use in (
        lambda: core.get_property(name, "FULL_DEVICE_NAME"),
        lambda: core.set_property(name, {}),
        lambda: core.compile_model(one_input(), name),
        lambda: core.query_model(core.read_model(one_input()), name),
        lambda: core.plan_streams(one_input(), name),
        lambda: core.get_versions(name),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            use()


@pytest.mark.parametrize("name", ["", "CPU.", "CPU(4)", "CPU;", None, 3])
def test_a_name_that_no_device_can_have(name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Unknown device .* a device name is NAME, NAME\.ID or"):
        ov.Core().get_property(name, "FULL_DEVICE_NAME")


def test_a_device_of_one_instance_that_takes_no_arguments(device: str) -> None:
    core = ov.Core()
    with pytest.raises(InvalidArgumentError, match=rf"Unknown device '{device}\.0'\. There is {device} alone\."):
        core.compile_model(one_input(), f"{device}.0")
    with pytest.raises(InvalidArgumentError, match=rf"Device {device} takes no arguments: .* should be '{device}'\."):
        core.compile_model(one_input(), f"{device}:NULL,-GPU")


def test_a_model_is_read_from_path_bytes_file_and_message(tmp_path: Path) -> None:
    proto = one_input()
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    core = ov.Core()
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), proto):
        assert core.read_model(source).friendly_name == "negation"
        assert core.compile_model(source, "REFERENCE").input().any_name == "x"
    assert core.read_model(model=path, weights=None, config={}).friendly_name == "negation"


def test_what_cannot_be_read() -> None:
    core = ov.Core()
    with pytest.raises(ov.ModelNotFoundError, match="nowhere"):
        core.read_model("/nowhere/model.onnx")
    with pytest.raises(ov.ModelError):
        core.read_model(b"not a model")
    with pytest.raises(InvalidArgumentError, match="Unknown property 'ENABLE_MMAP' of reading a model"):
        core.read_model(one_input(), config={"ENABLE_MMAP": False})
    with pytest.raises(InvalidArgumentError, match="weights"):
        core.read_model(one_input(), b"weights")  # type: ignore[arg-type]


def test_every_property_of_a_device_can_be_read(device: str) -> None:
    core = ov.Core()
    supported = core.get_property(device, "SUPPORTED_PROPERTIES")
    assert set(supported.values()) <= {"RO", "RW", "WO"}
    for name, mutability in supported.items():
        if mutability != "WO":
            assert core.get_property(device, name) is not None
    assert isinstance(core.get_property(device, "FULL_DEVICE_NAME"), str)
    assert core.get_property(device, props.supported_properties) == supported


def test_every_setting_of_a_device_is_a_property_of_its_compiled_models(device: str) -> None:
    supported = ov.Core().get_property(device, "SUPPORTED_PROPERTIES")
    compiled = ov.compile_model(one_input(), device)
    for name in (name for name, mutability in supported.items() if mutability == "RW"):
        assert compiled.get_property(name) is not None


def test_a_device_says_how_many_requests_it_would_take(device: str) -> None:
    core = ov.Core()
    assert core.get_property(device, "OPTIMAL_NUMBER_OF_INFER_REQUESTS") == 1
    assert core.get_property(device, "EXECUTION_DEVICES") == [device]
    core.set_property(device, {"NUM_STREAMS": 2})
    assert core.get_property(device, props.optimal_number_of_infer_requests) == 2


def test_settings_are_kept_per_core_and_device(device: str) -> None:
    core = ov.Core()
    core.set_property(device, {props.num_streams: 2, hints.performance_mode: "THROUGHPUT"})
    assert core.get_property(device, "NUM_STREAMS") == 2
    assert core.get_property(device, hints.performance_mode) is hints.PerformanceMode.THROUGHPUT
    assert ov.Core().get_property(device, "NUM_STREAMS") == 1
    core.set_property(device, props.num_streams(1))
    assert core.get_property(device, "NUM_STREAMS") == 1


def test_settings_for_all_devices() -> None:
    core = ov.Core()
    core.set_property({"PERF_COUNT": True})
    core.set_property(hints.performance_mode("THROUGHPUT"))
    for name in core.available_devices:
        assert core.get_property(name, "PERF_COUNT") is True
        assert core.get_property(name, "PERFORMANCE_HINT") == "THROUGHPUT"


def test_arguments_have_openvino_s_names(device: str) -> None:
    core = ov.Core(xml_config_file="")
    core.set_property(device_name=device, properties={"NUM_STREAMS": 2})
    core.set_property(device_name=device, property=("PERF_COUNT", True))
    core.set_property(properties={"ENABLE_MMAP": False})
    assert core.get_property(device_name=device, property="NUM_STREAMS") == 2
    assert core.get_property(device_name=device, name="PERF_COUNT", arguments={}) is True
    assert core.get_property(device, "NUM_STREAMS", {}) == 2
    assert core.get_property(property="ENABLE_MMAP") is False
    model = core.read_model(one_input().SerializeToString(), "", config={})
    found = core.query_model(model=model, device_name=device, config={})
    assert found == dict.fromkeys(["x", "negate", "y/sink_port_0"], device)
    version = core.get_versions(device)[device]
    assert version.major == int(ov.__version__.split(".")[0])
    assert version.minor >= 0 <= version.patch
    with pytest.raises(ov.UnsupportedError, match="registered by entry points"):
        ov.Core("plugins.xml")
    for call in (
        lambda: core.set_property(device_name=device),
        lambda: core.get_property(device, "NUM_STREAMS", other=1),
        lambda: core.get_property(device, 5),
        lambda: core.read_model(5),  # type: ignore[arg-type]
        lambda: core.compile_model(model, 5),  # type: ignore[arg-type]
        lambda: core.compile_model(model, device, 5),  # type: ignore[arg-type]
        lambda: ov.AsyncInferQueue(core.compile_model(model, device), -1),
        lambda: ov.AsyncInferQueue(core.compile_model(model, device), 1).set_callback(None),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            call()


def test_settings_of_several_devices_in_one_configuration() -> None:
    core = ov.Core()
    core.set_property({"DEVICE_PROPERTIES": {"CPU": {"NUM_STREAMS": 2}}})
    core.set_property("CPU", props.device.properties({"CPU": {"PERF_COUNT": True}, "GPU": {"X": 1}}))
    assert [core.get_property("CPU", name) for name in ("NUM_STREAMS", "PERF_COUNT")] == [2, True]
    assert core.get_property("REFERENCE", "NUM_STREAMS") == 1


def test_wrong_settings_change_nothing(device: str) -> None:
    core = ov.Core()
    wrong = [
        ({"NUM_STREAMS": 2, "NUM_STREAM": 2}, "Unknown property 'NUM_STREAM' of device .*Did you mean 'NUM_STREAMS'"),
        ({"NUM_STREAMS": 2, "FULL_DEVICE_NAME": "x"}, "read only"),
        ({"NUM_STREAMS": 2, "PERF_COUNT": "perhaps"}, "'perhaps' is not True or False"),
        (("NUM_STREAMS",), "must be a dict"),
    ]
    for values, message in wrong:
        with pytest.raises(InvalidArgumentError, match=message):
            core.set_property(device, values)
        with pytest.raises(InvalidArgumentError):
            core.set_property(values)
    assert core.get_property(device, "NUM_STREAMS") == 1
    with pytest.raises(InvalidArgumentError, match="takes a device name and properties"):
        core.set_property(device, {}, {})
    with pytest.raises(InvalidArgumentError, match="takes a device name and a property"):
        core.get_property()


def test_properties_that_a_core_alone_does_not_have() -> None:
    with pytest.raises(InvalidArgumentError, match="belongs to a device"):
        ov.Core().get_property("NUM_STREAMS")
    with pytest.raises(InvalidArgumentError, match="Did you mean 'NUM_STREAMS'"):
        ov.Core().get_property("NUM_STREMS")


def test_none_takes_a_setting_back(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    core = ov.Core()
    core.set_property(device, {"PERF_COUNT": True, "NUM_STREAMS": 1})
    monkeypatch.setenv("CPURUNTIME_NUM_STREAMS", "2")
    core.set_property(device, {"PERF_COUNT": None, "NUM_STREAMS": None})
    assert [core.get_property(device, name) for name in ("PERF_COUNT", "NUM_STREAMS")] == [False, 2]
    core.set_property({"NUM_STREAMS": 1})
    core.set_property({"NUM_STREAMS": None})
    assert core.get_property(device, "NUM_STREAMS") == 2
    for config in ({"FULL_DEVICE_NAME": None}, {"NUM_STREMS": None}):
        with pytest.raises(InvalidArgumentError, match=r"is read only|Did you mean 'NUM_STREAMS'"):
            core.set_property(device, config)
    with pytest.raises(InvalidArgumentError, match="None is not"):
        core.compile_model(one_input(), device, {"NUM_STREAMS": None})


def test_a_configuration_overrides_settings_and_those_the_environment(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPURUNTIME_PERF_COUNT", "YES")
    core = ov.Core()
    assert core.compile_model(one_input(), device).get_property("PERF_COUNT") is True
    core.set_property(device, {"PERF_COUNT": False})
    assert core.compile_model(one_input(), device).get_property("PERF_COUNT") is False
    assert core.compile_model(one_input(), device, {"PERF_COUNT": "YES"}).get_property("PERF_COUNT") is True


def test_a_bad_environment_value_is_an_error(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPURUNTIME_PERFORMANCE_HINT", "LATENCI")
    with pytest.raises(InvalidArgumentError, match=r"CPURUNTIME_PERFORMANCE_HINT: .*Did you mean 'LATENCY'\?"):
        ov.Core().compile_model(one_input(), device)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("CPURUNTIME_NUM_STREAM", r"there is no property NUM_STREAM\. Did you mean 'NUM_STREAMS'\?"),
        ("CPURUNTIME_RANGE_FOR_STREAMS", "property RANGE_FOR_STREAMS is read only and was given '3'"),
        ("CPURUNTIME_PINNED_CPUS", "property PINNED_CPUS is read only and was given '3'"),
    ],
)
def test_a_variable_without_effect_is_an_error(
    device: str, monkeypatch: pytest.MonkeyPatch, variable: str, message: str
) -> None:
    monkeypatch.setenv(variable, "3")
    core = ov.Core()
    for use in (
        lambda: core.compile_model(one_input(), device),
        lambda: core.set_property(device, {"NUM_STREAMS": 1}),
        lambda: core.get_property(device, "NUM_STREAMS"),
        lambda: core.available_devices,
    ):
        with pytest.raises(InvalidArgumentError, match=f"variable {variable}.* {message}"):
            use()


def test_variables_may_be_of_another_device(
    device: str, monkeypatch: pytest.MonkeyPatch, register: Register
) -> None:
    """Of this package's, whatever their value, and of other distributions'."""
    monkeypatch.setenv("CPURUNTIME_PERF_COUNT", "YES")
    monkeypatch.setenv("CPURUNTIME_TURBO", "YES")
    with pytest.raises(InvalidArgumentError, match="there is no property TURBO"):
        ov.Core().compile_model(one_input(), device)
    register("TURBO", f"{__name__}:Turbo")
    assert ov.Core().compile_model(one_input(), device).get_property("PERF_COUNT") is True
    assert ov.Core().get_property("TURBO", "TURBO") is True
    monkeypatch.setenv("CPURUNTIME_TURBOS", "YES")
    with pytest.raises(InvalidArgumentError, match=r"no property TURBOS\. Did you mean 'TURBO'\?"):
        ov.Core().compile_model(one_input(), device)
    register("BROKEN", "no_such_module:Plugin")
    assert ov.Core().compile_model(one_input(), device), "TURBOS may be a property of BROKEN"
    monkeypatch.delenv("CPURUNTIME_TURBOS")
    monkeypatch.setenv("CPURUNTIME_TURBO", "perhaps")
    assert ov.Core().compile_model(one_input(), device), "the value matters where TURBO is used"
    with pytest.raises(InvalidArgumentError, match="variable CPURUNTIME_TURBO: property TURBO: 'perhaps' is not"):
        ov.Core().get_property("TURBO", "TURBO")


@pytest.mark.parametrize("precision", ["f32", ov.Type.f32, "f16", ov.Type.bf16, "dynamic"])
def test_the_precision_is_an_element_type(device: str, precision: Any) -> None:
    core = ov.Core()
    core.set_property(device, {hints.inference_precision: precision})
    assert core.get_property(device, "INFERENCE_PRECISION_HINT") is ov.Type(precision)
    compiled = core.compile_model(one_input(), device)
    halves = ov.Type.f16 if isa.converts_halves() else ov.Type.f32
    dynamic = ov.Type.f16 if isa.converts_halves() and not isa.bf16_products() else ov.Type.bf16
    stored = {"f16": halves, "bf16": ov.Type.bf16, "dynamic": dynamic}
    expected = stored.get(ov.Type(precision).get_type_name(), ov.Type.f32) if device == "CPU" else ov.Type.f32
    assert compiled.get_property(hints.inference_precision) is expected
    with pytest.raises(InvalidArgumentError, match="'i8' is not one of f32, f16, bf16, dynamic"):
        core.compile_model(one_input(), device, {"INFERENCE_PRECISION_HINT": "i8"})


def test_compile_refuses_a_wrong_configuration(device: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"Unknown property 'PERF_COUNTS' of device {device}. Did you mean"):
        ov.Core().compile_model(one_input(), device, {"PERF_COUNTS": True})


def test_query_names_the_nodes_and_the_device(device: str) -> None:
    core = ov.Core()
    model = core.read_model(two_inputs())
    nodes = ["x", "y", "add", "relu", "sum/sink_port_0", "result/sink_port_0"]
    assert core.query_model(model, device) == dict.fromkeys(nodes, device)
    assert list(core.query_model(model, device)) == [node.friendly_name for node in model.get_ops()]


def test_versions(device: str) -> None:
    version = ov.Core().get_versions(device)[device]
    assert version.build_number == ov.__version__ == ov.get_version()
    assert version.description.startswith("cpuruntime.devices.")


def test_the_convenience_function_compiles(device: str) -> None:
    assert ov.compile_model(one_input(), device)(np.ones((2, 3), np.float32))[0].tolist() == [[-1] * 3] * 2


def test_the_nodes_of_a_model_of_dynamic_shapes_by_device() -> None:
    """`Bernoulli` has no kernel; how many elements `NonZero` finds is not known before an inference."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], "relu"),
        helper.make_node("Bernoulli", ["positive"], ["drawn"], "drawn", seed=1.0),
        helper.make_node("NonZero", ["drawn"], ["places"], "places"),
        helper.make_node("Cast", ["places"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    core = ov.Core()
    for extents in (["n", "m"], ["n", 5], [2, 5]):
        model = core.read_model(make_model(nodes, {"x": extents}, {"y": [2, "found"]}))
        assert set(core.query_model(model, "CPU")) == {"x", "relu", "places", "cast", "y/sink_port_0"}

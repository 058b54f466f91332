"""What plugins may ask of each other, and faults of a plugin, which take no other device along."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.onnx_models import one_input
from support.relay_device import RelayModel, RelayPlugin, RelayRequest

import cpuruntime as ov
from cpuruntime import DeviceUnavailableError, InternalError, InvalidArgumentError
from cpuruntime.compiler import isa
from cpuruntime.devices.host import Devices
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.reference import ReferencePlugin
from cpuruntime.graph import Graph, PartialShape, Type
from cpuruntime.properties import Settings

Register = Callable[[str, str], None]

X = np.array([[-3, -2, -1], [0, 1, 2]], np.float32)


class Paired(RelayPlugin):
    """Two instances, as of two cards."""

    ids = ("0", "1")

    def fact(self, name: str) -> Any:
        return [*self.ids] if name == "AVAILABLE_DEVICES" else super().fact(name)

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        return self.host.compile(graph, "REFERENCE", {"NUM_STREAMS": 1 + int(self.target.id or 0)})


@pytest.fixture
def devices(register: Register) -> Devices:
    """The devices of a core, RELAY and PAIRED among them."""
    register("RELAY", "support.relay_device:RelayPlugin")
    register("PAIRED", f"{__name__}:Paired")
    return Devices()


@pytest.fixture
def graph() -> Graph:
    """y = -x."""
    return ov.Core().read_model(one_input()).graph


class TestHost:
    def test_it_lists_devices_one_name_an_instance(self, devices: Devices) -> None:
        found = [name for name in devices.devices() if not name.startswith("GPU")]  # not there without a driver
        assert found == ["CPU", "REFERENCE", "NULL", "RELAY", "PAIRED.0", "PAIRED.1"]
        assert ov.Core().available_devices == devices.devices()

    def test_it_compiles_on_a_named_device_with_a_configuration(self, devices: Devices, graph: Graph) -> None:
        model = devices.compile(graph, "RELAY:REFERENCE", {"NUM_STREAMS": 2})
        assert isinstance(model, RelayModel)
        assert model.get_property("EXECUTION_DEVICES") == ["REFERENCE"]
        assert model.get_property("NUM_STREAMS") == 2
        model.close()
        with pytest.raises(ov.Error, match="closed"):
            model.model.create_request()

    def test_a_request_lends_its_memory(self, devices: Devices, graph: Graph) -> None:
        model = devices.compile(graph, "RELAY:REFERENCE")
        request = model.create_request()
        assert isinstance(request, RelayRequest)
        request.input_array(0, (2, 3))[...] = X
        request.run()
        np.testing.assert_array_equal(request.output_array(0), -X)
        assert request.worker.output_array(0) is request.output_array(0)
        model.close()

    def test_it_asks_properties_and_nodes_of_a_device(self, devices: Devices, graph: Graph) -> None:
        known = [*["BF16"] * bool(isa.bf16_products()), "FP32", "INT8"]
        assert devices.get_property("CPU", "OPTIMIZATION_CAPABILITIES") == known
        assert devices.get_property("RELAY:NULL", "OPTIMIZATION_CAPABILITIES") == []
        assert devices.query(graph, "REFERENCE") == {"negate"}
        with pytest.raises(InvalidArgumentError, match=r"Unknown device 'CPV'\. Did you mean 'CPU'"):
            devices.compile(graph, "CPV")
        with pytest.raises(InvalidArgumentError, match="Unknown property 'STREAMS' of device REFERENCE"):
            devices.compile(graph, "REFERENCE", {"STREAMS": 1})
        with pytest.raises(InvalidArgumentError, match="RELAY: one device is needed, such as RELAY:CPU"):
            devices.compile(graph, "RELAY")

    def test_subscribers_hear_of_changes_until_they_end_it(
        self, devices: Devices, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[str] = []

        def fail(device: str) -> None:
            raise KeyError(device)

        end_failing = devices.subscribe(fail)
        end = devices.subscribe(seen.append)
        with caplog.at_level(logging.ERROR, "cpuruntime"):
            devices.set_property("REFERENCE", {"NUM_STREAMS": 2})
        assert "for device REFERENCE" in caplog.text
        end_failing()
        devices.plugin("RELAY").host.announce("RELAY")
        devices.set_property("PAIRED.1", {"NUM_STREAMS": 3})
        devices.set_everywhere({"PERF_COUNT": True})
        assert seen[:3] == ["REFERENCE", "RELAY", "PAIRED.1"]
        assert set(seen[3:]) == {name for name, reason in devices.unavailable().items() if reason is None}
        end()
        end()
        devices.set_property("CPU", {"NUM_STREAMS": 1})
        assert "CPU" not in seen[8:]

    def test_settings_of_an_instance_and_of_all(self, devices: Devices) -> None:
        def streams(*names: str) -> list[int]:
            return [devices.get_property(name, "NUM_STREAMS") for name in names]

        devices.set_property("PAIRED", {"NUM_STREAMS": 4})
        assert streams("PAIRED", "PAIRED.0", "PAIRED.1") == [4, 4, 4]
        devices.set_property("PAIRED.1", {"NUM_STREAMS": 5})
        assert streams("PAIRED", "PAIRED.0", "PAIRED.1") == [4, 4, 5]
        devices.set_property("PAIRED", {"NUM_STREAMS": 6})
        assert streams("PAIRED", "PAIRED.0", "PAIRED.1") == [6, 6, 6]
        devices.set_property("RELAY:CPU", {"NUM_STREAMS": 7})
        assert streams("RELAY", "RELAY:CPU", "RELAY:REFERENCE") == [1, 7, 1]

    def test_an_instance_that_is_not_there(self, devices: Devices) -> None:
        with pytest.raises(InvalidArgumentError, match=r"'PAIRED\.2'\. There is PAIRED\.0, PAIRED\.1\."):
            devices.plugin("PAIRED.2")


class TestCore:
    """Names of every form are taken by every function."""

    def test_an_instance(self, devices: Devices) -> None:
        core = ov.Core()
        core.set_property("PAIRED.1", {"PERF_COUNT": True})
        assert core.get_property("PAIRED.1", "PERF_COUNT") is True
        assert core.compile_model(one_input(), "PAIRED.1").get_property("NUM_STREAMS") == 2
        assert core.query_model(core.read_model(one_input()), "PAIRED.0")["negate"] == "PAIRED.0"
        assert [*core.get_versions("PAIRED.0")] == ["PAIRED"]
        with pytest.raises(ov.UnsupportedError, match=r"device PAIRED\.0 has no streams"):
            core.plan_streams(one_input(), "PAIRED.0")

    def test_arguments(self, devices: Devices) -> None:
        core = ov.Core()
        core.set_property("RELAY:REFERENCE", {"NUM_STREAMS": 2})
        assert core.get_property("RELAY:REFERENCE", "NUM_STREAMS") == 2
        compiled = core.compile_model(one_input(), "RELAY:REFERENCE")
        assert compiled.get_property("NUM_STREAMS") == 2
        np.testing.assert_array_equal(compiled(X)[0], -X)
        assert core.query_model(core.read_model(one_input()), "RELAY:CPU")["negate"] == "RELAY:CPU"


class Unmade(ReferencePlugin):
    def __init__(self, *arguments: Any) -> None:
        raise KeyError("no such file")


class Moody(ReferencePlugin):
    def unavailable_reason(self) -> str | None:
        raise OSError("the driver is gone")


class Uncountable(ReferencePlugin):
    def fact(self, name: str) -> Any:
        raise ValueError(name)


class Raises(ReferencePlugin):
    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        raise ZeroDivisionError("oops")


class Nothing(ReferencePlugin):
    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        return None  # type: ignore[return-value]


def renamed(port: PortInfo) -> PortInfo:
    return PortInfo("other", port.element_type, port.partial_shape)


def retyped(port: PortInfo) -> PortInfo:
    return PortInfo(port.name, Type.f64, port.partial_shape)


def reshaped(port: PortInfo) -> PortInfo:
    return PortInfo(port.name, port.element_type, PartialShape([3, 2]))


class Liar(ReferencePlugin):
    """Its models have other ports than the graph."""

    side, lie = "inputs", renamed

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        model = super().compile(graph, settings)
        setattr(model, self.side, tuple(type(self).lie(port) for port in getattr(model, self.side)))
        return model


class Unfinished(ReferencePlugin):
    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        model = super().compile(graph, settings)
        del model.properties["EXECUTION_DEVICES"]
        return model


class TestFaults:
    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("no_such_module:Plugin", "cannot be imported: ModuleNotFoundError"),
            (f"{__name__}:Missing", "cannot be made: AttributeError"),
            (f"{__name__}:Unmade", "cannot be made: KeyError: 'no such file'"),
            (f"{__name__}:renamed", "cannot be made: TypeError"),
            ("builtins:print", "cannot be made: TypeError: it makes a NoneType, which is no Plugin"),
            (f"{__name__}:Moody", "fails when asked whether it is available: OSError: the driver is gone"),
            (f"{__name__}:Uncountable", "fails when asked whether it is available: ValueError"),
        ],
    )
    def test_a_plugin_that_cannot_be_used_says_why_and_the_others_work(
        self, register: Register, target: str, reason: str
    ) -> None:
        register("FAULTY", target)
        core = ov.Core()
        assert {"CPU", "REFERENCE", "NULL"} <= set(core.available_devices)
        assert reason in core.unavailable_devices["FAULTY"]
        core.set_property({"PERF_COUNT": True})
        with pytest.raises(DeviceUnavailableError, match="FAULTY") as caught:
            core.compile_model(one_input(), "FAULTY")
        assert reason in str(caught.value)
        np.testing.assert_array_equal(core.compile_model(one_input(), "REFERENCE")(X)[0], -X)

    @pytest.mark.parametrize(
        ("plugin", "problem"),
        [
            ("Raises", "failed to compile model 'negation': ZeroDivisionError: oops"),
            ("Nothing", "to a NoneType, not a DeviceModel"),
            ("Unfinished", "wrongly: it has no property EXECUTION_DEVICES"),
        ],
    )
    def test_a_plugin_that_breaks_a_rule_when_it_compiles(self, register: Register, plugin: str, problem: str) -> None:
        register("FAULTY", f"{__name__}:{plugin}")
        core = ov.Core()
        with pytest.raises(InternalError, match=f"Device FAULTY .*{problem}"):
            core.compile_model(one_input(), "FAULTY")
        np.testing.assert_array_equal(core.compile_model(one_input(), "REFERENCE")(X)[0], -X)

    @pytest.mark.parametrize("side", ["inputs", "outputs"])
    @pytest.mark.parametrize("lie", [renamed, retyped, reshaped])
    def test_a_model_with_other_ports_than_the_graph(
        self, register: Register, monkeypatch: pytest.MonkeyPatch, side: str, lie: Any
    ) -> None:
        monkeypatch.setattr(Liar, "side", side)
        monkeypatch.setattr(Liar, "lie", staticmethod(lie))
        register("LIAR", f"{__name__}:Liar")
        with pytest.raises(InternalError, match=rf"Device LIAR compiled .* wrongly: its {side} are .*; the graph has"):
            ov.Core().compile_model(one_input(), "LIAR")

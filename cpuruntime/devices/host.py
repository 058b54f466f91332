"""The devices of one `Core`: their plugins by name, and what plugins may ask of each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from cpuruntime import properties
from cpuruntime.devices import names, registry
from cpuruntime.devices.interface import DeviceHost, DeviceModel, Plugin
from cpuruntime.devices.names import DeviceName
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import DeviceUnavailableError, Error, InternalError, printable
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.properties.declaration import Group
from cpuruntime.properties.device import Type, own_config
from cpuruntime.properties.hint import PerformanceMode
from cpuruntime.trace.recorder import opened, span

log = logging.getLogger("cpuruntime")

FEWEST = 3
"""Smaller batches are not formed unless the user asks for device BATCH, as in OpenVINO."""

SHARED = ("AUTO_BATCH_TIMEOUT", "PERF_COUNT", "PERFORMANCE_HINT_NUM_REQUESTS", "TRACE")
"""What device BATCH takes from the settings of a device that it stands before."""

_NEEDED = {"NETWORK_NAME", "EXECUTION_DEVICES", "OPTIMAL_NUMBER_OF_INFER_REQUESTS"}


class Devices(DeviceHost):
    """The plugins of one `Core`, each made when its device is first asked for. May be used from several threads.

    `trace` is the file of the timeline that models get for now; empty for that of their settings. `compile_part`
    compiles for a device what a device over devices asks for; by default `compile_on`.
    """

    trace = ""

    def __init__(self, compile_part: Callable[[Plugin, Graph, Settings], DeviceModel] | None = None) -> None:
        self._compile_part = compile_part or compile_on
        self._plugins: dict[str, Plugin] = {}
        self._subscribers: dict[object, Callable[[str], None]] = {}
        self._others: list[str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled for another process, which has the devices there, with settings of their own."""
        return Devices, (self._compile_part,)

    def plugin(self, device: Any) -> Plugin:
        """The plugin of a device name.

        Raises:
            InvalidArgumentError: it is no name of a device; or the device has no such instance or takes no arguments.
            DeviceUnavailableError: its plugin cannot be imported or made.
        """
        found = self._plugins.get(device) if isinstance(device, str) else None
        return found or self._load(names.parse(device))

    def _load(self, target: DeviceName) -> Plugin:
        alone = target == DeviceName(target.name)
        plugin = registry.load(target.name, self) if alone else self.plugin(target.name).at(target)
        return self._plugins.setdefault(str(target), plugin)  # another thread may have been faster

    def usable(self, device: Any) -> Plugin:
        """As `plugin`; raises DeviceUnavailableError also where the device cannot be used here."""
        plugin = self.plugin(device)
        reason = _reason(plugin)
        if reason is not None:
            raise DeviceUnavailableError(f"Device {device} is not available: {reason}")
        return plugin

    def resolved(self, device: Any, config: Mapping[str, Any] | None) -> tuple[Plugin, Settings]:
        """The plugin that compiles for a device, by default AUTO, and the settings. Raises as `usable`."""
        plugin = self.usable("AUTO" if device is None else device)
        settings = self._settings(plugin, config)
        while (direct := plugin.direct(settings)) is not None:
            device, config = direct
            plugin = self.usable(device)
            settings = self._settings(plugin, config)
        return plugin, settings

    def batched(self, plugin: Plugin, settings: Settings, graph: Graph) -> tuple[Plugin, Settings]:
        """Device BATCH, where throughput is asked for and the device asks for batches of the graph; else the device."""
        is_wanted = settings.value("PERFORMANCE_HINT") is PerformanceMode.THROUGHPUT
        if plugin.is_composed or not is_wanted or not settings.value("ALLOW_AUTO_BATCHING"):
            return plugin, settings
        size = plugin.optimal_batch_size(graph, settings)
        size = min(size, settings.value("PERFORMANCE_HINT_NUM_REQUESTS") or size)
        if size < FEWEST:
            return plugin, settings
        batch = self.usable(f"BATCH:{plugin.target}({size})")
        return batch, self._settings(batch, {name: settings[name] for name in SHARED if name in settings} | {
            "DEVICE_PROPERTIES": {str(plugin.target): dict(settings)}
        })  # fmt: skip

    def _settings(self, plugin: Plugin, config: Mapping[str, Any] | None) -> Settings:
        settings = plugin.settings(config)
        if self.trace:
            settings["TRACE"] = self.trace
        return settings

    def unavailable(self) -> dict[str, str | None]:
        """Why each registered device cannot be used here, or None where it can."""
        found: dict[str, str | None] = {}
        for name in registry.registered():
            try:
                found[name] = _reason(self.plugin(name))
            except DeviceUnavailableError as error:
                found[name] = str(error)
        return found

    def devices(self) -> list[str]:
        found = []
        for name, reason in self.unavailable().items():
            if reason is None and not self.plugin(name).is_composed:
                ids = self.plugin(name).fact("AVAILABLE_DEVICES")
                found += [f"{name}.{one}" for one in ids] if len(ids) > 1 else [name]
        return found

    def automatic(self) -> list[str]:
        if self._others is None:  # to look for them takes a while
            self._others = [name for name in registry.registered() if name not in registry.own() or name == "GPU"]
        found = [one for name in self._others for one in self._instances(name)]
        cpu = ["CPU"] if self.unavailable_reason("CPU") is None else []
        return sorted(found, key=self._is_integrated) + cpu

    def _instances(self, name: str) -> list[str]:
        """The instances that AUTO may choose of a device; none where it fails."""
        try:
            plugin = self.plugin(name)
            if plugin.is_composed or not plugin.is_automatic or _reason(plugin) is not None:
                return []
            found = [f"{name}.{one}" if one else name for one in plugin.fact("AVAILABLE_DEVICES")]
            return [one for one in found if self.plugin(one).is_automatic]
        except DeviceUnavailableError:
            return []

    def _is_integrated(self, device: str) -> bool:
        plugin = self.plugin(device)
        return "DEVICE_TYPE" not in plugin.properties() or plugin.fact("DEVICE_TYPE") is not Type.DISCRETE

    def unavailable_reason(self, device: str) -> str | None:
        return _reason(self.plugin(device))

    def get_property(self, device: str, name: str) -> Any:
        return self.plugin(device).get_property(name)

    def set_property(self, device: str, config: Any) -> None:
        """Set properties of a device, and with NAME alone those of its instances that were asked for already.

        None takes back what was set: the environment's value counts again, or the default.
        """
        plugin = self.plugin(device)
        self._set(plugin, plugin.parse(config, unsets=True))

    def set_everywhere(self, config: Any) -> None:
        """Set properties of every available device that has them; one must have each."""
        plugins = [self.plugin(name) for name, reason in self.unavailable().items() if reason is None]
        known = {name: one for plugin in plugins for name, one in plugin.properties().items()}
        properties.parse(own_config(config, ""), known, "any device", unsets=True)
        own = []
        for plugin in plugins:
            config_of = own_config(config, plugin.name)
            names = _own_properties(plugin)
            own.append(plugin.parse({k: v for k, v in config_of.items() if k in names}, unsets=True))
        for plugin, settings in zip(plugins, own):
            self._set(plugin, settings)

    def _set(self, plugin: Plugin, settings: Settings) -> None:
        alone = plugin.target == DeviceName(plugin.name)
        for one in [*self._plugins.values()]:
            if one is plugin or (alone and one.name == plugin.name):
                one.set_property(settings)
        self.announce(str(plugin.target))

    def optimal_batch_size(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> int:
        plugin, settings = self.resolved(device, config)
        return plugin.optimal_batch_size(graph, settings)

    def query(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> set[str]:
        plugin = self.usable(device)
        return plugin.query(graph, plugin.settings(config))

    def compile(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> DeviceModel:
        plugin, settings = self.batched(*self.resolved(device, config), graph)
        return self._compile_part(plugin, graph, settings)

    def subscribe(self, function: Callable[[str], None]) -> Callable[[], None]:
        key = object()
        self._subscribers[key] = function
        return lambda: (self._subscribers.pop(key, None), None)[1]

    def announce(self, device: str) -> None:
        for function in [*self._subscribers.values()]:
            try:
                function(device)
            except Exception:
                log.exception("A subscriber to changes of devices failed for device %s.", device)


def compile_on(plugin: Plugin, graph: Graph, settings: Settings) -> DeviceModel:
    """Let a plugin compile a graph, and check its model.

    Raises:
        InternalError: it raised no `Error`, or its model breaks the rules of the interface.
        InvalidArgumentError: the file for its timeline cannot be written.
        Error: what it raised.
    """
    device = f"Device {plugin.target}"
    if settings.value("TRACE"):
        opened(settings.value("TRACE"))
    try:
        with span(f"compile for {plugin.target}", model=printable(graph.name)):
            model = plugin.compile(graph, settings)
    except (Error, MemoryError):
        raise
    except Exception as error:
        raise InternalError(
            f"{device} failed to compile model '{printable(graph.name)}': {type(error).__name__}: {error}."
        ) from error
    if not isinstance(model, DeviceModel):
        raise InternalError(
            f"{device} compiled model '{printable(graph.name)}' to a {type(model).__name__}, not a DeviceModel."
        )
    problem = _problem(model, graph)
    if problem:
        model.close()
        raise InternalError(f"{device} compiled model '{printable(graph.name)}' wrongly: {problem}.")
    return recorded(model, plugin, settings)


def recorded(model: DeviceModel, plugin: Plugin, settings: Settings) -> DeviceModel:
    """The model, one that records its inferences if the settings name a file for a timeline."""
    path = settings.value("TRACE")
    if not path:
        return model
    from cpuruntime.devices.traced import traced  # not above: few models record

    return traced(model, path, str(plugin.target), has_steps=not plugin.is_composed)


def _problem(model: DeviceModel, graph: Graph) -> str:
    """Which rule a compiled model breaks; empty where it breaks none."""
    for side, found, needed in (
        ("inputs", model.inputs, PortInfo.inputs_of(graph)),
        ("outputs", model.outputs, PortInfo.outputs_of(graph)),
    ):
        if list(found) != needed:
            return f"its {side} are {_described(found)}; the graph has {_described(needed)}"
    missing = sorted(_NEEDED - model.properties.keys())
    return f"it has no property {', '.join(missing)}" if missing else ""


def _described(ports: Any) -> str:
    return ", ".join(f"'{printable(port.name)}' {port.element_type} {port.partial_shape}" for port in ports) or "none"


def _own_properties(plugin: Plugin) -> set[str]:
    """Those that are set for a plugin; devices that a composed one runs have theirs set themselves."""
    known = plugin.properties()
    return {name for name, one in known.items() if not plugin.is_composed or one.group is Group.COMPOSED}


def _reason(plugin: Plugin) -> str | None:
    try:
        reason = plugin.unavailable_reason()
        plugin.fact("AVAILABLE_DEVICES")  # asked for only when another device is, it could take that along
    except Exception as error:
        return f"its plugin fails when asked whether it is available: {type(error).__name__}: {error}."
    return reason

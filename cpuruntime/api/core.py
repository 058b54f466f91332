"""The entry: devices, models, compilation, properties.

What reads models is imported when one is read: a process that loads compiled models does without.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cpuruntime import properties
from cpuruntime.api.compiled_model import CompiledModel
from cpuruntime.api.model import Model
from cpuruntime.api.refusals import EDITED, PLUGINS, refused
from cpuruntime.api.remote import RemoteContext
from cpuruntime.api.runtime_model import Outline
from cpuruntime.api.shared import Shared
from cpuruntime.api.storing import CachedCompilation, PlannedCompilation, import_model
from cpuruntime.api.tracing import recorded_too
from cpuruntime.cache.entry import compile_part, entry_for
from cpuruntime.devices import registry
from cpuruntime.devices.host import Devices, compile_on
from cpuruntime.devices.interface import DeviceModel, Plugin
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, UnsupportedError, WrongTypeError
from cpuruntime.graph import Graph, settle
from cpuruntime.hints import StreamPlan
from cpuruntime.host.cycles import rare_searches
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings
from cpuruntime.properties.declaration import Group
from cpuruntime.trace.recorder import opened, span

AFFINITY = "NODE_AFFINITY"

if TYPE_CHECKING:
    import onnx

    ModelSource = str | PathLike[str] | bytes | BinaryIO | onnx.ModelProto
    """Where a model comes from: a file's path, its bytes, an open binary file, or the message itself."""


class Version(NamedTuple):
    """The version of a device's code."""

    build_number: str
    description: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        return self._numbers()[0]

    @property
    def minor(self) -> int:
        """The second number."""
        return self._numbers()[1]

    @property
    def patch(self) -> int:
        """The third number."""
        return self._numbers()[2]

    def _numbers(self) -> list[int]:
        return [int(number) for number in re.findall("[0-9]+", self.build_number)[:3]] + [0, 0, 0]


class Core:
    """Devices with their settings. May be used from several threads; cores do not share settings.

    A device is looked at when it is first asked for.

    Raises:
        UnsupportedError: `xml_config_file` is given; devices register by entry points.
    """

    def __init__(self, xml_config_file: str = "") -> None:
        if xml_config_file:
            raise UnsupportedError(f"{xml_config_file!r:.60}: devices are registered by entry points, not by files.")
        self._devices = Devices(compile_part)
        self._models: weakref.WeakKeyDictionary[Shared, str] = weakref.WeakKeyDictionary()

    @property
    def available_devices(self) -> list[str]:
        """The names of the devices that can be used here; of a device with several instances, NAME.ID of each."""
        return self._devices.devices()

    def get_available_devices(self) -> list[str]:
        """The same as `available_devices`."""
        return self.available_devices

    @property
    def unavailable_devices(self) -> dict[str, str]:
        """The devices that cannot be used here, with the reason for each."""
        return {name: reason for name, reason in self._devices.unavailable().items() if reason is not None}

    @rare_searches()
    def read_model(self, model: ModelSource, weights: Any = None, config: Mapping[str, Any] | None = None) -> Model:
        """Read an ONNX model.

        Args:
            model: a path, the file's bytes, an open binary file, or an onnx.ModelProto.
            weights: None or empty; an ONNX model names the files of its weights itself.
            config: None or empty; reading has no properties.

        Raises:
            ModelNotFoundError: there is no such file.
            ModelError: it is no ONNX model, or a wrong one.
            UnsupportedError: its version, an operator or a type is not supported.
        """
        if config:
            properties.parse(config, {}, "reading a model")
        return _read(model, weights)

    @rare_searches()
    def compile_model(
        self,
        model: Model | ModelSource,
        device_name: str | RemoteContext | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        weights: Any = None,
    ) -> CompiledModel:
        """Compile a model for a device, or for a remote context.

        Args:
            model: a model, or where to read one from.
            device_name: "CPU", the name of another device, NAME.ID for one of a device's instances, or NAME:ARGUMENTS
                for a device that runs others ("MULTI:CPU(4),GPU"); None for "AUTO", which is the CPU where no
                package with another device is installed.
            config: values by property for this compilation; they override `set_property` and the environment.
            weights: as in `read_model`.

        Raises:
            InvalidArgumentError: unknown device or property, or a wrong value.
            UnsupportedError: a property's value, or something in the model, is not implemented.
            DeviceUnavailableError: the device cannot be used here; the message says why.
            ModelError: the model is wrong.
        """
        with PlannedCompilation(None if weights else model, _graph) as planned:
            if isinstance(device_name, RemoteContext):
                plugin = device_name.plugin
                settings = plugin.settings(config)
            else:
                plugin, settings = self._devices.resolved(device_name, config)
            if settings.value("TRACE"):
                opened(settings.value("TRACE"))
            cached = self._cached(plugin, settings, model)
            if cached is not None:
                found = cached.find(CompiledModel)
            else:
                found = planned.find(plugin, settings, CompiledModel)
        if found is not None:
            return self._noted(found, plugin)
        locations = cached and cached.locations
        source = model if isinstance(model, Model) else _read(model, weights, locations, plugin.reads_late)
        graph = source.graph
        if graph.defaults:
            settle(graph)
        settings = _with_affinities(settings, source)
        plugin, settings = self._devices.batched(plugin, settings, graph)
        device, defaults = compile_on(plugin, graph, settings), [PortInfo.of(value) for value in graph.defaults]
        compile_with = partial(_compile_with, plugin, graph, settings) if defaults else None
        facts, outline = source.port_facts(), Outline.of(graph)
        shared = Shared(device, CompiledModel, defaults, compile_with, facts, lambda: outline)
        if cached is not None:
            cached.keep(shared)
        return self._noted(CompiledModel(shared), plugin)

    def _noted(self, model: CompiledModel, plugin: Plugin) -> CompiledModel:
        """The model, which `trace` records from now on."""
        self._models[model._shared] = str(plugin.target)
        return model

    def _cached(self, plugin: Plugin, settings: Settings, model: Any) -> CachedCompilation | None:
        """The compilation by way of the cache, if the settings name one."""
        if not settings.value("CACHE_DIR") or plugin.is_composed:  # of a composed one the parts are cached
            return None
        entry = entry_for(settings.value("CACHE_DIR"), plugin, settings)
        if entry is None:
            return None
        if isinstance(model, str | PathLike):
            return CachedCompilation(entry, os.fsdecode(model), _graph)
        source = model if isinstance(model, Model | bytes) else self.read_model(model)
        return CachedCompilation(entry, source.graph if isinstance(source, Model) else source, _graph)

    @rare_searches()
    def import_model(
        self, model_stream: Any, device_name: str | None = None, config: Mapping[str, Any] | None = None
    ) -> CompiledModel:
        """A model that `CompiledModel.export_model` has stored, from a path, bytes, a binary file object or a Tensor.

        Without a device name it is for the CPU, even where `compile_model` would choose another device.
        What it was compiled with stays; `config` is for its streams. Import only what you trust: checksums find damage,
        not malice. The memory of a file at a path is shared with other processes that import it.

        Raises:
            ModelError: it is no compiled model, is damaged, or is for another processor or another version.
            InvalidArgumentError, DeviceUnavailableError: as in `compile_model`.
        """
        plugin, settings = self._devices.resolved("CPU" if device_name is None else device_name, config)
        return self._noted(import_model(model_stream, plugin, settings, CompiledModel), plugin)

    @contextmanager
    def trace(self, path: str | PathLike[str]) -> Iterator[None]:
        """Record a timeline of this core's models in the `with` statement, and write it at its end.

        As with property TRACE, also where the statement ends with an error. What the models do later is not recorded.
        Of models that were compiled before, steps are recorded with PERF_COUNT only, and not the parts of devices over
        devices.

        Raises InvalidArgumentError where the file cannot be written.
        """
        recorder = opened(os.fspath(path))
        previous, self._devices.trace = self._devices.trace, str(recorder.path)
        try:
            with recorded_too(self._models, str(recorder.path)):
                yield
        finally:
            self._devices.trace = previous
            recorder.close()

    def query_model(
        self, model: Model, device_name: str, config: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """The nodes that a device runs on kernels of its own: the device's name by node name.

        Inputs, constants and outputs are among them, as "x", "w" and "y/sink_port_0".
        """
        native = self._devices.query(model.graph, device_name, config)
        missing = {node.name for node in model.graph.nodes} - native
        return {node.friendly_name: device_name for node in model.get_ordered_ops() if node.name not in missing}

    def plan_streams(
        self,
        model: Model | ModelSource,
        device_name: str | None = None,
        config: Mapping[str, Any] | None = None,
        topology: Topology | None = None,
    ) -> StreamPlan:
        """The streams that `compile_model` would make, with a reason for each decision; nothing is compiled.

        What only measuring shows, for STREAMS_CALIBRATION_MS and LATENCY_TARGET_MS, is left out, and said to be.

        Args:
            model, device_name, config: as in `compile_model`.
            topology: another machine to plan for, with nothing else on it, as of `Topology.from_json`; by default this
                one as it is now: with the processors that models have, and stored calibrations.

        Raises:
            UnsupportedError: the device has no streams to plan.
            InvalidArgumentError, DeviceUnavailableError, ModelError: as in `compile_model`.
        """
        plugin, settings = self._devices.resolved(device_name, config)
        if not isinstance(topology, Topology | None):
            raise InvalidArgumentError(
                f"plan_streams: topology is {topology!r:.60}; it must be a Topology, as of Topology.from_json(text)."
            )
        source = model if isinstance(model, Model) else self.read_model(model)
        return plugin.plan(source.graph, settings, topology)

    def set_property(self, *arguments: Any, **named: Any) -> None:
        """`set_property(device_name, properties)` for one device, `set_property(properties)` for all.

        `properties`, also called `property`, is a dict of value by property, or one (property, value) pair. They hold
        for later compilations.
        Without a device name each device takes those it has, and one must have it.

        Raises:
            InvalidArgumentError: unknown device or property, read-only property, or a wrong value; nothing was set.
            UnsupportedError: a value that is not implemented.
        """
        rule = "set_property takes a device name and properties, or properties alone."
        *device, config = _device_and(arguments, named, ("properties", "property"), rule)
        if isinstance(config, tuple) and len(config) == 2:
            config = dict([config])
        if device:
            self._devices.set_property(device[0], config)
        else:
            self._devices.set_everywhere(config)

    def get_property(self, *arguments: Any, **named: Any) -> Any:
        """`get_property(device_name, property)`: a device's fact, or the setting that compilations get.

        `property` is also called `name`. `get_property("AVAILABLE_DEVICES")` lists the devices; CACHE_DIR and settings
        that have no effect need no device name, others do. Raises InvalidArgumentError for an unknown device or
        property.
        """
        if not named.pop("arguments", None) and len(arguments) == 3 and not arguments[2]:
            arguments = arguments[:2]
        rule = "get_property takes a device name and a property."
        *device, name = _device_and(arguments, named, ("property", "name"), rule)
        if device:
            return self._devices.get_property(device[0], name)
        if name == "AVAILABLE_DEVICES":
            return self.available_devices
        declared = properties.declared(name, properties.PROPERTIES, "any device")
        if declared.group is Group.ACCEPTED or declared == properties.cache_dir:
            return self._devices.get_property("CPU", name)
        raise InvalidArgumentError(f"Property {name} belongs to a device: get_property('CPU', ...).")

    def get_versions(self, device_name: str) -> dict[str, Version]:
        """The version of a device's code, by the device's name."""
        from cpuruntime.version import __version__  # not above: looking for it is slow

        plugin = self._devices.plugin(device_name)
        return {plugin.name: Version(__version__, f"{type(plugin).__module__}.{type(plugin).__qualname__}")}

    def unload_plugin(self, device_name: str) -> None:
        """Checks the name alone: a device's code stays loaded, and memory comes back when models are dropped."""
        self._devices.plugin(device_name)

    def create_context(self, device_name: str, properties: Mapping[str, Any] | None = None) -> RemoteContext:
        """A context for tensors in a device's memory; `compile_model` takes it in place of a device's name.

        With OCL_CONTEXT among the properties it is that one, a pyopencl.Context of the device; else the default one.

        Raises:
            InvalidArgumentError: the context is none of the device's.
            UnsupportedError: the device has no memory of its own.
            DeviceUnavailableError: the device cannot be used here.
        """
        plugin = self._devices.usable(device_name)
        return RemoteContext.of(plugin.create_context(dict(properties or {})))

    def get_default_context(self, device_name: str) -> RemoteContext:
        """The context of all models that are compiled for a device by its name. Raises as `create_context`."""
        return self.create_context(device_name)

    add_extension = refused("Core.add_extension", EDITED)
    register_plugin = refused("Core.register_plugin", PLUGINS)
    register_plugins = refused("Core.register_plugins", PLUGINS)

    def __repr__(self) -> str:
        return f"<Core: {', '.join(registry.registered())}>"


def _device_and(arguments: tuple[Any, ...], named: dict[str, Any], names: tuple[str, ...], rule: str) -> list[Any]:
    """The device name where one is given, and the other argument, which is called by one of `names`."""
    given = [named.pop(name) for name in ("device_name",) if name in named]
    given += [*arguments, *(named.pop(name) for name in names if name in named)]
    if named or not 1 <= len(given) <= 2:
        raise WrongTypeError(rule)
    return given


def _read(model: Any, weights: Any, locations: list[str] | None = None, late: bool = False) -> Model:
    from cpuruntime.frontend.reader import read

    with span("read"):
        return Model(read(model, weights or None, locations, late))


def _graph(model: Any) -> Graph:
    return _read(model, None).graph


def _with_affinities(settings: Settings, model: Model) -> Settings:
    """The settings with the devices that the notes about nodes name, for device HETERO."""
    if AFFINITY not in settings.known:
        return settings
    noted = {name: str(notes["affinity"].value) for name, notes in model.node_notes().items() if "affinity" in notes}
    return Settings(settings.known, {**settings, AFFINITY: {**noted, **settings.value(AFFINITY)}})


def _compile_with(plugin: Plugin, graph: Graph, settings: Settings, names: Collection[str]) -> DeviceModel:
    from cpuruntime.operators.shape_inference import with_inputs

    return compile_on(plugin, with_inputs(graph, names), settings)


def compile_model(
    model: Model | ModelSource, device_name: str | None = None, config: Mapping[str, Any] | None = None
) -> CompiledModel:
    """`Core().compile_model(model, device_name, config)`."""
    return Core().compile_model(model, device_name, config)

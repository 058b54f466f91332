"""The MULTI device: a model compiled for each of several devices, behind one queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

from cpuruntime.devices import names
from cpuruntime.devices.composed.members import Member
from cpuruntime.devices.composed.model import DispatchedModel
from cpuruntime.devices.composed.plugin import PRIORITIES, ComposedPlugin
from cpuruntime.devices.composed.policies import Policy, RoundRobin, by_priority, earliest_finish
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.names import Argument
from cpuruntime.errors import InvalidArgumentError, printable
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import PerformanceMode
from cpuruntime.properties.intel_auto import SchedulePolicy

THREADS, HOST_PROCESSORS = "INFERENCE_NUM_THREADS", "HOST_PROCESSORS"

log = logging.getLogger("cpuruntime")


class MultiPlugin(ComposedPlugin):
    """Compiles for all devices at the same time. Those that fail are left out; one must be left."""

    defaults: ClassVar[Mapping[str, Any]] = {"PERFORMANCE_HINT": PerformanceMode.THROUGHPUT}

    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        arguments = self.needed_arguments(settings)
        self.check_by_device(settings, arguments)
        members, errors = self.load(graph, arguments, arguments, settings)
        if not members:
            raise self.all_failed(graph.name, errors)
        return MultiModel(self, graph, settings, members, errors)

    def listed(self, settings: Settings) -> list[Argument]:
        """The devices that MULTI_DEVICE_PRIORITIES names."""
        return [*names.parse(f"{self.name}:{settings.value(PRIORITIES)}").arguments]

    def load(
        self, graph: Graph, arguments: list[Argument], all_of_them: list[Argument], settings: Settings
    ) -> tuple[list[Member], dict[str, Exception]]:
        """The members for these devices of all, and the errors of those that cannot serve; wrong values are raised."""

        def one(argument: Argument) -> Member | Exception:
            try:
                config = self.config_for(argument.device, settings)
                limit, note = self._leaving(argument.device, config, all_of_them)
                config |= limit
                member = member_of(argument, self.compile_one(graph, argument.device, config), config)
                member.note = note
                return member
            except InvalidArgumentError:
                raise
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(arguments), "cpuruntime-compile") as pool:
            found = list(pool.map(one, arguments))
        members = [result for result in found if isinstance(result, Member)]
        errors = {a.device: result for a, result in zip(arguments, found) if isinstance(result, Exception)}
        for device, error in errors.items():
            log.warning("model '%s' goes without device %s: %s", printable(graph.name), device, error)
        return members, errors

    def _leaving(
        self, device: str, config: Mapping[str, Any], arguments: list[Argument]
    ) -> tuple[dict[str, int], str]:
        """The limit by which a device leaves processors to threads of the others, in words, too; a user's one stays."""
        known = self.host.get_property(device, "SUPPORTED_PROPERTIES")
        if THREADS not in known or THREADS in config or self.host.get_property(device, THREADS):
            return {}, ""
        others = [one.device for one in arguments if one.device != device and self._processors_of(one.device)]
        left = sum(map(self._processors_of, others))
        usable = self.host.get_property(device, "RANGE_FOR_STREAMS")[1]
        if not 0 < left < usable:
            return {}, ""
        return {THREADS: usable - left}, f"leaves {left} of {usable} processors to threads of {', '.join(others)}"

    def _processors_of(self, device: str) -> int:
        """How many processors threads of a device have beside its own work; 0 of one that cannot be used."""
        if self.host.unavailable_reason(device) is not None:
            return 0
        known = self.host.get_property(device, "SUPPORTED_PROPERTIES")
        return self.host.get_property(device, HOST_PROCESSORS) if HOST_PROCESSORS in known else 0


def member_of(argument: Argument, model: DeviceModel, config: Mapping[str, Any]) -> Member:
    """A device with as many workers as the user says, else as keep it busy."""
    workers = argument.number or model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    return Member(argument.device, model, workers, config)


def policy_of(settings: Settings) -> Policy:
    """The function for SCHEDULE_POLICY."""
    name = settings.value("SCHEDULE_POLICY")
    if name is SchedulePolicy.ROUND_ROBIN:
        return RoundRobin()
    return by_priority if name is SchedulePolicy.DEVICE_PRIORITY else earliest_finish


class MultiModel(DispatchedModel):
    """A model on several devices, which may be added and removed while it runs."""

    goes_straight = True

    def __init__(
        self,
        plugin: MultiPlugin,
        graph: Graph,
        settings: Settings,
        members: list[Member],
        errors: Mapping[str, Exception],
    ) -> None:
        self._plugin, self._graph, self._settings = plugin, graph.clone(), settings
        policy = policy_of(settings)
        super().__init__(str(plugin.target), members, policy, settings.resolved())
        self.live = frozenset({PRIORITIES})
        self._note(errors)
        if policy is earliest_finish and len(members) > 1:
            for member in members:
                self._measure(member)

    def get_property(self, name: str) -> Any:
        if name == PRIORITIES:
            return ",".join(f"{member.name}({member.count})" for member in self.members)
        return super().get_property(name)

    def set_property(self, values: Mapping[str, Any]) -> None:
        """Serve with the devices of MULTI_DEVICE_PRIORITIES from now on: new ones are compiled for first.

        Raises what compiling for a new one raises; then nothing has changed.
        """
        self.check_open()
        settings = Settings(self._settings.known, {**self._settings, **values})
        wanted = self._plugin.listed(settings)
        known = {member.name: member for member in self.members}
        new = [argument for argument in wanted if argument.device not in known]
        loaded, errors = self._plugin.load(self._graph, new, wanted, settings) if new else ([], {})
        if errors:
            for member in loaded:
                member.model.close()
            raise self._plugin.all_failed(self._graph.name, errors)
        for member in loaded:
            self._measure(member)
            known[member.name] = member
        self.dispatcher.set_members(known[argument.device] for argument in wanted)
        self._settings = settings

    def _note(self, errors: Mapping[str, Exception]) -> None:
        self.notes.append(f"SCHEDULE_POLICY is {self.properties['SCHEDULE_POLICY'].value}")
        self.notes += [f"{device} is left out: {error}" for device, error in errors.items()]

    def _measure(self, member: Member) -> None:
        """Time a second inference on zeros, so that the first requests go to the right device."""
        if all(port.partial_shape.is_static for port in self.inputs):
            with suppress(Exception):  # zeros may be no inputs for the model
                member.measure()

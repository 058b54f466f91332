"""A model that several devices serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cpuruntime.devices.composed.dispatcher import Dispatcher
from cpuruntime.devices.composed.members import Member
from cpuruntime.devices.composed.policies import Policy
from cpuruntime.devices.composed.virtual_request import VirtualRequest
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, DeviceRequest


class DispatchedModel(DeviceModel):
    """The members' models behind one queue."""

    goes_straight: ClassVar[bool] = False
    """Whether requests go straight to a device that is the only one."""

    def __init__(self, label: str, members: list[Member], policy: Policy, properties: Mapping[str, Any]) -> None:
        first = members[0].model
        name = first.properties["NETWORK_NAME"]
        self.dispatcher = Dispatcher(name, members, policy, self.goes_straight)
        self._label = label
        self.notes: list[str] = []
        """Decisions, for `explain`."""
        own = {"NETWORK_NAME": name, "EXECUTION_DEVICES": [], "OPTIMAL_NUMBER_OF_INFER_REQUESTS": 0, **properties}
        super().__init__(first.inputs, first.outputs, own)

    @property
    def members(self) -> list[Member]:
        """The devices that serve, in the user's order."""
        return self.dispatcher.members

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return VirtualRequest(self.dispatcher, self.inputs, self.outputs, self.properties.get("PERF_COUNT", False))

    def get_property(self, name: str) -> Any:
        if name == "EXECUTION_DEVICES":
            return [member.name for member in self.members]
        if name == "OPTIMAL_NUMBER_OF_INFER_REQUESTS":
            return sum(member.count for member in self.members)
        if name == "LOADED_FROM_CACHE":
            return all(member.model.get_property(name) for member in self.members)
        return super().get_property(name)

    def check_open(self) -> None:
        self.properties["EXECUTION_DEVICES"] = [self._label]  # which the message names
        super().check_open()

    def explain(self, measure: bool = False) -> Explanation:
        members = [*self.members]
        parts = [member.model.explain(measure) for member in members]
        decisions = [*self.notes, *(member.describe() for member in members)]
        for member, part in zip(members, parts):
            decisions += [f"{member.name}: {decision}" for decision in part.decisions]
        return Explanation(self._label, parts[0].rows if parts else (), decisions)

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        return all(member.model.wait_until_optimized(timeout) for member in [*self.members])

    def release_memory(self) -> None:
        for member in [*self.members]:
            member.model.release_memory()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.dispatcher.close()

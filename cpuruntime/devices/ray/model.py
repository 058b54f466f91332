"""A model on a cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.ray.cluster import Cluster
from cpuruntime.devices.ray.links import Load
from cpuruntime.devices.ray.loop import Loop
from cpuruntime.devices.ray.request import RayRequest
from cpuruntime.errors import DeviceUnavailableError, Error, InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Graph
from cpuruntime.host.ledger import machine
from cpuruntime.properties import Settings

SETTLES = 600.0
"""Seconds for the first replicas to start and to compile the model; those that fail meanwhile are tried again."""

JOINS = 10.0
"""Seconds for the others after the first one is ready; later ones join while the model serves."""

_EXPLAINS = 60.0


class RayModel(DeviceModel):
    """Replicas behind one queue.

    Args:
        graph: the model, for its ports.
        load: makes what replicas need, for a graph.
        loop: belongs to the model.

    Raises the error of the replicas where none can have the model; DeviceUnavailableError where there is none.
    """

    def __init__(
        self, graph: Graph, settings: Settings, cluster: Cluster, load: Callable[[Graph], Load], loop: Loop
    ) -> None:
        self.loop, self._cluster, self._load = loop, cluster, load
        try:
            self._wait(settings)
        except BaseException:
            loop.close()
            raise
        facts = loop.fleet.ready[0].facts
        own = {name: settings.value(name) for name, one in settings.known.items() if one.writable}
        own |= {name: value for name, value in facts["properties"].items() if name not in settings}
        own |= {"NETWORK_NAME": graph.name, "EXECUTION_DEVICES": ["RAY"], "OPTIMAL_NUMBER_OF_INFER_REQUESTS": 0}
        super().__init__(PortInfo.inputs_of(graph), facts["outputs"], own)

    def _wait(self, settings: Settings) -> None:
        """Wait until replicas have the model."""
        fleet = self.loop.fleet
        waited = 0.0
        while not self.loop.settled.wait(0.1):
            waited += 0.1
            if waited > SETTLES or (fleet.ready and waited > JOINS):
                break
            if not fleet.links and not fleet.problems() and waited > JOINS:
                cpus = settings.value("CPUS_PER_REPLICA")
                nodes = self._cluster.nodes()
                raise DeviceUnavailableError(
                    f"No node of the Ray cluster has {cpus or 'a'} free CPU{'s' * (cpus > 1)} for a replica: "
                    f"{len(nodes)} nodes have {sum(node.cpus for node in nodes):g} CPUs, and "
                    f"{sum(node.free for node in nodes):g} of them are free. Set CPUS_PER_REPLICA, or add nodes."
                )
        if not fleet.ready:
            for error in fleet.refusals.values():
                raise error
            problems = "; ".join(fleet.problems())
            raise DeviceUnavailableError(f"No replica of the model has started on the Ray cluster: {problems}.")

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return RayRequest(self, self.loop)

    def get_property(self, name: str) -> Any:
        if name == "OPTIMAL_NUMBER_OF_INFER_REQUESTS":
            return max(1, sum(replica.limit for replica in [*self.loop.scheduler.replicas.values()]))
        if name == "NUM_REPLICAS":
            return max(1, len(self.loop.fleet.ready))
        return super().get_property(name)

    def explain(self, measure: bool = False) -> Explanation:
        fleet, scheduler = self.loop.fleet, self.loop.scheduler
        links = [*fleet.links.values()]
        rows, decisions = fleet.facts.get("rows", []), fleet.facts.get("decisions", [])
        ready = [link for link in links if link.state == "ready"]
        if measure and ready:
            rows, decisions = self._ask(ready[0], "explain", True) or (rows, decisions)
        nodes = len({link.node for link in links})
        per_call = scheduler.requests / max(1, scheduler.calls)
        times = "" if scheduler.service is None else (
            f"; a request takes {scheduler.service / 1e6:.3g} ms, its way {scheduler.trip / 1e6:.3g} ms"
        )  # fmt: skip
        own = [
            f"{len(ready)} replicas on {nodes} nodes; {scheduler.requests} requests in {scheduler.calls} calls "
            f"({per_call:.3g} each), {scheduler.retries} retries, {scheduler.refused} refused{times}",
            *(self._described(link) for link in links),
            *fleet.problems(),
            "a request that is on a replica is cancelled there, which is best effort",
        ]
        first = f"replica {ready[0].key}: " if ready else ""
        return Explanation("RAY", rows, [*own, *(first + decision for decision in decisions)])

    def _described(self, link: Any) -> str:
        replica = self.loop.scheduler.replicas.get(link.key)
        served = f", at most {replica.limit} calls at a time, {replica.served} requests so far" if replica else ""
        is_here = link.facts.get("machine") == machine() and link.facts["cores"] & os.sched_getaffinity(0)
        return (
            f"replica {link.key}: {link.state}, process {link.facts.get('pid', '?')} on node {link.node[:8]}"
            f"{', whose cores this process uses, too' if is_here else ''}, {link.cpus} CPUs{served}"
        )

    def _ask(self, link: Any, method: str, *arguments: Any) -> Any:
        """What a replica answers; None where it does not."""
        over, answers = threading.Event(), []

        def done(value: Any, error: BaseException | None) -> None:
            answers.append(value)
            over.set()

        self._cluster.call(link.actor, method, arguments, done, group="control")
        over.wait(_EXPLAINS)
        return answers[0] if answers else None

    def replace(self, graph: Graph) -> None:
        """Serve another graph with the same ports, replica by replica; raises what compiling it raises."""
        self.check_open()
        if self._cluster.service:
            raise UnsupportedError("A model of a service is replaced by one under another RAY_SERVICE.")
        for old, new in ((self.inputs, PortInfo.inputs_of(graph)), (self.outputs, PortInfo.outputs_of(graph))):
            if [*old] != [*new]:
                raise InvalidArgumentError(
                    f"A model is replaced by one with the same ports: {[*map(str, old)]} is not {[*map(str, new)]}."
                )
        over, errors = threading.Event(), []

        def done(error: Error | None) -> None:
            errors.append(error)
            over.set()

        self.loop.post(partial(self.loop.fleet.replace, self._load(graph), done))
        over.wait()
        if errors[0] is not None:
            raise errors[0]

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.close()

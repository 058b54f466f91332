"""The few calls of Ray that the device makes. Ray is imported when it connects, not before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from cpuruntime.devices.ray.scaling import NodeState
from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError
from cpuruntime.store import trusted_environment

NAMESPACE = "cpuruntime"
GROUPS = {"control": 2, "health": 1}
"""Groups of calls that do not wait for inferences, nor for each other, and how many of each run at a time."""

Done = Callable[[Any, "BaseException | None"], None]
"""`done(result, error)`."""


def unavailable_reason(address: str) -> str | None:
    """Why no cluster can be used; None where one may be. Ray is not imported for that."""
    if "ray" not in sys.modules and find_spec("ray") is None:
        return "Ray is not installed: pip install cpuruntime[ray]."
    if address or trusted_environment().get("RAY_ADDRESS") or is_connected():
        return None
    return (
        "Ray is not connected. Call ray.init('auto') or set RAY_ADDRESS to HOST:PORT of the cluster's head, or to "
        "auto for the cluster on this machine; none is started."
    )


def is_connected() -> bool:
    """Whether the process is connected to a cluster."""
    ray = sys.modules.get("ray")
    return ray is not None and hasattr(ray, "is_initialized") and ray.is_initialized()


def brief(error: BaseException) -> str:
    """What Ray says, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"


class Cluster:
    """A connection to a cluster. May be used from several threads.

    Once the process has left the cluster it is of no use, also where the process has connected again: references are
    lost. Then no call of Ray is made, since many start a cluster where there is none.

    Args:
        address: as property RAY_ADDRESS; ignored where the process is connected.
        namespace: of named actors.
        service: the name under which processes share actors; empty where they are this process's own.
        environment: Ray's runtime environment of the actors.

    Raises:
        InvalidArgumentError: the address asks for a new cluster.
        DeviceUnavailableError: no cluster answers there.
    """

    def __init__(
        self, address: str, namespace: str = "", environment: Mapping[str, Any] | None = None, service: str = ""
    ) -> None:
        import ray

        self._ray = ray
        self.namespace = namespace or NAMESPACE
        self.service = service
        self._environment = dict(environment or {})
        if not ray.is_initialized():
            address = address or trusted_environment().get("RAY_ADDRESS", "")
            if address == "local" or not address:
                raise InvalidArgumentError(
                    "RAY_ADDRESS is 'local', which starts a cluster; give HOST:PORT of one, or auto."
                )
            try:
                ray.init(address=address, namespace=self.namespace, log_to_driver=False)
            except Exception as error:
                raise DeviceUnavailableError(
                    f"No Ray cluster at {address!r:.100}: {type(error).__name__}: {error}. If the cluster asks for a "
                    "token, set Ray's variables RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
                ) from error
        self._job = ray.get_runtime_context().get_job_id()

    @property
    def is_connected(self) -> bool:
        """Whether the process has not left the cluster."""
        return self._ray.is_initialized() and self._ray.get_runtime_context().get_job_id() == self._job

    def check(self) -> None:
        """Raise DeviceUnavailableError where the process has left the cluster."""
        if not self.is_connected:
            raise DeviceUnavailableError("This process has left the Ray cluster; compile the model again.")

    def nodes(self) -> list[NodeState]:
        """The nodes that are alive. Raises what Ray raises where the head does not answer."""
        self.check()
        from ray._private.state import available_resources_per_node, state

        draining = state.get_draining_nodes()
        free = available_resources_per_node()
        return [
            NodeState(
                node["NodeID"], node["Resources"].get("CPU", 0.0), free.get(node["NodeID"], {}).get("CPU", 0.0),
                node["NodeID"] in draining,
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]  # fmt: skip

    def put(self, value: Any) -> list[Any]:
        """A reference to a value, which each node maps; in a list, in which it travels as a reference.

        Raises DeviceUnavailableError where the object store does not take it.
        """
        self.check()
        try:
            return [self._ray.put(value)]
        except Exception as error:
            raise DeviceUnavailableError(
                f"The Ray cluster's object store does not take the model: {type(error).__name__}: {error!s:.300}. "
                "Give nodes more of it (ray start --object-store-memory), or free disk space to spill to."
            ) from error

    def named(self) -> list[tuple[str, str, int]]:
        """The actors that share the service, by whichever process they were started: names, nodes and CPUs."""
        if not self.service:
            return []
        found = self._ray.util.list_named_actors(all_namespaces=True)
        names = [one["name"] for one in found if one["namespace"] == self.namespace]
        parts = [(name, *name.rsplit("/", 3)) for name in names if name.startswith(f"{self.service}/")]
        return [(name, node, int(cpus)) for name, service, node, cpus, _ in parts if service == self.service]

    def start(self, kind: type, node: str, cpus: int, threads: int, name: str = "") -> Any:
        """A new actor of a class on a node, which runs so many calls at a time, two of `control`, and one of `health`.

        Where there is one of this name it is that.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        made = self._ray.remote(max_restarts=-1, max_task_retries=0, concurrency_groups=GROUPS)(kind)
        extra: dict[str, Any] = {"runtime_env": self._environment} if self._environment else {}
        if name:
            extra |= {"name": name, "namespace": self.namespace, "lifetime": "detached", "get_if_exists": True}
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return made.options(num_cpus=cpus, max_concurrency=threads, scheduling_strategy=strategy, **extra).remote()

    def call(self, actor: Any, method: str, arguments: tuple[Any, ...], done: Done, group: str = "") -> None:
        """Call a method of an actor, in a group of `GROUPS` or that of inferences; `done` comes on a thread of Ray's.

        Raises what Ray raises where the call cannot be made.
        """
        bound = getattr(actor, method)
        if group:
            bound = bound.options(concurrency_group=group)

        def over(future: Any) -> None:
            error = future.exception()
            done(None if error else future.result(), error)

        bound.remote(*arguments).future().add_done_callback(over)

    def kill(self, actor: Any) -> None:
        """End an actor's process for good."""
        with suppress(Exception):  # the cluster may be gone
            self.check()
            self._ray.kill(actor, no_restart=True)

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error of a call is about the replica's process or node, or the way there."""
        return isinstance(error, self._ray.exceptions.RayError) and not isinstance(
            error, self._ray.exceptions.RayTaskError
        )

    def is_dead(self, error: BaseException) -> bool:
        """Whether the replica never comes back."""
        return isinstance(error, self._ray.exceptions.ActorDiedError)

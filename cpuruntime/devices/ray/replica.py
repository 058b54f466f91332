"""What runs on a node: an actor with a model that a device there has compiled."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import numpy as np

from cpuruntime.devices.interface import TERMS, DeviceModel, DeviceRequest, Terms
from cpuruntime.devices.ray.schedule import fair_shares
from cpuruntime.errors import DeviceUnavailableError, Error, InternalError, InvalidArgumentError
from cpuruntime.host.ledger import machine
from cpuruntime.properties.hint import Priority
from cpuruntime.version import __version__

ABSENT, UNUSED = 5.0, 30.0
"""Seconds after which a process that shares a replica counts as gone, and a replica without any ends."""

UNLOADED = "unloaded"
"""What a replica answers that was started again and has no model yet."""

Sent = tuple[str, int, Sequence[np.ndarray]]
"""A request on its way: its priority, the nanoseconds to its deadline or 0, and its inputs."""

Answer = tuple["BaseException | None", Sequence[np.ndarray], int, Sequence[Any]]
"""Its error, its outputs, the nanoseconds for which it was executed, and its profile."""


class Replica:
    """A model, the requests that run it, and those in progress. Ray calls it on several threads."""

    def __init__(self) -> None:
        self._digest = ""
        self._clients: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._model: DeviceModel | None = None
        self._local = threading.local()
        self._running: dict[int, list[DeviceRequest]] = {}

    def load(
        self, version: str, host: bytes, device: str, config: dict[str, Any], graph: list[Any], digest: str, client: str
    ) -> Any:
        """Compile a graph in place of the model there is, unless it is that one: facts about the model, or an error.

        `version` is the driver's, and checked before anything of the driver's is unpickled. `graph` has a reference,
        and `digest` identifies the model. A replica that processes share has one model, which all must want.
        """
        if version != __version__:
            return DeviceUnavailableError(
                f"The node has cpuruntime {__version__} and the driver {version}: install the same version on both."
            )
        if client:
            self.share(client, 1, 1)
        with self._lock:
            if client and self._model is not None and self._digest != digest:
                return InvalidArgumentError("RAY_SERVICE has replicas of another model; give this one another name.")
            if self._model is None or self._digest != digest:
                self._digest = digest
                self._facts = self._compile(host, device, config, graph)
            return self._facts

    def ping(self) -> int:
        """The number of the process, which is another one after it was started again."""
        return os.getpid()

    def _compile(self, host: bytes, device: str, config: dict[str, Any], graph: list[Any]) -> Any:
        import ray

        if self._model is not None:
            self._model.close()
            self._model = None
        try:
            devices = pickle.loads(host)
            known = devices.get_property(device, "SUPPORTED_PROPERTIES")
            config = {name: value for name, value in config.items() if known.get(name) == "RW"}
            model = devices.compile(ray.get(graph[0]), device, config)
            found = {name: model.get_property(name) for name in model.properties}
            explanation = model.explain()
        except Exception as error:
            return error if isinstance(error, Error) else _internal(error)
        self._model = model
        return {
            "pid": os.getpid(), "machine": machine(), "cores": os.sched_getaffinity(0), "properties": found,
            "rows": [*explanation.rows], "decisions": [*explanation.decisions],
            "inputs": model.inputs, "outputs": model.outputs,
        }  # fmt: skip

    def share(self, client: str, demand: int, slots: int) -> int:
        """How many calls at a time a process may have here, with the demands of all that share the replica."""
        now = monotonic()
        is_first = not self._clients
        self._clients[client] = now, demand
        if is_first:
            import ray

            own = ray.get_runtime_context().current_actor
            threading.Thread(target=self._end_unused, args=(ray, own), daemon=True).start()
        present = {one: wish for one, (seen, wish) in [*self._clients.items()] if now - seen < ABSENT}
        return fair_shares(present, slots)[client]

    def leave(self, client: str) -> None:
        """A process no longer uses the replica."""
        if client in self._clients:
            self._clients[client] = -ABSENT, 0

    def _end_unused(self, ray: Any, own: Any) -> None:
        """End this actor when no process has used it for a while."""
        while monotonic() - max(seen for seen, _ in [*self._clients.values()]) < UNUSED:
            sleep(1)
        ray.kill(own, no_restart=True)

    def infer(self, number: int, sent: Sequence[Sent]) -> Any:
        """Run requests at the same time: an answer for each, and how many nanoseconds passed here."""
        arrived = perf_counter_ns()
        model = self._model
        if model is None:
            return UNLOADED
        requests = self._requests(model, len(sent))
        self._running[number] = requests
        try:
            errors = [_start(request, arrived, *one) for request, one in zip(requests, sent)]
            answers = [_answer(model, one, error, arrived) for one, error in zip(requests, errors)]
        finally:
            self._running.pop(number, None)
        return answers, perf_counter_ns() - arrived

    def _requests(self, model: DeviceModel, count: int) -> list[DeviceRequest]:
        """This thread's own: Ray copies a call's results before the thread begins the next one."""
        if getattr(self._local, "model", None) is not model:
            self._local.model, self._local.requests = model, []
        while len(self._local.requests) < count:
            self._local.requests.append(model.create_request())
        return self._local.requests[:count]

    def cancel(self, number: int, index: int) -> None:
        """Cancel a request of a call in progress; best effort."""
        requests = self._running.get(number, [])
        if index < len(requests):
            requests[index].cancel()

    def explain(self, measure: bool) -> tuple[list[Any], list[str]]:
        """The rows and decisions of the model's explanation; none while it has no model."""
        if self._model is None:
            return [], []
        explanation = self._model.explain(measure)
        return [*explanation.rows], [*explanation.decisions]


def _start(request: DeviceRequest, arrived: int, priority: str, left: int, arrays: Sequence[Any]) -> Exception | None:
    try:
        for index, array in enumerate(arrays):
            request.set_input(index, array)
        plain = priority == TERMS.priority.value and not left
        request.start(TERMS if plain else Terms(Priority(priority), arrived + left if left else 0))
    except Exception as error:
        return error
    return None


def _answer(model: DeviceModel, request: DeviceRequest, error: BaseException | None, arrived: int) -> Answer:
    """The answer of a request, which is waited for; what was sent is released where the model has own memory."""
    outputs: list[np.ndarray] = []
    profile: list[Any] = []
    executed = 0
    if error is None:
        request.wait()
        error, ended = request.result()
        _, began, ended = request.moments() or (0, arrived, ended)
        executed = max(0, ended - max(arrived, began))
    if error is None:
        outputs = [request.output_array(index) for index in range(len(model.outputs))]
        profile = request.profiling() if model.properties.get("PERF_COUNT") else []
    elif not isinstance(error, Error | MemoryError):
        error = _internal(error)
    for index, port in enumerate(model.inputs):
        if port.partial_shape.is_static:
            with suppress(Exception):
                request.input_array(index, tuple(port.partial_shape.to_shape()))
    return error, outputs, executed, profile


def _internal(error: BaseException) -> Error:
    return InternalError(f"A replica failed: {type(error).__name__}: {error}.")

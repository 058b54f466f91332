"""The devices that AUTO tries for a model, and what compiles for them in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from cpuruntime.devices.auto.choice import is_cpu
from cpuruntime.devices.composed.members import Member
from cpuruntime.devices.composed.plugin import ComposedPlugin
from cpuruntime.devices.names import Argument
from cpuruntime.errors import Error, InvalidArgumentError, printable
from cpuruntime.graph import Graph
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import PerformanceMode

log = logging.getLogger("cpuruntime")

Loading = Future["Member | None"]


class Candidates:
    """The devices of a model in their order, of which each is tried once. One thread at a time calls `load_next`.

    Attributes:
        first: the preferred one, by name.
        left: those that were not tried.
        errors: what those that were tried raised.
        helper: the CPU's model that serves meanwhile, or is being compiled to.
    """

    def __init__(self, plugin: ComposedPlugin, graph: Graph, settings: Settings, arguments: list[Argument]) -> None:
        self.first = arguments[0].device
        self.left = deque(arguments)
        self.errors: dict[str, Exception] = {}
        self.helper: Loading | None = None
        self._plugin, self._settings = plugin, settings
        self._graph: Graph | None = graph
        self._name = graph.name
        self._helping: Argument | None = None
        if settings.value("ENABLE_STARTUP_FALLBACK") and not is_cpu(arguments[0].device):
            self._helping = next((one for one in arguments if is_cpu(one.device)), None)

    def start_helper(self) -> Loading | None:
        """Compile for the CPU in the background, where that is wanted."""
        argument = self._helping
        if argument is not None:
            self.helper = in_background(lambda: self._load(argument, f"({argument.device})", self._helper_config()))
        return self.helper

    def load_next(self) -> Member | None:
        """The next device that can run the model; None where none is left. A wrong value is raised."""
        while self.left:
            argument = self.left.popleft()
            config = self._plugin.config_for(argument.device, self._settings)
            helper = self.helper
            if helper is not None and argument == self._helping and config == self._helper_config():
                member = helper.result()
            else:
                member = self._load(argument, argument.device, config)
            if member is not None:
                member.name = argument.device
                self.helper = None  # its model is closed from now on, or serves
                return member
        return None

    def forget(self) -> None:
        """No device is to be tried any more: its weights need no memory."""
        self.left.clear()
        self._graph = None

    def all_failed(self) -> Error:
        """The error of a model that no device takes."""
        return self._plugin.all_failed(self._name, self.errors)

    def _helper_config(self) -> dict[str, Any]:
        assert self._helping is not None
        config = self._plugin.config_for(self._helping.device, self._settings)
        return config if "NUM_STREAMS" in config else {**config, "PERFORMANCE_HINT": PerformanceMode.LATENCY}

    def _load(self, argument: Argument, name: str, config: dict[str, Any]) -> Member | None:
        graph = self._graph
        assert graph is not None
        try:
            model = self._plugin.compile_one(graph, argument.device, config)
            workers = argument.number or model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            return Member(name, model, workers, config)
        except InvalidArgumentError:
            raise
        except Exception as error:
            self.errors[argument.device] = error
            log.warning("model '%s' goes without device %s: %s", printable(graph.name), argument.device, error)
            return None


def in_background(function: Callable[[], Member | None], then: Callable[[Loading], None] | None = None) -> Loading:
    """What a function returns or raises, once a thread of its own has called it, which then calls `then` with it."""
    future: Loading = Future()
    if then is not None:
        future.add_done_callback(then)

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="cpuruntime-auto", daemon=True).start()
    return future

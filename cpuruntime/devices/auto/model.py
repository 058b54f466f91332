"""A model that one device serves at a time, and another one instead when that is ready or the first fails."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from time import monotonic, perf_counter_ns
from typing import Any

from cpuruntime.devices.auto.candidates import Candidates, Loading, in_background
from cpuruntime.devices.auto.choice import register
from cpuruntime.devices.composed.members import Member
from cpuruntime.devices.composed.model import DispatchedModel
from cpuruntime.devices.composed.plugin import ComposedPlugin
from cpuruntime.devices.composed.policies import by_priority
from cpuruntime.devices.interface import DeviceModel
from cpuruntime.devices.names import Argument
from cpuruntime.errors import printable
from cpuruntime.graph import Graph
from cpuruntime.properties import PROPERTIES, Settings
from cpuruntime.properties.declaration import Group
from cpuruntime.trace.recorder import mark

log = logging.getLogger("cpuruntime")

_OWN = {"NETWORK_NAME", "EXECUTION_DEVICES", "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "SUPPORTED_PROPERTIES"}


class AutoModel(DispatchedModel):
    """A model on one device; on another one as soon as that is ready, or when the first fails.

    Inferences that a device has begun it finishes, then its model is closed; later ones run on the next device.

    Attributes:
        device: the one that the model is for, which may still be compiling.
        priority: its MODEL_PRIORITY.
    """

    def __init__(
        self,
        plugin: ComposedPlugin,
        settings: Settings,
        candidates: Candidates,
        member: Member,
        notes: list[str],
        loading: Loading | None = None,
    ) -> None:
        super().__init__(str(plugin.target), [member], by_priority, settings.resolved())
        self.device = candidates.first if loading else member.name
        self.priority = settings.value("MODEL_PRIORITY")
        self.notes += [*notes, f"{member.name} serves"]
        self._candidates = candidates
        self._serving = member
        self._measure_ms: int = settings.value("AUTO_MEASURE_MS")
        self._falls_back: bool = settings.value("ENABLE_RUNTIME_FALLBACK")
        self._lock = threading.Lock()
        self._is_loading = loading is not None
        self._settled = threading.Event()
        self.dispatcher.on_failure = self._on_failure
        register(self)
        if loading is None:
            self._settle(member)
            self._settled.set()
        else:
            self.notes.append(f"{self.device} is compiling")
            loading.add_done_callback(self._arrive)

    def get_property(self, name: str) -> Any:
        """Its own, or what the device that serves answers."""
        serving = self.members[0].model
        is_own = name in _OWN or name not in serving.properties
        if is_own or (name in PROPERTIES and PROPERTIES[name].group is Group.COMPOSED):
            return super().get_property(name)
        return serving.get_property(name)

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        """Wait also for the device that is compiling."""
        end = None if timeout is None else monotonic() + timeout
        if not self._settled.wait(timeout):
            return False
        return super().wait_until_optimized(None if end is None else max(0.0, end - monotonic()))

    def _on_failure(self, member: Member, error: BaseException) -> bool:
        """A device failed in an inference: whether that waits for another device. The dispatcher's lock is held."""
        with self._lock:
            if not self._falls_back or self.closed:
                return False
            if self._is_loading or member is not self._serving:
                return True
            if not self._candidates.left:
                return False
            self._is_loading = True
            self._settled.clear()
        self.notes.append(f"{member.name} failed, the next device is compiling: {error}")
        try:
            in_background(self._candidates.load_next, self._arrive)
        except RuntimeError:  # no more threads
            self._settle(member)
            self._settled.set()
            return False
        return True

    def _arrive(self, loading: Loading) -> None:
        """The next device has compiled, or no other one can."""
        old, error = self._serving, loading.exception()
        member = None if error is not None else loading.result()
        if member is None or member is old:
            reasons = [f"{device}: {why}" for device, why in self._candidates.errors.items()]
            note = f"no other device can run the model: {'; '.join(reasons) or error}"
            member = old
        elif self._is_slower(member, old):
            note = f"{member.name} is slower: {_compared(member, old)}"
            member.model.close()
            self._candidates.left.clear()
            member = old
        else:
            note = f"{old.name} served {old.served} inferences"
        member.name = member.name.strip("()")
        self._settle(member)
        self._log(f"{member.name} serves {'on' if member is old else 'now'}; {note}")
        if member is old:
            self.dispatcher.resume()
        else:
            self.dispatcher.set_members([member])
        with self._lock:
            if not self._is_loading:
                self._settled.set()

    def _settle(self, member: Member) -> None:
        """A device serves, and none is compiling."""
        with self._lock:
            self._serving = member
            self.device = member.name
            self._is_loading = False
            if not self._falls_back or not self._candidates.left:
                self._candidates.forget()

    def _log(self, note: str) -> None:
        self.notes.append(note)
        name = printable(self.properties["NETWORK_NAME"])
        log.info("model '%s' on %s: %s", name, self._label, note)
        mark(f"{self._label}: {note}", model=name)

    def _is_slower(self, new: Member, old: Member) -> bool:
        """Whether a device takes longer for an inference than the one that serves, as far as AUTO_MEASURE_MS allows."""
        if not self._measure_ms or old.retry_at or not all(port.partial_shape.is_static for port in self.inputs):
            return False
        try:
            for member in (new, old):
                member.service = measured(member.model, self._measure_ms)
        except Exception as error:  # zeros may be no inputs for the model
            self.notes.append(f"AUTO_MEASURE_MS has no effect: {error}")
            return False
        return bool(new.service and old.service and new.service > old.service)


def measured(model: DeviceModel, milliseconds: float) -> float:
    """The least nanoseconds of an inference on zeros, of those that fit in half of a time, and two at least."""
    request = model.create_request()
    request.run()
    began = perf_counter_ns()
    best = float("inf")
    while True:
        start = perf_counter_ns()
        request.run()
        end = perf_counter_ns()
        best = min(best, end - start)
        if end - began >= milliseconds * 500_000:
            return best


def _compared(new: Member, old: Member) -> str:
    times = [one.service / 1e6 for one in (new, old) if one.service is not None]
    return " against ".join(f"{time:.3g} ms" for time in times)


def start(
    plugin: ComposedPlugin, graph: Graph, settings: Settings, arguments: list[Argument], notes: list[str]
) -> DeviceModel:
    """A model on the device that is ready first: the chosen one, or the CPU until the chosen one is.

    Raises what the only device raised, or DeviceUnavailableError with the reasons of all.
    """
    candidates = Candidates(plugin, graph.clone(), settings, arguments)
    helper = candidates.start_helper()
    if helper is None:
        member = candidates.load_next()
        if member is None:
            raise candidates.all_failed()
        return AutoModel(plugin, settings, candidates, member, notes)
    chosen = in_background(candidates.load_next)
    try:
        wait((chosen, helper), return_when=FIRST_COMPLETED)
        member = chosen.result() if chosen.done() else helper.result() or chosen.result()
        if member is None:
            raise candidates.all_failed()
    except BaseException:
        chosen.add_done_callback(_discard)
        helper.add_done_callback(_discard)
        raise
    if chosen.done() and chosen.exception() is None and chosen.result() is member:
        helper.add_done_callback(partial(_discard, but=member))
        return AutoModel(plugin, settings, candidates, member, notes)
    return AutoModel(plugin, settings, candidates, member, notes, chosen)


def _discard(loading: Loading, but: Member | None = None) -> None:
    """Close a model that nobody uses, unless it is one that serves."""
    member = None if loading.exception() is not None else loading.result()
    if member is not None and member is not but:
        member.model.close()

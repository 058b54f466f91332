"""Models that answer before their kernels are compiled: NumPy computes inferences until the streams are ready.

A thread plans the model while workers compile its kernels. Requests change over between two inferences.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cpuruntime.compiler import pool
from cpuruntime.compiler.kernel import Kernel
from cpuruntime.devices.cpu.progress import CompileProgress
from cpuruntime.devices.cpu.request import CpuRequest
from cpuruntime.devices.explanation import Explanation
from cpuruntime.devices.forwarding import ForwardingRequest
from cpuruntime.devices.interface import DeviceModel, DeviceRequest, Exported
from cpuruntime.devices.ports import BoundArrays, PortInfo
from cpuruntime.devices.serial import SerialModel
from cpuruntime.errors import Error, UnsupportedError, printable
from cpuruntime.graph import Graph, Kind, Node, Value
from cpuruntime.host import forks
from cpuruntime.operators import control_flow
from cpuruntime.passes import evaluate
from cpuruntime.properties import Settings
from cpuruntime.streams.call import Call
from cpuruntime.trace.recorder import mark, span

log = logging.getLogger("cpuruntime")

POLL = 0.2
"""Seconds between two looks at the state of the process while somebody waits."""
HEAD_START = 1.0
"""Seconds that the first inference has the processors for itself; arbitrary."""


class Missing(Exception):
    """Kernels of a model are not compiled."""


def refuse_missing(kernels: Sequence[Kernel]) -> None:
    """Loads kernels; raises Missing where some are not compiled."""
    if not all(map(pool.load, kernels)):
        raise Missing


def may_start_on_numpy(graph: Graph, settings: Settings) -> bool:
    """Whether COMPILE_MODE asks for it, streams are not measured before they are chosen, and all ports are tensors."""
    is_measured = settings.value("STREAMS_CALIBRATION_MS") or settings.value("LATENCY_TARGET_MS")
    is_asked = settings.value("COMPILE_MODE") == "FAST_START"
    return is_asked and not is_measured and all(v.kind is Kind.TENSOR for v in (*graph.inputs, *graph.outputs))


def _first(
    is_over: threading.Event, graph: Graph, inputs: Sequence[np.ndarray], begin: Callable[[int], None]
) -> list[np.ndarray]:
    """An inference that says when it is over."""
    try:
        return _interpret(graph, inputs, begin)
    finally:
        is_over.set()


def _interpret(graph: Graph, inputs: Sequence[np.ndarray], begin: Callable[[int], None]) -> list[np.ndarray]:
    # Copies: NumPy checks all indices and then reads them again, and users may write to the inputs at any time.
    arrays: dict[Value, Any] = dict(zip(graph.inputs, [array.copy() for array in inputs]))
    readers = {value: node for node in graph.nodes for value in node.inputs if value is not None}
    kept = {*graph.outputs}
    for index, node in enumerate(graph.nodes):
        values = [None if v is None else arrays[v] if v.constant is None else v.constant for v in node.inputs]
        arrays.update(zip(node.outputs, _run(node, values, partial(begin, index))))
        for value in node.inputs:
            if value is not None and readers[value] is node and value not in kept:
                arrays.pop(value, None)
    return [arrays[value] if value.constant is None else value.constant for value in graph.outputs]


def _run(node: Node, values: Sequence[Any], begin: Callable[[], None]) -> list[Any]:
    begin()
    if node.op_type in control_flow.OPERATORS and node.domain == "":
        return control_flow.run(node, values, partial(_run, begin=begin))
    return evaluate(node, values)


class StartingModel(DeviceModel):
    """A model that runs on NumPy until `build`, called in a thread with a `pool.Progress`, has made the one for it.

    Args:
        plugin: named in errors and in `explain`.
        graph: as it was read; `evaluated` is what NumPy computes, after passes or not.
        resolved: the model's properties.
        release: called where no model is built.
    """

    def __init__(
        self, plugin: Any, graph: Graph, evaluated: Graph, settings: Settings, resolved: Mapping[str, Any],
        build: Callable[[pool.Progress], DeviceModel], release: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(PortInfo.inputs_of(graph), PortInfo.outputs_of(graph), resolved)
        self._may_build = threading.Event()
        numpy = SerialModel(plugin, evaluated, settings, partial(_first, self._may_build, evaluated))
        self._numpy: SerialModel | None = numpy
        self.optimised: DeviceModel | None = None
        self._error: Exception | None = None
        self._progress = (0, 0, 0.0)
        self._is_over = threading.Event()
        self._generation = forks.generation
        name = printable(graph.name)
        log.info("model '%s': kernels are compiled in the background; NumPy computes its inferences until then", name)
        arguments = weakref.ref(self), build, release, self._may_build, self._is_over, name
        threading.Thread(target=_build, args=arguments, name="cpuruntime-plan", daemon=True).start()

    def report(self, done: int, total: int, left: float) -> None:
        """Notes how far compiling is."""
        self._progress = done, total, left

    def finish(self, model: DeviceModel | None, error: Exception | None) -> None:
        """Takes what was built, or why nothing was."""
        self._error = error
        self.optimised = model
        if model is not None:
            mark("kernels take over from NumPy", model=self.properties["NETWORK_NAME"])
            self._numpy = None
            if self.closed:
                model.close()

    def get_property(self, name: str) -> Any:
        return self.optimised is not None if name == "OPTIMIZED" else super().get_property(name)

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._may_build.set()
        while not self._is_over.is_set():
            self.check_open()
            forks.check(self._generation)
            left = POLL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._is_over.wait(min(POLL, left))
        if self._error is not None:
            raise self._error
        return True

    def create_request(self) -> DeviceRequest:
        self.check_open()
        return StartingRequest(self)

    def worker_request(self) -> DeviceRequest:
        """A request of the model that is there now."""
        numpy = self._numpy  # before the other, which comes first
        return numpy.create_request() if self.optimised is None and numpy else self._final().create_request()

    def _final(self) -> DeviceModel:
        assert self.optimised is not None
        return self.optimised

    def explain(self, measure: bool = False) -> Explanation:
        if measure:
            self.wait_until_optimized()
        numpy = self._numpy
        if numpy is None:
            return self._final().explain(measure)
        explained, (done, total, _) = numpy.explain(), self._progress
        state = f"{done} of {total} kernels are compiled" if self._error is None else f"planning failed: {self._error}"
        decisions = [f"COMPILE_MODE is FAST_START: NumPy computes inferences; {state}", *explained.decisions]
        return replace(explained, decisions=decisions)

    def export(self) -> Exported:
        if self.optimised is None:
            raise UnsupportedError(f"Model '{self.properties['NETWORK_NAME']}' is not stored while NumPy computes it.")
        return self.optimised.export()

    def when_planned(self, function: Callable[[], None]) -> None:
        if self.optimised is not None:
            self.optimised.when_planned(function)

    def release_memory(self) -> None:
        if self.optimised is not None:
            self.optimised.release_memory()

    def close(self) -> None:
        self.closed = True
        self._may_build.set()
        for model in (self._numpy, self.optimised):
            if model is not None:
                model.close()


def _build(
    model: weakref.ref[StartingModel], build: Callable[[pool.Progress], DeviceModel], release: Callable[[], None],
    may_build: threading.Event, is_over: threading.Event, name: str,
) -> None:  # fmt: skip
    """Builds the model for good; refers to the one it is for in passing only, so that it can be dropped."""

    def report(done: int, total: int, left: float) -> None:
        one = model()
        if one is None or one.closed:
            raise Error(f"Model '{name}' is closed.")
        one.report(done, total, left)
        show(done, total, left)

    may_build.wait(HEAD_START)
    built, error = None, None
    try:
        with span("compile in the background", model=name), CompileProgress() as show:
            built = build(report)
    except Exception as raised:
        error = raised
        release()
    one = model()
    if one is not None:
        if error is not None and not one.closed:
            log.warning("model '%s' stays on NumPy, slowly: %s", name, error)
        one.finish(built, error)
    elif built is not None:
        built.close()
    is_over.set()


class StartingRequest(BoundArrays, ForwardingRequest):
    """A request of the stand-in, and from the first inference after the streams are ready one of theirs."""

    def __init__(self, model: StartingModel) -> None:
        self._model = model
        self.worker = model.worker_request()
        self._is_final = isinstance(self.worker, CpuRequest)
        self.bind_own(model.inputs, model.outputs)

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._inputs[index] = array
        self.worker.set_input(index, array)

    def output_array(self, index: int) -> np.ndarray:
        return self.worker.output_array(index)

    def set_output(self, index: int, array: np.ndarray) -> None:
        self.worker.set_output(index, array)

    def infer_again(self, call: Call) -> Callable[..., Any] | None:
        return self.worker.infer_again(call) if self._is_final else None

    def choose(self) -> DeviceRequest:
        """As of any such request; the first time when the streams are ready a new one is made."""
        final = self._model.optimised
        if not self._is_final and final is not None:
            worker = final.create_request()
            for index, array in enumerate(self._inputs):
                if array is not None:
                    worker.set_input(index, array)
            for index, port in enumerate(self._model.outputs):
                if port.partial_shape.is_static:
                    worker.set_output(index, self.worker.output_array(index))
            self.worker, self._is_final = worker, True
        return self.worker

"""What a device is: a `Plugin` compiles graphs to `DeviceModel`s, whose `DeviceRequest`s run inferences.

`cpuruntime.devices.serial` makes a complete device from one method; `cpuruntime.devices.null` is the smallest on it.
The public objects (`Core`, `CompiledModel`, `InferRequest`) are the callers.

- The caller checked property names and values against `Plugin.properties()`, and that arrays match their port's element
  type and shape. One thread at a time touches a request and, apart from `cancel`, never while it runs.
- The device allows different requests of one model in different threads at the same time. `start` returns without
  waiting for an inference. Once an inference is over the device neither reads nor writes the memory bound to it.
- Errors reach the user as they are, so they are the types in `cpuruntime.errors` with texts for users.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cpuruntime.devices.completion import AnyCompletion, AnyNotified
from cpuruntime.devices.configured import Configured
from cpuruntime.devices.explanation import Explanation, ProfilingInfo
from cpuruntime.devices.names import DeviceName
from cpuruntime.devices.ports import PortInfo
from cpuruntime.devices.remote import DeviceContext, DeviceTensor
from cpuruntime.errors import Error, InternalError, InvalidArgumentError, UnsupportedError, nearest, printable
from cpuruntime.graph import Graph
from cpuruntime.hints import StreamPlan
from cpuruntime.host.topology import Topology
from cpuruntime.properties import Settings
from cpuruntime.properties.hint import Priority
from cpuruntime.records import record
from cpuruntime.store import SectionFile
from cpuruntime.streams.call import Call
from cpuruntime.trace.events import StepLabel, Steps

if TYPE_CHECKING:
    from cpuruntime.passes import Pipeline


@record
class Terms:
    """On what terms an inference is to be run.

    Attributes:
        priority: of the requests of a model that wait for a stream, those of a higher priority begin first; of these
            the one with the earliest deadline, else the one started first. A device without a queue may ignore it.
        deadline: nanoseconds on the clock of perf_counter_ns, or 0 for none. Once it has passed the inference ends with
            DeadlineExceededError: at once if it waits, at its next step if it runs.
    """

    priority: Priority = Priority.MEDIUM
    deadline: int = 0


Exported = tuple[dict[str, Any], dict[str, list[bytes | memoryview]]]
"""What is stored of a model: facts that JSON can hold, and sections of memory by name."""

NEEDS_SOURCE = "needs source"

TERMS = Terms()
"""The terms of an inference for which none are set."""


class DeviceRequest(ABC):
    """The mutable state of one inference at a time: the bound memory, and the means to run.

    After `create_request` every input of static shape is bound to memory as by `input_array`, and every output to
    memory of the request's own.
    """

    @abstractmethod
    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """Memory of the request's own for input `index`, which becomes the bound one.

        The array is C-contiguous, 64-byte aligned and has the port's dtype and `shape` (given complete, compatible with
        the port). Asked again for the same shape it is the same memory with the same content; for another shape it may
        lie in the memory of the old array, and has any content.
        """

    @abstractmethod
    def set_input(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to input `index`: C-contiguous, the port's dtype, a compatible shape, any alignment.

        It may be read only: inputs are never written. Each following inference reads it while it runs, until another is
        bound; the request holds a reference so long.
        """

    @abstractmethod
    def output_array(self, index: int) -> np.ndarray:
        """The memory bound to output `index`, holding the result once an inference is over.

        C-contiguous, 64-byte aligned unless it is the user's. For an output of static shape it is the same array until
        `set_output`. For one of dynamic shape it has the last inference's shape (before the first, with 0 for each
        dynamic dimension); an array returned earlier stays valid and may be overwritten.
        """

    @abstractmethod
    def set_output(self, index: int, array: np.ndarray) -> None:
        """Bind the user's memory to output `index`, of static shape: writeable, C-contiguous, its dtype and shape.

        Each following inference writes its result there. The caller sees to it that it overlaps neither another output
        nor a bound input.
        """

    def run(self) -> None:
        """Run one inference and return when it is over; it may run in the caller's thread or in one of the device's.

        Whatever it raises, KeyboardInterrupt included, the inference is over by then: an interrupt is held back until
        the memory is no longer in use. CancelledError after a `cancel` that had effect.
        """
        try:
            self.start()
            self.wait()
        except BaseException:
            while self.cancel():
                with suppress(BaseException):  # further interrupts do not end the wait
                    self.wait()
            raise
        error, _ = self.result()
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # the error's traceback refers to this frame

    @abstractmethod
    def start(self, terms: Terms = TERMS, function: Callable[[], None] | None = None) -> bool | None:
        """Queue one inference and return at once; `function` is called after it as by `notify`, which takes longer.

        Returns whether it is over without an error: one that takes less time than to hand it over may run here.
        When it raises, nothing was queued, with one exception: KeyboardInterrupt may strike in any line, so after it
        the caller asks `cancel` whether an inference was queued and is not over. Its function may then be unknown.
        """

    def infer_again(self, call: Call) -> Callable[..., Any] | None:
        """A function that does in one step what an inference on unchanged memory does; see `streams.again`.

        The memory is that of `call`. None where the device has no such function, has it not yet, or gave it before.
        """
        return None

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether the inference started last is over; True before the first. From any thread."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `is_over`, at most for so many seconds: whether it is. From any thread; Ctrl-C interrupts it."""

    @abstractmethod
    def result(self) -> tuple[BaseException | None, int]:
        """How the inference started last, which is over, ended: its error or None (CancelledError after a `cancel` that
        had effect), and when, on the clock of perf_counter_ns."""

    @abstractmethod
    def notify(self, function: Callable[[], None]) -> None:
        """Call a function once, after the inference started last is over, or now if it is over already.

        It is called on one of the device's threads, or on this one if the inference is over. It does not raise. It may
        take as long as a user's callback, which should not keep other inferences waiting, and may call anything of
        this interface, so the device holds no lock meanwhile. The device drops it once it was called, since it may
        refer to the public request, which keeps the model open. One inference may have several functions.
        """

    def set_remote(self, side: str, index: int, tensor: DeviceTensor) -> None:
        """Bind memory of the device to number `index` of the "input"s or "output"s, of the port's type and shape.

        Following inferences use it there, until other memory is bound. Raises UnsupportedError where the device has
        none, InvalidArgumentError for memory of another device or context.
        """
        raise UnsupportedError("This device uses no remote tensors: copy_to() brings them to the host.")

    def any_completion(self, requests: Sequence[DeviceRequest]) -> AnyCompletion:
        """Something to wait for: an inference of any of these idle requests of the same model, this one among them.

        A request has the latest one that it was asked for only.
        """
        return AnyNotified()

    @abstractmethod
    def cancel(self) -> bool:
        """Ask that the queued or running inference end early; from any thread, without waiting.

        Returns whether one was queued and is not over; without one it does nothing. Best effort: one that is already
        computing may finish.
        """

    def moments(self) -> tuple[int, int, int] | None:
        """When the last inference was taken from the queue, began and ended, on the clock of perf_counter_ns.

        Moments that did not come are 0 or lie before its start. None where the device does not know.
        """
        return None

    def transferred(self) -> int:
        """Nanoseconds of the last inference, between the first two of `moments`, on the way to and from a machine."""
        return 0

    def profiling(self) -> list[ProfilingInfo]:
        """Times of the last inference, a row for each step; NOT_RUN rows without PERF_COUNT or before the first."""
        return []

    def executed(self) -> tuple[str, int, Steps]:
        """What a timeline shows of the last inference: what ran it (a stream with its processors), when its first step
        began on the clock of perf_counter_ns, and its steps. "" and 0 where the device does not know.
        """
        rows = [row for row in self.profiling() if row.status is ProfilingInfo.EXECUTED]
        labels = [StepLabel(row.node_name, row.node_type, row.exec_type) for row in rows]
        return "", 0, [(labels, [int(row.real_time.total_seconds() * 1e9) for row in rows])]


class DeviceModel(ABC):
    """A graph compiled for a device: immutable, shared by all its requests and by threads.

    Args:
        inputs: the ports in the model's order; names, types and shapes as in the graph that was compiled.
        outputs: likewise.
        properties: what `get_property` answers, by name: resolved values ("NUM_STREAMS" as it became), with at least
            NETWORK_NAME, EXECUTION_DEVICES and OPTIMAL_NUMBER_OF_INFER_REQUESTS, and each setting with an effect.
            Those in the attribute `live`, by default none, `set_property` changes.
    """

    def __init__(self, inputs: Sequence[PortInfo], outputs: Sequence[PortInfo], properties: Mapping[str, Any]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.properties: dict[str, Any] = {"SUPPORTED_PROPERTIES": None, "LOADED_FROM_CACHE": False, **properties}
        self.properties["SUPPORTED_PROPERTIES"] = dict.fromkeys(self.properties, "RO")
        self.live: frozenset[str] = frozenset()
        self.closed = False

    @abstractmethod
    def create_request(self) -> DeviceRequest:
        """A new request; any number may exist, also more than run at a time. Raises Error once closed."""

    def get_property(self, name: str) -> Any:
        """The value of one of `properties`; the caller checked that there is one."""
        return self.properties[name]

    def set_property(self, values: Mapping[str, Any]) -> None:
        """Change properties of `live` to parsed values, while the model may run. Raises the errors of `compile`."""
        raise InternalError(f"No property of this model changes: {', '.join(values)}.")

    def check_open(self) -> None:
        """Raise Error when the model is closed."""
        if self.closed:
            name, devices = self.properties["NETWORK_NAME"], ", ".join(self.properties["EXECUTION_DEVICES"])
            raise Error(f"Model '{printable(name)}' on device {devices} is closed; compile it again.")

    def explain(self, measure: bool = False) -> Explanation:
        """The steps and decisions; with `measure` each step is timed on random inputs, where the device can do that."""
        return Explanation(", ".join(self.properties["EXECUTION_DEVICES"]))

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        """Wait until nothing slower stands in for the device's kernels, at most for so many seconds: whether that is.

        Raises what made it impossible.
        """
        return True

    def export(self) -> Exported:
        """What `Plugin.restore` makes the model from again, in another process; the memory may be the model's own.

        With the fact NEEDS_SOURCE, which says why, it is made with a source only.
        Raises UnsupportedError where it cannot be stored; the message says why.
        """
        device = ", ".join(self.properties["EXECUTION_DEVICES"])
        raise UnsupportedError(f"Models on device {device} cannot be stored.")

    def when_planned(self, function: Callable[[], None]) -> None:
        """Have a function called each time when `export` gives more than before, for shapes that an inference was first
        to have; by the thread that plans, which holds locks. Nothing, unless a device plans so late.
        """
        return

    def replace(self, graph: Graph) -> None:
        """Serve another graph with the same ports, without a pause; returns when no inference uses the old one.

        Raises UnsupportedError where the device cannot, else what `Plugin.compile` raises; then nothing has changed.
        """
        device = ", ".join(self.properties["EXECUTION_DEVICES"])
        raise UnsupportedError(f"Device {device} does not replace models that run; compile the new one beside it.")

    def release_memory(self) -> None:
        """Give back memory that idle requests can do without; nothing, unless a device has such memory."""
        return

    @abstractmethod
    def close(self) -> None:
        """Let the threads end and refuse further work. Returns without waiting; a second call does nothing.

        Inferences that were started before finish as they would have, notified functions included; then the threads
        end. Afterwards `create_request`, `start` and `run` raise Error saying that the model is closed.

        Called when the user closes the compiled model, at the interpreter's exit, and by the thread that drops the last
        reference to it, at any allocation, also one of the device's own threads. So `close` takes no lock that other
        code of the device holds while it allocates, and joins no thread.
        """


class DeviceHost(ABC):
    """The other devices of a plugin's `Core`: all that a device over devices needs.

    Pickled and unpickled it is that of the other process, without the settings of this one.

    Devices are named as users name them ("GPU.0", "MULTI:CPU,GPU"), configurations are as users write them. All methods
    may be called from any thread, which holds no lock that the other device's threads could wait for.
    """

    @abstractmethod
    def devices(self) -> list[str]:
        """The devices that can be used here, as NAME, or as NAME.ID where a device has several instances.

        `unavailable_reason` of a plugin must not call this, which asks it.
        """

    @abstractmethod
    def automatic(self) -> list[str]:
        """The devices that are chosen from where none is named: discrete ones, others, the CPU as a whole.

        Of this package's devices CPU and real GPUs; of other distributions' those with `Plugin.is_automatic`.
        """

    @abstractmethod
    def unavailable_reason(self, device: str) -> str | None:
        """Why a device cannot be used here; None where it can. Raises InvalidArgumentError for an unknown one."""

    @abstractmethod
    def get_property(self, device: str, name: str) -> Any:
        """As `Plugin.get_property`. Raises InvalidArgumentError for an unknown device, too."""

    @abstractmethod
    def optimal_batch_size(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> int:
        """As `Plugin.optimal_batch_size`."""

    @abstractmethod
    def query(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> set[str]:
        """The names of the nodes that `device` would run on kernels of its own."""

    @abstractmethod
    def compile(self, graph: Graph, device: str, config: Mapping[str, Any] | None = None) -> DeviceModel:
        """Compile a graph for another device; the caller closes the model.

        Raises:
            InvalidArgumentError: unknown device or property, or a wrong value.
            DeviceUnavailableError: the device cannot be used here.
            ModelError, UnsupportedError: the model cannot be compiled; the message names the node.
            InternalError: the device broke a rule of this interface.
        """

    @abstractmethod
    def subscribe(self, function: Callable[[str], None]) -> Callable[[], None]:
        """Have `function` called with a device's name after its settings, availability or instances changed.

        It is called on the thread that made the change, with no lock held; what it raises is logged. The function that
        is returned ends the subscription; calls in progress go on.
        """

    @abstractmethod
    def announce(self, device: str) -> None:
        """Call the subscribers: a plugin does so when its availability or its instances have changed."""


class Plugin(Configured, ABC):
    """A device as a `Core` sees it; one instance for each core and name ("GPU", "GPU.1"), made when first asked for.

    Making one is cheap and works also where the device is unavailable. All methods may be called from several threads
    at the same time. Only `compile` must be written. `host` is the way to other devices.

    Raises:
        InvalidArgumentError: from the constructor, for an environment variable with a bad value for a property, or for
            a read-only one.
    """

    takes_arguments: ClassVar[bool] = False
    """Whether users may write NAME:ARGUMENTS."""

    is_composed: ClassVar[bool] = False
    """Whether it is nothing but other devices together, so that lists of devices go without it."""

    reads_late: ClassVar[bool] = False
    """Whether large constants of graphs that it compiles may be `Deferred`; it settles those that it keeps."""

    is_automatic: ClassVar[bool] = True
    """Whether AUTO may choose it without being asked for it by name."""

    pipeline: ClassVar[Pipeline] = ()
    """The passes that `optimise` runs."""

    def __init__(self, host: DeviceHost, target: DeviceName) -> None:
        super().__init__(target)
        self.host = host

    def at(self, target: DeviceName) -> Plugin:
        """The plugin of one instance of this device, or of this device with arguments, with the same settings.

        Raises:
            InvalidArgumentError: the device takes no arguments, or has no instance of this ID.
        """
        if target.arguments and not self.takes_arguments:
            raise InvalidArgumentError(f"Device {self.name} takes no arguments: '{target}' should be '{self.name}'.")
        ids = [one for one in self.fact("AVAILABLE_DEVICES") if one]
        if target.id and target.id not in ids:
            known = ", ".join(f"{self.name}.{one}" for one in ids) or f"{self.name} alone"
            raise InvalidArgumentError(f"Unknown device '{target}'.{nearest(target.id, ids)} There is {known}.")
        plugin = type(self)(self.host, target)
        plugin.set_property(self._settings)
        return plugin

    def unavailable_reason(self) -> str | None:
        """None when the device can be used here; else why not and what would help, in a sentence."""
        return None

    def direct(self, settings: Settings) -> tuple[str, dict[str, Any]] | None:
        """A device that compiles in place of this one, with its configuration; None where this one does itself."""
        return None

    def optimise(self, graph: Graph) -> Graph:
        """The graph after the device's passes; a copy, also without any. Raises what `passes.run` raises."""
        if not self.pipeline:
            return graph.clone()
        from cpuruntime import passes  # not above: with them comes the compiler, which not every device needs

        return passes.run(graph, self.pipeline)

    def optimal_batch_size(self, graph: Graph, settings: Settings) -> int:
        """How many inferences of a graph in one batch the device runs fastest; 1 where batches are not worth it."""
        return 1

    def query(self, graph: Graph, settings: Settings) -> set[str]:
        """The names of the nodes that the device's own kernels would run, by default all; the graph is not changed."""
        return {node.name for node in graph.nodes}

    @abstractmethod
    def compile(self, graph: Graph, settings: Settings) -> DeviceModel:
        """Compile a graph as it was read: the device runs the passes.

        The graph belongs to the caller: work on a clone. Its constants' arrays may be shared with other graphs and with
        a mapped file, so they are never written. `settings` has only what was chosen, `settings.value(name)` also the
        defaults.

        Raises:
            DeviceUnavailableError: the device cannot be used.
            ModelError, UnsupportedError: the model cannot be compiled; the message names the node.
        """

    def storage_key(self, settings: Settings) -> str:
        """All that a compiled model depends on beside the model itself, as text. Optional.

        Raises UnsupportedError where models with these settings are not stored; the message says why.
        """
        raise UnsupportedError(f"models on {self.label} are not stored")

    def without_weights(self, stored: SectionFile) -> bytes | None:
        """A stored model without weights that its file has, which `restore` reads from the file's `source`. Optional.

        None where they cannot be left out.
        """
        return None

    def restore(
        self, facts: Mapping[str, Any], sections: SectionFile, settings: Settings, source: Callable[[], Graph] | None
    ) -> DeviceModel:
        """The model that `DeviceModel.export` was called on; `facts` have been through JSON.

        Its storage key was the one for `settings`. Small sections have been checked, others are while this runs, which
        is over before the model runs. A `source`, which a cache has, reads the graph again.

        Raises ValueError where the model is not for this process; needs a source and there is none; or there is one,
        and compiling the model answers earlier.
        """
        raise UnsupportedError(f"models on {self.label} are not stored")

    def create_context(self, properties: Mapping[str, Any]) -> DeviceContext:
        """A context for tensors in the device's memory; OCL_CONTEXT among the properties is a driver's. Optional.

        Raises:
            UnsupportedError: the device has no memory of its own.
            InvalidArgumentError: unknown properties, or a context that is none of the device's.
        """
        raise UnsupportedError(f"{self.label} has no memory of its own; its tensors are the host's.")

    def plan(self, graph: Graph, settings: Settings, topology: Topology | None = None) -> StreamPlan:
        """The streams that compiling would make, on a machine like `topology` or on this one. Optional.

        Raises:
            UnsupportedError: the device has no streams to plan.
        """
        raise UnsupportedError(f"{self.label} has no streams that could be planned.")

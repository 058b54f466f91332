"""What is bound to the inputs and outputs of an infer request.

An input in memory that an output overlaps is copied before each inference; outputs may not overlap each other.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np

from cpuruntime.api.ports import ConstOutput, Ports, position
from cpuruntime.api.remote import RemoteTensor
from cpuruntime.api.request.conversion import check_shape, pairs, shape_before_data, to_array
from cpuruntime.api.request.lent import Lent, one_tensor, samples_of
from cpuruntime.api.results import OVDict
from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.completion import Completion
from cpuruntime.devices.interface import DeviceRequest
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import BusyError, InvalidArgumentError, UnsupportedError, WrongTypeError, printable
from cpuruntime.graph import Kind
from cpuruntime.host.memory import aligned_zeros
from cpuruntime.streams.call import Call
from cpuruntime.streams.handover import end_run

RUN = "run"

MOST_SHAPES = 1000
"""Shapes of an input that are noted, at most; arbitrary."""

Hook = Callable[[Any, BaseException | None], None]
"""Called with the public request and the error of its inference."""


class InferenceRun(Completion):
    """One inference of a request, from its start until its callback has returned: then `is_over`.

    Attributes:
        started: when it did, on the clock of perf_counter_ns.
        returned: when its callback had returned, 0 if there was none.
        notified: whether the device notifies the request of its end.
        polled: whether the device has it and notifies nobody: `Bindings.is_busy` looks whether it is over.
        hook: what is called at its end.
        thread: the thread in which the callback runs.
    """

    started = returned = 0
    notified = polled = False
    hook: Hook | None = None
    thread = 0

    def claim_end(self) -> bool:
        """Whether the caller is the first to ask, and so the one that ends the inference."""
        token = object()
        return self.__dict__.setdefault("_end", token) is token

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, or for so many seconds: whether it is. In its own callback it counts as over."""
        return self.thread == get_ident() or super().wait(timeout)


class AgainRun(InferenceRun):
    """The latest inference of a request that ran again; `times` as of its `Bindings`."""

    is_over = True

    def __init__(self, times: memoryview) -> None:
        self._times = times

    @property
    def started(self) -> int:  # type: ignore[override]
        return self._times[0]


Place = tuple[str, int]
"""A side, "input" or "output", and the position there."""


class Bindings:
    """The arrays that a request's inferences read and write.

    Attributes:
        device: the device's request.
        running: the inference in flight, under the key RUN; it may be over already (`is_busy`). Until then only
            methods that say so may be called. A dict because `setdefault` claims it in one step, also under interrupts.
        outputs: the array of each output; of a dynamic one, the last inference's.
        followed: tensors of the user's to look after before an inference, as their memory may have moved.
        unset: the inputs of dynamic shape that have no data yet.
        times: when the latest inference that ran again began, and how long the last one took; nanoseconds.
        call: what inferences that run again find and leave; None for strings and sequences.
        shapes: for each input those that arrays had which fit.
    """

    __slots__ = (
        "_bound",
                "_handed_out",
        "_late",
        "_owned",
        "_ports",
        "_remote",
        "call",
        "device",
        "followed",
        "outputs",
        "running",
        "shapes",
        "times",
        "unset",
    )

    def __init__(self, ports: Ports, device: DeviceRequest) -> None:
        self._ports = ports
        self.device = device
        self._owned = [None if shape is None else device.input_array(i, shape) for i, shape in enumerate(ports.shapes)]
        self._bound: list[np.ndarray | None] = list(self._owned)
        self.shapes: list[set[tuple[int, ...]]] = [set() for _ in ports.shapes]
        self._late: dict[int, Tensor] = {}
        self._remote: dict[Place, RemoteTensor] = {}
        self._handed_out: dict[Place, weakref.ref[Tensor]] = {}
        self.running: dict[str, InferenceRun] = {}
        self.outputs = [device.output_array(index) for index in range(len(ports.outputs))]
        self.followed: dict[Place, Tensor] = {}
        self.unset = {index for index, shape in enumerate(ports.shapes) if shape is None}
        times = np.zeros(2, np.int64)
        self.times = times.data
        is_static = not (ports.dynamic_outputs or self.unset)
        empty = [self.followed] if is_static else [self.followed, self._late, self._remote, self._handed_out]
        has_objects = ports.has_strings or any(dtype is None or dtype.hasobject for dtype in ports.dtypes)
        self.call = None if has_objects else Call(
            self.running, RUN, InferenceRun(), empty, self._owned, self._bound, self.outputs, ports.input_positions,
            ConstOutput, times, OVDict, ports, is_static,
        )  # fmt: skip

    def check_idle(self) -> None:
        """Raise BusyError while an inference runs."""
        if self.running and self.is_busy():
            raise BusyError("Infer Request is busy: wait() for the inference it is running, or use another request.")

    def is_busy(self) -> bool:
        """Whether an inference runs. Takes note of a polled one that is over."""
        run = self.running.get(RUN)
        if run is None:
            return False
        if not run.polled or not self.device.is_over:
            return True
        self.settle(run)
        return False

    def settle(self, run: InferenceRun) -> None:
        """Take note that the device is done with an inference; some thread may have done so before."""
        error, ended = self.device.result()
        if error is None and self._ports.dynamic_outputs:
            try:
                self.collect()
            except Exception as raised:
                error = raised
        end_run(self, RUN, run, error, ended - run.started)

    def claim(self, run: InferenceRun) -> None:
        """Make the request busy with `run`; BusyError where another inference is not over."""
        while self.running.setdefault(RUN, run) is not run:
            self.check_idle()

    def bind(self, inputs: Any, share: bool) -> None:
        """Bind what a user passed as inputs; with `share` in place where possible, else copied."""
        ports, shapes, dtypes, own = self._ports, self.shapes, self._ports.dtypes, self._owned
        positions, device, all_bound = ports.input_positions, self.device, self._bound
        if type(inputs) is dict:
            items: Iterable[tuple[Any, Any]] = inputs.items()
        elif type(inputs) is np.ndarray:
            items = ((0 if len(ports.inputs) == 1 else None, inputs),)
        else:
            items = pairs(inputs, len(ports.inputs))
        for key, value in items:
            if type(key) is float:
                position(key, positions, "input")
            try:
                index = positions[key]
            except (KeyError, TypeError):
                index = position(key, positions, "input", default=True)
            if (
                type(value) is not np.ndarray
                or value.shape not in shapes[index]
                or value.dtype is not dtypes[index]
            ):
                if isinstance(value, Tensor):
                    self._set_input(index, value)
                    continue
                value = self._fitting(index, value)
            bound = all_bound[index]
            if share and value.flags.c_contiguous:
                if value is not bound:
                    if ports.static_outputs and self._is_written(value):
                        self._set_input(index, Lent(value, shared_memory=True))
                        continue
                    device.set_input(index, value)
                    all_bound[index] = value
            elif bound is own[index] and bound is not None and bound.shape == value.shape:
                bound[...] = value
            elif self.followed and self._copy_to_tensor(index, value):
                continue
            else:
                self._own(index, value.shape)[...] = value
            if self.followed or self.unset or self._remote:
                self._forget(index)

    def prepare(self) -> None:
        """Before an inference: follow the users' tensors to the memory they have now; see that all inputs have data."""
        for (side, index), tensor in tuple(self.followed.items()):
            array = tensor.data
            if side == "output":
                if array is not self.outputs[index]:
                    self._set_output(index, tensor)
            elif array is not self._bound[index] or not array.flags.c_contiguous:
                self._bind_tensor(index, tensor)
        if self.unset:
            missing = [repr(self._ports.inputs[index].any_name) for index in sorted(self.unset)]
            raise InvalidArgumentError(f"No data for the input of dynamic shape {', '.join(missing)}.")

    def collect(self) -> None:
        """After an inference: take over the outputs of dynamic shape."""
        for index in self._ports.dynamic_outputs:
            array = self.outputs[index] = self.device.output_array(index)
            if self._handed_out:
                self._follow(("output", index), array)
            tensor = self._late.get(index)
            if tensor is not None:
                tensor.shape = array.shape  # type: ignore[assignment]
                tensor.data[...] = array

    def get(self, side: str, index: int) -> Tensor:
        """The tensor at a place: the user's own, or one on the request's memory, which follows it."""
        self.check_idle()
        if (side, index) in self._remote:
            return self._remote[side, index]
        tensor = self.followed.get((side, index)) or (self._late.get(index) if side == "output" else None)
        if tensor is not None:
            return one_tensor(tensor)
        array = self.outputs[index] if side == "output" else self._bound[index]
        if array is None:
            port = self._ports.inputs[index].info
            array = np.zeros(shape_before_data(port), port.dtype)
        given = self._handed_out.get((side, index))
        tensor = None if given is None else given()
        if tensor is None or tensor.data is not array:
            resize = None if side == "output" else partial(self._resize_input, index)
            tensor = Tensor.of_request(array, resize)
            self._handed_out[side, index] = weakref.ref(tensor)
        return tensor

    def _follow(self, place: Place, array: np.ndarray) -> None:
        """The request's memory at a place is another: tensors that were handed out follow."""
        given = self._handed_out.get(place)
        tensor = None if given is None else given()
        if tensor is not None:
            tensor.follow(array)

    def set(self, side: str, index: int, tensor: Tensor) -> None:
        """Bind the user's tensor at a place."""
        self.check_idle()
        if side == "input":
            self._set_input(index, tensor)
        elif isinstance(tensor, RemoteTensor):
            self._set_remote(side, index, tensor)
        else:
            self._set_output(index, tensor)
            self._remote.pop((side, index), None)

    def _set_remote(self, side: str, index: int, tensor: RemoteTensor) -> None:
        """Bind memory of the device. An output there is empty in results."""
        port = (self._ports.inputs if side == "input" else self._ports.outputs)[index].info
        if tensor.element_type != port.element_type:
            raise InvalidArgumentError(f"{tensor!r} for {side} '{printable(port.name)}', which is {port.element_type}.")
        check_shape(tuple(tensor.shape), port)
        if side == "output" and port.partial_shape.is_dynamic:
            raise UnsupportedError(f"Output '{printable(port.name)}' has a dynamic shape and takes no remote tensor.")
        self.device.set_remote(side, index, tensor.memory)
        self._remote[side, index] = tensor
        self._handed_out.pop((side, index), None)
        self.followed.pop((side, index), None)
        if side == "input":
            self._bound[index] = None
            self.unset.discard(index)
        else:
            self._late.pop(index, None)
            self.outputs[index] = np.empty(0, port.dtype)

    def set_samples(self, index: int, samples: Any) -> None:
        """Bind the samples of a batch to an input."""
        self.check_idle()
        self._set_input(index, samples_of(self._ports.inputs[index], samples))

    def place(self, key: Any) -> Place:
        """The place that a name or port means."""
        if not isinstance(key, (str, ConstOutput)):
            raise WrongTypeError(f"{key!r} is no name or port; get_input_tensor takes an index.")
        sides = (("input", self._ports.input_positions), ("output", self._ports.output_positions))
        for one in (key, key if isinstance(key, str) else key.any_name):
            for side, positions in sides:
                if one in positions:
                    return side, positions[one]
        every = {**self._ports.input_positions, **self._ports.output_positions}
        return "output", position(one, every, "input or output")

    def _fitting(self, index: int, value: Any) -> np.ndarray:
        """`value` as an array that the input takes."""
        port = self._ports.inputs[index].info
        is_array = type(value) is np.ndarray and value.dtype is self._ports.dtypes[index] and port.kind is Kind.TENSOR
        array = value if is_array else to_array(value, port)
        shape = self._ports.shapes[index]
        if array.ndim == 0 and shape is not None and all(extent == 1 for extent in shape):
            return array.reshape(shape)
        check_shape(array.shape, port)
        if is_array:
            if len(self.shapes[index]) >= MOST_SHAPES:
                self.shapes[index].clear()
            self.shapes[index].add(array.shape)
        return array

    def _own(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """The request's own memory for an input, bound."""
        own = self._owned[index]
        if own is None or own is not self._bound[index] or own.shape != shape or self._is_written(own):
            own = self.device.input_array(index, shape)
            if self._is_written(own):
                own = aligned_zeros(shape, own.dtype)
                self.device.set_input(index, own)
            self._owned[index] = self._bound[index] = own
            if self._ports.shapes[index] is None:
                self._follow(("input", index), own)
        return own

    def _copy_to_tensor(self, index: int, value: np.ndarray) -> bool:
        """Copy to the tensor of the user's that is bound to an input: whether there is one that may be written."""
        tensor = self.followed.get(("input", index))
        if tensor is None or isinstance(tensor, Lent) or tensor.is_packed or not tensor.data.flags.writeable:
            return False
        tensor.shape = value.shape  # type: ignore[assignment]
        tensor.data[...] = value
        self.unset.discard(index)
        return True

    def _forget(self, index: int) -> None:
        """The input is bound to other memory than a tensor of the user's."""
        self._remote.pop(("input", index), None)
        self.followed.pop(("input", index), None)
        self.unset.discard(index)

    def _resize_input(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        self.check_idle()
        check_shape(shape, self._ports.inputs[index].info)
        self._forget(index)
        return self._own(index, shape)

    def _set_input(self, index: int, tensor: Tensor) -> None:
        if isinstance(tensor, RemoteTensor):
            self._set_remote("input", index, tensor)
            return
        check_tensor(tensor, self._ports.inputs[index].info, "Input")
        self._bind_tensor(index, tensor)
        self._forget(index)
        self.followed["input", index] = tensor

    def _bind_tensor(self, index: int, tensor: Tensor) -> None:
        array = tensor.elements
        check_shape(array.shape, self._ports.inputs[index].info)
        if not tensor.is_packed and array.flags.c_contiguous and not self._is_written(array):
            self.device.set_input(index, array)
            self._bound[index] = array
        else:
            self._own(index, array.shape)[...] = array

    def _set_output(self, index: int, tensor: Tensor) -> None:
        port = self._ports.outputs[index].info
        check_tensor(tensor, port, "Output")
        if not tensor.data.flags.writeable:
            raise InvalidArgumentError(f"Output '{printable(port.name)}': the tensor's memory is read only.")
        if tensor.is_packed:
            raise UnsupportedError(f"Output '{printable(port.name)}': packed elements are not supported.")
        self._check_apart(index, tensor)
        if port.partial_shape.is_dynamic:
            self._late[index] = tensor
            return
        if not tensor.is_continuous():
            raise InvalidArgumentError(
                f"Output '{printable(port.name)}': the tensor is a part of another and not contiguous."
            )
        check_shape(tensor.data.shape, port, "Output")
        array = tensor.data
        self.device.set_output(index, array)
        self.outputs[index] = array
        self.followed["output", index] = tensor
        for number, bound in enumerate(self._bound):
            if bound is not None and np.may_share_memory(bound, array):
                self._set_input(number, self.followed.get(("input", number)) or Lent(bound, shared_memory=True))

    def _is_written(self, array: np.ndarray) -> bool:
        """Whether an inference writes to this memory, which is contiguous as that of all outputs is.

        Devices write outputs of dynamic shape to memory that no input lies in.
        """
        return any(np.may_share_memory(array, self.outputs[index]) for index in self._ports.static_outputs)

    def _check_apart(self, index: int, tensor: Tensor) -> None:
        """Raise InvalidArgumentError where the memory for an output overlaps that of another output."""
        for number, other in enumerate(self.outputs):
            late = self._late.get(number)
            memory = other if late is None else late.data
            if number != index and np.may_share_memory(tensor.data, memory, max_work=1000):
                names = [self._ports.outputs[place].info.name for place in (index, number)]
                raise InvalidArgumentError(
                    f"Output '{names[0]}': its memory overlaps that of output '{names[1]}'; each output needs memory "
                    "of its own."
                )


def check_tensor(tensor: Tensor, port: PortInfo, side: str) -> None:
    """Raise unless this is a Tensor of the port's type."""
    if not isinstance(tensor, Tensor):
        raise WrongTypeError(f"{side} '{printable(port.name)}': a Tensor is needed, not {type(tensor).__name__}.")
    if tensor.element_type is not port.element_type:
        names = tensor.element_type.get_type_name(), port.element_type.get_type_name()
        raise InvalidArgumentError(
            f"{side} '{printable(port.name)}': a tensor of type {names[0]} given, {names[1]} needed."
        )

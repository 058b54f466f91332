"""Requests of a model with defaults: constants that the model lists as inputs, so that inferences may replace them.

The model is compiled once more for each set of constants that inferences replace: there they are inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cpuruntime.api.request.bindings import Bindings, check_tensor
from cpuruntime.api.request.conversion import check_shape, pairs, to_array
from cpuruntime.api.shared import Shared
from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.forwarding import ForwardingRequest
from cpuruntime.devices.interface import DeviceModel, DeviceRequest
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, printable


class DefaultsRequest(ForwardingRequest):
    """The device's request, and one for each set of constants that were replaced, all on the memory of the first.

    Attributes:
        tensors: the users' tensors by constant, for all inferences.
        arrays: arrays by constant, for the next inference only.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._own = self.worker = shared.device.create_request()
        self._variants: dict[frozenset[str], tuple[DeviceModel, DeviceRequest]] = {}
        self._inputs: dict[int, np.ndarray] = {}
        self._users: set[int] = set()
        self._grown: set[int] = set()
        self.tensors: dict[str, Tensor] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def input_array(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        array = self._inputs[index] = self._own.input_array(index, shape)
        return array

    def set_input(self, index: int, array: np.ndarray) -> None:
        self._own.set_input(index, array)
        self._inputs[index] = array

    def output_array(self, index: int) -> np.ndarray:
        """As of any request; but what is static in the model may have another shape with other constants."""
        own = self._own.output_array(index)
        if index not in self._grown:
            return own
        array = self.worker.output_array(index)
        if array.shape == own.shape and self._shared.device.outputs[index].partial_shape.is_static:
            own[...] = array
            return own
        if index in self._users:
            name = printable(self._shared.device.outputs[index].name)
            raise InvalidArgumentError(
                f"Output '{name}': its tensor has the shape {list(own.shape)}, the result with the constants that were "
                f"given {list(array.shape)}; set a tensor for this output after such inferences only."
            )
        return array

    def own_outputs(self) -> list[np.ndarray]:
        """The memory of outputs of static shape."""
        ports = self._shared.ports
        return [self._own.output_array(index) for index in ports.static_outputs]

    def set_output(self, index: int, array: np.ndarray) -> None:
        self._own.set_output(index, array)
        self._users.add(index)

    def choose(self) -> DeviceRequest:
        given = {**{name: tensor.elements for name, tensor in self.tensors.items()}, **self.arrays}
        self.arrays = {}
        grown: set[int] = set()
        if not given:
            request = self._own
        else:
            model, request = self._variant(frozenset(given))
            outputs = self.own_outputs()
            names = [port.name for port in model.inputs]
            for name, array in given.items():
                check_shape(array.shape, self._shared.defaults[name])
                if any(np.may_share_memory(array, written) for written in outputs):
                    array = array.copy()
                request.set_input(names.index(name), np.ascontiguousarray(array).reshape(array.shape))
            for index, array in self._inputs.items():
                request.set_input(index, array)
            for index, port in enumerate(model.outputs):
                own = self._own.output_array(index)
                if port.partial_shape.is_dynamic or self._shared.device.outputs[index].partial_shape.is_dynamic:
                    grown.add(index)
                elif port.partial_shape.to_shape() == list(own.shape):
                    request.set_output(index, own)
                else:
                    grown.add(index)
        self.worker, self._grown = request, grown
        return request

    def _variant(self, names: frozenset[str]) -> tuple[DeviceModel, DeviceRequest]:
        """The model that takes constants of these names as inputs, and its request."""
        if names not in self._variants:
            self._shared.device.check_open()
            model = self._shared.with_inputs(names).device
            self._variants[names] = model, model.create_request()
        return self._variants[names]


class DefaultsBindings(Bindings):
    """The arrays of a request of a model with defaults."""

    __slots__ = ("_constants", "_defaults")

    def __init__(self, shared: Shared, device: DefaultsRequest) -> None:
        self._constants = shared.defaults
        self._defaults = device
        super().__init__(shared.ports, device)

    def bind(self, inputs: Any, share: bool) -> None:
        """As of any request; constants are bound for the next inference only."""
        arrays, others = {}, {}
        for key, value in pairs(inputs, len(self._ports.inputs)):
            if isinstance(key, str) and key in self._constants:
                arrays[key] = _array(value, self._constants[key], share)
            else:
                others[key] = value
        super().bind(others, share)
        self._defaults.arrays = arrays

    def prepare(self) -> None:
        try:
            super().prepare()
        except BaseException:
            self._defaults.arrays = {}
            raise

    def place(self, key: Any) -> tuple[str, Any]:
        """As of any request; a constant's place is its name."""
        return ("default", key) if isinstance(key, str) and key in self._constants else super().place(key)

    def set(self, side: str, index: Any, tensor: Tensor | None) -> None:
        """As of any request; for a constant None gives the model's own back."""
        if side != "default":
            super().set(side, index, tensor)  # type: ignore[arg-type]
            return
        self.check_idle()
        if tensor is None:
            self._defaults.tensors.pop(index, None)
        else:
            check_tensor(tensor, self._constants[index], "Input")
            check_shape(tensor.elements.shape, self._constants[index])
            self._defaults.tensors[index] = tensor

    def get(self, side: str, index: Any) -> Tensor:
        if side != "default":
            return super().get(side, index)
        self.check_idle()
        if index not in self._defaults.tensors:
            raise InvalidArgumentError(
                f"Input '{printable(index)}' is the model's constant: it has no tensor until set_tensor gives it one."
            )
        return self._defaults.tensors[index]

    def _is_written(self, array: np.ndarray) -> bool:
        return any(np.may_share_memory(array, written) for written in self._defaults.own_outputs())


def _array(value: Any, port: PortInfo, share: bool) -> np.ndarray:
    """What a user passed for a constant; a copy unless shared."""
    if isinstance(value, Tensor):
        check_tensor(value, port, "Input")
    array = value.elements if isinstance(value, Tensor) else to_array(value, port)
    check_shape(array.shape, port)
    return array if share or array is not value else array.copy()

"""The tensors that are bound to an infer request, by name, port and index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpuruntime.api.ports import ConstOutput, position
from cpuruntime.api.request.bindings import Bindings
from cpuruntime.api.shared import Shared
from cpuruntime.api.tensor import Tensor
from cpuruntime.errors import WrongTypeError


class RequestTensors:
    """The part of an infer request that gives and takes tensors."""

    __slots__ = ()

    _bindings: Bindings
    _shared: Shared

    def get_tensor(
        self, name_or_port: str | ConstOutput | None = None, *, name: str | None = None, port: ConstOutput | None = None
    ) -> Tensor:
        """The tensor of the input or output with this name or port: the memory that inference reads or writes."""
        return self._bindings.get(*self._bindings.place(_one_of(name_or_port, name, port)))

    def get_input_tensor(self, index: int | None = None) -> Tensor:
        """The tensor of the input at `index`; without one, of the only input."""
        return self._bindings.get("input", position(index, self._shared.ports.input_positions, "input", default=True))

    def get_output_tensor(self, index: int | None = None) -> Tensor:
        """The tensor of the output at `index`; without one, of the only output."""
        return self._bindings.get(
            "output", position(index, self._shared.ports.output_positions, "output", default=True)
        )

    def set_tensor(
        self,
        name_or_port: str | ConstOutput | None = None,
        tensor: Any = None,
        *,
        name: str | None = None,
        port: ConstOutput | None = None,
    ) -> None:
        """Let inference read or write this tensor's memory, for the input or output with this name or port.

        The request keeps the tensor alive and follows it when its shape changes. An output of dynamic shape is copied
        into the tensor, which takes on its shape.

        The name may be that of a constant that the model lists as an input: each inference that is given no other data
        for it reads the tensor in its place, until `set_tensor(name, None)`. The first inference with it compiles the
        model once more.
        """
        place = self._bindings.place(_one_of(name_or_port, name, port))
        self._bindings.set(*place, tensor)

    def set_input_tensor(self, index: int | Tensor | None = None, tensor: Tensor | None = None) -> None:
        """`set_input_tensor(index, tensor)`, or `set_input_tensor(tensor)` for the only input; else as `set_tensor`."""
        key, bound = _only(index, tensor)
        self._bindings.set("input", position(key, self._shared.ports.input_positions, "input", default=True), bound)

    def set_output_tensor(self, index: int | Tensor | None = None, tensor: Tensor | None = None) -> None:
        """`set_output_tensor(index, tensor)`, or `set_output_tensor(tensor)` for the only output."""
        key, bound = _only(index, tensor)
        self._bindings.set("output", position(key, self._shared.ports.output_positions, "output", default=True), bound)

    def set_tensors(
        self,
        inputs: Any = None,
        tensors: Sequence[Tensor] | None = None,
        *,
        tensor_name: str | None = None,
        port: ConstOutput | None = None,
    ) -> None:
        """`set_tensor` for each item of a dict of tensor by name or port; or the samples of a batch, for one input.

        `set_tensors(name, tensors)`, `set_tensors(port, tensors)`: as `set_input_tensors(index, tensors)`.
        """
        if tensors is None and isinstance(inputs, Mapping):
            for key, tensor in inputs.items():
                self.set_tensor(key, tensor)
        else:
            self.set_input_tensors(_one_of(inputs, tensor_name, port), tensors)

    def set_input_tensors(
        self, inputs: Any = None, tensors: Sequence[Tensor] | None = None, *, idx: int | None = None
    ) -> None:
        """`set_input_tensor` for each item of a dict of tensor by index, name or port; or the samples of a batch.

        `set_input_tensors(tensors)`, `set_input_tensors(idx, tensors)`: each inference reads these tensors as one,
        joined along the dimension that the input's layout calls N, else along the first one. Of these dimensions each
        has the length 1.
        """
        positions = self._shared.ports.input_positions
        if isinstance(inputs, Mapping):
            for key, tensor in inputs.items():
                self._bindings.set("input", position(key, positions, "input"), tensor)
            return
        if tensors is None and not isinstance(inputs, Sequence):
            raise WrongTypeError(f"A dict or a list of tensors is needed, not {type(inputs).__name__}.")
        key, samples = (idx, inputs) if tensors is None else (inputs if idx is None else idx, tensors)
        self._bindings.set_samples(position(key, positions, "input", default=True), samples)

    def set_output_tensors(self, outputs: Mapping[Any, Tensor]) -> None:
        """`set_output_tensor` for each item of a dict of tensor by index, name or port."""
        if not isinstance(outputs, Mapping):
            raise WrongTypeError(f"A dict of tensors is needed, not {type(outputs).__name__}.")
        for key, tensor in outputs.items():
            self._bindings.set("output", position(key, self._shared.ports.output_positions, "output"), tensor)

    @property
    def input_tensors(self) -> list[Tensor]:
        """The tensors of all inputs."""
        return [self._bindings.get("input", index) for index in range(len(self._shared.ports.inputs))]

    @property
    def output_tensors(self) -> list[Tensor]:
        """The tensors of all outputs."""
        return [self._bindings.get("output", index) for index in range(len(self._shared.ports.outputs))]


def _only(index: Any, tensor: Any) -> tuple[Any, Any]:
    """The arguments of `set_input_tensor` where the first may be a tensor for the only port."""
    return (None, index) if tensor is None else (index, tensor)


def _one_of(*keys: Any) -> Any:
    """The first that is not None."""
    return next((key for key in keys if key is not None), None)

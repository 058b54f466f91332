"""Compiled models."""

from __future__ import annotations

import threading
from io import BytesIO
from types import TracebackType
from typing import Any, BinaryIO, overload

from cpuruntime.api.infer_request import InferRequest
from cpuruntime.api.model import Model
from cpuruntime.api.ports import ConstOutput, describe_all, position
from cpuruntime.api.refusals import COMPILED_THERE, not_pickled
from cpuruntime.api.results import OVDict
from cpuruntime.api.runtime_model import runtime_model
from cpuruntime.api.shared import Shared
from cpuruntime.devices.explanation import Explanation
from cpuruntime.errors import InvalidArgumentError, UnsupportedError, WrongTypeError, nearest
from cpuruntime.properties import PROPERTIES, parse
from cpuruntime.trace.recorder import flush


class CompiledModel:
    """A model ready to run on a device. Made by `Core.compile_model`; may be used from several threads.

    The device's threads and memory are given back when the compiled model and all its requests are gone; inferences
    that are running then finish first. Used in a `with` statement it is closed at the end of it: requests finish what
    they run and start nothing more.
    """

    __slots__ = ("__weakref__", "_callers", "_shared")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._callers = threading.local()

    @property
    def inputs(self) -> list[ConstOutput]:
        """The inputs, in the model's order."""
        return list(self._shared.ports.inputs)

    @property
    def outputs(self) -> list[ConstOutput]:
        """The outputs, in the model's order."""
        return list(self._shared.ports.outputs)

    def input(self, index: int | str | None = None, *, tensor_name: str | None = None) -> ConstOutput:
        """The input with this index or name; without one, the only input."""
        ports = self._shared.ports
        index = index if tensor_name is None else tensor_name
        return ports.inputs[position(index, ports.input_positions, "input", default=True)]

    def output(self, index: int | str | None = None, *, tensor_name: str | None = None) -> ConstOutput:
        """The output with this index or name; without one, the only output."""
        ports = self._shared.ports
        index = index if tensor_name is None else tensor_name
        return ports.outputs[position(index, ports.output_positions, "output", default=True)]

    def create_infer_request(self) -> InferRequest:
        """A new, idle infer request. Any number may exist; those that are more than the streams wait for one."""
        return InferRequest(self._shared)

    def __call__(
        self, inputs: Any = None, share_inputs: bool = True, share_outputs: bool = False, *, decode_strings: bool = True
    ) -> OVDict:
        """Run one inference in a request that the compiled model keeps for each calling thread.

        Arguments, result and errors as for `InferRequest.infer`, except that inputs are read in place by default.
        """
        try:
            request: InferRequest = self._callers.request
        except AttributeError:
            request = self._infer_request
        return request.infer(inputs, share_inputs, share_outputs, decode_strings=decode_strings)

    @property
    def _infer_request(self) -> InferRequest:
        """The request of `__call__` in this thread; code for OpenVINO looks at it."""
        if not hasattr(self._callers, "request"):
            self._callers.request = InferRequest(self._shared)
        return self._callers.request

    def infer_new_request(self, inputs: Any = None) -> OVDict:
        """Run one inference in a new request."""
        return InferRequest(self._shared).infer(inputs, share_outputs=True)

    def get_property(self, property: str) -> Any:
        """The value that a property has in this compiled model, such as the number of streams a hint was turned into.

        Raises InvalidArgumentError for a property it does not have.
        """
        device = self._shared.device
        if not isinstance(property, str):
            raise WrongTypeError(f"{property!r:.60} is no property: a property is a str.")
        if property not in device.properties:
            known = sorted(device.properties)
            hint = nearest(property, known)
            raise InvalidArgumentError(
                f"Unknown property {property!r} of a compiled model.{hint} It has: {', '.join(known)}."
            )
        return device.get_property(property)

    def set_property(self, properties: Any = None, *, property: Any = None) -> None:
        """Change properties that devices change while a model runs.

        They are MULTI_DEVICE_PRIORITIES of MULTI and AUTO_BATCH_TIMEOUT of BATCH.

        `properties`, also called `property`, is a dict of value by property, or one (property, value) pair.

        Raises UnsupportedError for others: they are fixed when the model is compiled.
        """
        device, given = self._shared.device, property if properties is None else properties
        config = dict([given]) if isinstance(given, tuple) and len(given) == 2 else given
        fixed = [str(name) for name in config or {} if name not in device.live]
        if fixed or not config:
            raise UnsupportedError(
                f"The properties of a compiled model are fixed{': ' if fixed else ''}{', '.join(fixed)}; pass them to "
                "Core.compile_model."
            )
        device.set_property(parse(config, PROPERTIES, "a compiled model"))

    def explain(self, measure: bool = False) -> Explanation:
        """Which kernels run which nodes of the model, which nodes have none, and what was decided and why.

        Steps that were timed when their kernels were chosen have figures. With `measure` all have: inferences on random
        inputs are run, one at a time, for about half a second, and the processor's roofs are measured; other work on
        the machine shows in the figures. Inputs of dynamic shape have the shapes of the latest inference. Where random
        inputs do not do, a decision says so; PERF_COUNT and `profiling_info` then give times of real inferences.
        """
        return self._shared.device.explain(measure)

    def get_runtime_model(self) -> Model:
        """The steps as a model: nodes with notes in `rt_info` that say how each is run, under OpenVINO's names.

        `execTimeMcs` is what a step took when it was measured, or "not_executed". `save_model` writes it as ONNX, with
        the notes as metadata. It cannot be compiled.
        """
        assert self._shared.outline is not None
        return runtime_model(self._shared.outline(), self.explain())

    @overload
    def export_model(self) -> BytesIO: ...

    @overload
    def export_model(self, model_stream: BinaryIO) -> None: ...

    def export_model(self, model_stream: BinaryIO | None = None) -> BytesIO | None:
        """The compiled model as a file, for `Core.import_model`: its program, its packed weights, no machine code.

        It is for this version of the package and for processors of the same instruction set. A model that is not
        optimized yet is exported when it is. With `model_stream`, a binary file, it is written there.

        Raises UnsupportedError where the model cannot be stored: shapes in it depend on data, or a node has no kernel.
        """
        from cpuruntime.api.storing import export_model

        exported = export_model(self._shared)
        if model_stream is None:
            return exported
        model_stream.write(exported.getbuffer())
        return None

    def query_state(self) -> list[Any]:
        """The variables that inferences of `__call__` keep between them: none, since ONNX has none."""
        return []

    def reset_state(self) -> None:
        """Nothing: there are no variables."""

    def wait_until_optimized(self, timeout: float | None = None) -> bool:
        """Wait until the model runs on its kernels; with COMPILE_MODE FAST_START, NumPy computes inferences until then.

        A line on standard error shows how many kernels are compiled, and the seconds that are left. May be called from
        any thread.

        Args:
            timeout: how many seconds to wait at most; None: as long as it takes.

        Returns:
            Whether the model runs on its kernels.

        Raises:
            InvalidArgumentError: the timeout is not a number >= 0.
            Error: the model was closed, or could not be planned, so that it stays on NumPy.
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise InvalidArgumentError(f"wait_until_optimized: timeout is {timeout!r:.60}; it must be a number >= 0.")
        return self._shared.device.wait_until_optimized(timeout)

    def replace(self, model: Model) -> None:
        """Serve another model with the same inputs and outputs from now on, without a pause; no request is lost.

        Replicas of device RAY take it one after the other; requests that start meanwhile may be answered by either
        model. Returns when all have it. May be called from any thread.

        Raises:
            UnsupportedError: the device does not replace models.
            InvalidArgumentError: the inputs or outputs differ.
            Error: what compiling it raises; the old model then goes on.
        """
        if not isinstance(model, Model):
            raise WrongTypeError(f"replace: {model!r:.60} is no Model, as of Core.read_model.")
        self._shared.device.replace(model.graph)

    def release_memory(self) -> None:
        """Give back memory that idle requests can do without; they take it again when they run."""
        self._shared.device.release_memory()

    __reduce__ = not_pickled("A CompiledModel", COMPILED_THERE)

    def __enter__(self) -> CompiledModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shared.close_all()
        flush()

    def __repr__(self) -> str:
        return describe_all("CompiledModel:", self._shared.ports.inputs, self._shared.ports.outputs)

"""Infer requests: the inputs, outputs and state of one inference at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from threading import get_ident
from time import perf_counter_ns
from typing import Any

import numpy as np

from cpuruntime.api.callback import Callback
from cpuruntime.api.ports import ConstOutput, describe_all
from cpuruntime.api.refusals import not_pickled
from cpuruntime.api.request.awaiting import wait_in_loop
from cpuruntime.api.request.bindings import RUN, AgainRun, Bindings, Hook, InferenceRun
from cpuruntime.api.request.defaults import DefaultsBindings, DefaultsRequest
from cpuruntime.api.request.latency import LatencyAnatomy
from cpuruntime.api.request.tensors import RequestTensors
from cpuruntime.api.request.terms import parse_terms, parse_timeout
from cpuruntime.api.results import OVDict
from cpuruntime.api.shared import Shared
from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.explanation import ProfilingInfo
from cpuruntime.devices.interface import TERMS, DeviceRequest, Terms
from cpuruntime.host import forks
from cpuruntime.host.interrupts import uninterrupted


class InferRequest(RequestTensors):
    """One inference at a time: bind inputs, run, read outputs. Made by `CompiledModel.create_infer_request`.

    A request is idle or busy. While it is busy, from `infer` or `start_async` until the inference is over, everything
    but `wait`, `wait_for`, `cancel`, `userdata` and `latency` raises BusyError. When the callback runs, the request is
    idle again and may be started from there. Different requests may be used from different threads at the same time;
    one request is for one thread at a time.

    `await` waits in an event loop of asyncio for the inference started last: after `request.start_async(inputs)`,
    `results = await request`. It raises what `wait` raises. If the waiting task is cancelled so is the inference.
    """

    __slots__ = (
        "__weakref__",
        "_again",
        "_bindings",
        "_callback",
        "_device",
        "_ran_again",
        "_run",
        "_shared",
        "_userdata",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._device: DeviceRequest
        self._bindings: Bindings
        if shared.defaults:
            self._device = DefaultsRequest(shared)
            self._bindings = DefaultsBindings(shared, self._device)
        else:
            self._device = shared.device.create_request()
            self._bindings = Bindings(shared.ports, self._device)
        self._callback: Callback | None = None
        self._run: InferenceRun | None = None
        self._userdata: Any = None
        self._again: Callable[..., Any] | None = None
        self._ran_again = AgainRun(self._bindings.times)
        forks.objects.add(self)

    def _run_by(self, device: DeviceRequest) -> None:
        """Have the next inferences run by another request of the device, on the same memory."""
        self._device = self._bindings.device = device
        self._again = None

    def infer(
        self,
        inputs: Any = None,
        share_inputs: bool = False,
        share_outputs: bool = False,
        *,
        decode_strings: bool = True,
    ) -> OVDict:
        """Run one inference and return its outputs.

        Args:
            inputs: a dict of array by port, name or index; a list of arrays by position; one array for the only input;
                None for what the inputs hold already. Inputs that are not mentioned keep their data. A dict may name
                constants that the model lists as inputs, too: their data count for this inference only, `set_tensor`
                sets them for all. Arrays, numbers and lists of another dtype are converted; integers must fit, and a
                `Tensor` must have the port's type.
            share_inputs: read arrays in place where they are C-contiguous, and go on reading them until others are
                given; otherwise, and with False, they are copied first: to the tensor that was set for the input, if
                one was.
            share_outputs: return views of the request's memory, which the next inference overwrites; with False copies.
            decode_strings: return strings as NumPy's str type; with False as bytes in UTF-8.

        Raises:
            BusyError: the request is running.
            InvalidArgumentError: an input has a wrong name, dtype or shape; nothing was run.
            Error: what the device raised.
        """
        if self._again is not None:
            try:
                result: OVDict | bool | None = self._again(inputs, share_inputs, share_outputs)
                if result is False:
                    return self._infer(None, share_inputs, share_outputs, decode_strings, is_claimed=True)
                if result is not None:
                    self._run = self._ran_again
                    return result
            except BaseException:  # plain statements: see streams/handover.py
                running, call = self._bindings.running, self._bindings.call
                if call is not None and RUN in running and running[RUN] is call.claim:
                    del running[RUN]
                raise
        return self._infer(inputs, share_inputs, share_outputs, decode_strings)

    def _infer(
        self, inputs: Any, share_inputs: bool, share_outputs: bool, decode_strings: bool, is_claimed: bool = False
    ) -> OVDict:
        """`infer`, where it is not one that runs again; `is_claimed` as `Call.claim` says."""
        bindings, ports = self._bindings, self._shared.ports
        running = bindings.running
        run = InferenceRun()
        try:
            if is_claimed:
                running[RUN] = run
            elif running.setdefault(RUN, run) is not run:
                bindings.claim(run)
            if inputs is not None:
                bindings.bind(inputs, share_inputs)
            if bindings.followed or bindings.unset:
                bindings.prepare()
            self._run = run
            begin = run.started = perf_counter_ns()
            try:
                self._device.run()
            finally:
                bindings.times[1] = perf_counter_ns() - begin
            if ports.dynamic_outputs:
                bindings.collect()
            arrays = []
            for array in bindings.outputs:  # not a comprehension, which costs a frame
                arrays.append(array if share_outputs else array.copy())
        finally:  # plain statements: see streams/handover.py
            if RUN in running and running[RUN] is run:
                del running[RUN]
            run.is_over = True
            if run._functions:
                try:
                    run.announce()
                finally:  # an interrupt may have struck before
                    run.announce()
        if ports.has_strings:
            arrays = [_strings(array, decode_strings) for array in arrays]
        self._find_again()
        return OVDict(arrays, ports)

    def start_async(
        self,
        inputs: Any = None,
        userdata: Any = None,
        share_inputs: bool = False,
        *,
        priority: Any = None,
        deadline_ms: float | None = None,
    ) -> None:
        """Start an inference and return at once; arguments as for `infer`.

        `userdata`, unless None, replaces what the callback is given. Wrong inputs raise here, other errors in `wait`.
        With `share_inputs` the arrays must keep their content until the inference is over.

        Args:
            priority: "LOW", "MEDIUM" or "HIGH". Among the requests of the compiled model that wait for a stream, those
                of the highest priority begin first; of these the one whose deadline is next; else the one started
                first. Those of lower priority or without a deadline wait as long as there are others.
            deadline_ms: within how many milliseconds from now the inference has to be finished. Else it ends with
                DeadlineExceededError: at once while it waits for a stream, at its next step while it runs.
        """
        if priority is None and deadline_ms is None:
            terms = TERMS
            if self._starts_again(inputs, share_inputs):
                if userdata is not None:
                    self._userdata = userdata
                return
        else:
            terms = parse_terms(priority, deadline_ms)
        self._start(inputs, userdata, share_inputs, terms)

    def _find_again(self) -> None:
        """After an inference: what runs it again, if the device has that."""
        call = self._bindings.call
        if call is not None and (self._again is None or not call.is_static):
            self._again = self._device.infer_again(call) or self._again

    def _starts_again(self, inputs: Any, share_inputs: bool) -> bool:
        """Whether an inference that calls nothing back ran again, and is over."""
        if self._callback is None and self._again is not None and self._again(inputs, share_inputs, None):
            self._run = self._ran_again
            return True
        return False

    def _start(
        self, inputs: Any, userdata: Any, share_inputs: bool, terms: Terms = TERMS, hook: Hook | None = None
    ) -> InferenceRun:
        """`start_async`; `hook`, where given, is called in place of the callback."""
        bindings = self._bindings
        running = bindings.running
        previous = self._run
        run = InferenceRun()
        try:
            if running.setdefault(RUN, run) is not run:
                bindings.claim(run)
            if userdata is not None:
                self._userdata = userdata
            if previous is not None:
                self._find_again()
            if inputs is not None:
                bindings.bind(inputs, share_inputs)
            if bindings.followed or bindings.unset:
                bindings.prepare()
            if hook is None and self._callback is not None:
                hook = self._callback.after
            run.started = perf_counter_ns()
            if hook is None and self._is_polled:
                is_over = self._device.start(terms)
                run.polled = True  # not earlier, since the device would say that the inference before is over
                self._run = run
                if is_over:
                    bindings.settle(run)
            else:
                run.hook = hook
                run.notified = True
                self._run = run
                self._device.start(terms, partial(self._finish, run))
        except BaseException:
            try:
                self._withdraw(run, previous)
            except BaseException:  # an interrupt, perhaps before it began
                self._withdraw(run, previous)
                raise
            raise
        return run

    @uninterrupted
    def _withdraw(self, run: InferenceRun, previous: InferenceRun | None) -> None:
        """After an error in `start`: what a signal handler raised may have struck after the inference was queued."""
        if not self._is(run):
            return
        if run.started and self._device.cancel():
            run.polled = not run.notified
            self._run = run
            if run.notified:
                self._device.notify(partial(self._finish, run))  # perhaps for the second time
        elif run.claim_end():
            self._run = previous
            del self._bindings.running[RUN]
            run.announce()

    def _is(self, run: InferenceRun) -> bool:
        """Whether `run` is the inference that runs."""
        return self._bindings.running.get(RUN) is run

    def _finish(self, run: InferenceRun) -> None:
        """The device is done with an inference: call back, unless that was done."""
        if not run.claim_end():
            return
        run.thread = get_ident()
        self._bindings.settle(run)
        if run.hook is not None:
            try:
                run.hook(self, run.error)
            except BaseException as raised:
                run.error = raised
            run.returned = perf_counter_ns()
        run.thread = 0
        run.announce()
        del self, run  # the traceback of a callback's error refers to this frame

    def wait(self) -> None:
        """Wait until the inference is over and its callback has returned; at once if none was started.

        Raises what the inference, its callback or a `cancel` (CancelledError) raised; every time, until the next start.
        """
        run = self._run
        if run is None:
            return
        if not run.is_over:
            self._wait(run)
        if run.error is not None:
            try:
                raise run.error
            finally:
                del self, run  # the error's traceback refers to this frame

    def __await__(self) -> Generator[Any, None, OVDict]:
        run = self._run
        if run is not None:
            notify = self._device.notify if run.polled else run.notify
            yield from wait_in_loop(lambda: run.is_over or self._wait(run, 0), notify, self.cancel)
            if run.error is not None:
                try:
                    raise run.error
                finally:
                    del self, run  # the error's traceback refers to this frame
        return self.results

    def _wait(self, run: InferenceRun, seconds: float | None = None) -> bool:
        """Wait until `run` is over, or for so long: whether it is."""
        if not run.polled:
            return run.wait(seconds)
        if not self._device.wait(seconds):
            return False
        self._bindings.settle(run)
        return True

    def wait_for(self, timeout: float) -> bool:
        """`wait`, for `timeout` milliseconds at most: whether the inference is over. False if none was started.

        Raises what `wait` raises, and InvalidArgumentError when `timeout` is not a finite number >= 0.
        """
        seconds = parse_timeout(timeout)
        run = self._run
        if run is None or not (run.is_over or self._wait(run, seconds)):
            return False
        self.wait()
        return True

    def is_busy(self) -> bool:
        """Whether an inference runs."""
        return bool(self._bindings.running) and self._bindings.is_busy()

    def _wait_over(self) -> None:
        """`wait` without raising the inference's error."""
        run = self._run
        if run is not None and not run.is_over:
            self._wait(run)

    @property
    def _is_polled(self) -> bool:
        """Whether the device notifies nobody of the end of an inference that was started without a hook."""
        return not self._shared.ports.dynamic_outputs

    @property
    def _calls_back_here(self) -> bool:
        """Whether the calling thread is in the callback of the last inference."""
        return self._run is not None and self._run.thread == get_ident()

    def _forked(self) -> None:
        """In a forked child: the inference ends with an error, and calls nobody back, unless it was over before."""
        run = self._run
        self._bindings.is_busy()
        self._bindings.running.clear()
        if run is not None and not run.is_over and not self._calls_back_here:
            run.error = forks.threads_are_gone()
            run.announce()

    def cancel(self) -> None:
        """Ask the running inference to end early; `wait` then raises CancelledError, unless it ended normally."""
        self._device.cancel()

    def set_callback(self, callback: Callable[[Any], None], userdata: Any) -> None:
        """Call `callback(userdata)` after each inference that `start_async` starts, failed ones included.

        It runs on a thread of the runtime, which does nothing else meanwhile. What it raises surfaces in `wait`.
        """
        self._bindings.check_idle()
        self._callback = Callback(callback)
        self._userdata = userdata

    @property
    def results(self) -> OVDict:
        """The outputs of the last inference: copies, which are the caller's."""
        self._bindings.check_idle()
        ports = self._shared.ports
        arrays = [array.copy() for array in self._bindings.outputs]
        return OVDict([_strings(array) for array in arrays] if ports.has_strings else arrays, ports)

    @property
    def latency(self) -> float:
        """How long the last inference took, in milliseconds, waiting for a stream included; 0.0 before the first."""
        self._bindings.is_busy()
        return self._bindings.times[1] / 1e6

    @property
    def latency_anatomy(self) -> LatencyAnatomy:
        """Where the time of the last inference went: waiting, binding, executing, calling back; zeros before the first.

        All but what is called back is its `latency`. While its callback runs the last part is 0.
        """
        self._bindings.check_idle()
        run = self._run
        if run is None:
            return LatencyAnatomy()
        over = run.started + self._bindings.times[1]
        taken, began, ended = self._device.moments() or (0, run.started, over)
        transferred = self._device.transferred()
        return LatencyAnatomy.of(run.started, taken, began, ended, run.returned or over, transferred)

    @property
    def userdata(self) -> Any:
        """What the callback is given."""
        return self._userdata

    @property
    def profiling_info(self) -> list[ProfilingInfo]:
        """How long each step of the last inference took; compile with PERF_COUNT, or the rows say NOT_RUN."""
        self._bindings.check_idle()
        return self._device.profiling()

    def get_profiling_info(self) -> list[ProfilingInfo]:
        """The same as `profiling_info`."""
        return self.profiling_info

    @property
    def model_inputs(self) -> list[ConstOutput]:
        """The inputs of the compiled model."""
        return list(self._shared.ports.inputs)

    @property
    def model_outputs(self) -> list[ConstOutput]:
        """The outputs of the compiled model."""
        return list(self._shared.ports.outputs)

    def query_state(self) -> list[Any]:
        """The variables that inferences keep between them: none, since ONNX has none."""
        self._bindings.check_idle()
        return []

    def reset_state(self) -> None:
        """Nothing: there are no variables. Raises BusyError while an inference runs."""
        self._bindings.check_idle()

    def get_compiled_model(self) -> Any:
        """The compiled model the request belongs to."""
        return self._shared.compiled_model(self._shared)

    __reduce__ = not_pickled("An InferRequest", "send the arrays of its results")

    def __repr__(self) -> str:
        return describe_all("InferRequest:", self._shared.ports.inputs, self._shared.ports.outputs)


def _strings(array: np.ndarray, decode: bool = True) -> np.ndarray:
    """Strings as an array of NumPy's str type, or of its bytes type; another array, or one of tensors, as it is."""
    if not array.dtype.hasobject or not all(isinstance(one, (str, bytes)) for one in array.flat):
        return array
    return Tensor(array).str_data if decode else Tensor(array).bytes_data

"""The engines that are compared, behind one small interface. Each is set up as its documentation says is fastest.

Latency: one request, its inputs and outputs bound once to memory of the engine, and the time of one synchronous call,
or of starting an inference and waiting for it.
Throughput: as many inferences in flight as the engine calls optimal (ONNX Runtime: one caller per core).
The precision is the streams engines' INFERENCE_PRECISION_HINT; ONNX Runtime computes in that of the model.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peer.mode import Mode

MANY = 1000
"""From so many inferences on it is no matter if one begins when the slice is almost over, beside idle streams."""


class Engine(ABC):
    """One model loaded for one mode."""

    version: str
    settings: dict[str, Any]
    """What the engine chose or was given: streams, threads, precision."""
    flops: int = 0
    """Floating-point operations of an inference, as layers are usually counted; 0 where it is not known."""

    @abstractmethod
    def infer(self) -> None:
        """One synchronous inference of the bound inputs."""

    @abstractmethod
    def start_and_wait(self) -> None:
        """One asynchronous inference of the bound inputs."""

    @abstractmethod
    def infer_for(self, seconds: float) -> tuple[int, float]:
        """Keeps the engine as busy as it can be; returns the number of inferences and the seconds they took."""

    @abstractmethod
    def outputs(self) -> list[np.ndarray]:
        """Copies of the outputs of the last `infer`, in the model's order."""


class StreamsEngine(Engine):
    """OpenVINO, and cpuruntime, which has the same interface."""

    def __init__(
        self, runtime: Any, path: Path, mode: Mode, inputs: Mapping[str, np.ndarray], device: str, precision: str
    ) -> None:
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT"}
        if mode.is_latency:
            config["PERFORMANCE_HINT"] = "LATENCY"
            config["INFERENCE_NUM_THREADS"] = mode.threads
        core = runtime.Core()
        supported = core.get_property(device, "SUPPORTED_PROPERTIES")
        config = {name: value for name, value in config.items() if name in supported}
        self._compiled = core.compile_model(core.read_model(str(path)), device, config)
        if mode.is_latency:
            self._requests = [self._compiled.create_infer_request()]
        else:
            self._queue = runtime.AsyncInferQueue(self._compiled)
            self._requests = list(self._queue)
        for request in self._requests:
            for name, array in inputs.items():
                request.get_tensor(name).data[...] = array
        self.version = runtime.get_version()
        self.settings = {
            name: _plain(self._compiled.get_property(name))
            for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT")
            if name in self._compiled.get_property("SUPPORTED_PROPERTIES")
        }
        self.settings["requests"] = len(self._requests)
        self.flops = _flops(self._compiled)

    def infer(self) -> None:
        self._requests[0].infer()

    def start_and_wait(self) -> None:
        request = self._requests[0]
        request.start_async()
        request.wait()

    def infer_for(self, seconds: float) -> tuple[int, float]:
        queue, count = self._queue, 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            queue.start_async()
            count += 1
            if count < MANY:
                queue.get_idle_request_id()
        queue.wait_all()
        return count, time.perf_counter() - start

    def outputs(self) -> list[np.ndarray]:
        count = len(self._compiled.outputs)
        return [np.array(self._requests[0].get_output_tensor(index).data) for index in range(count)]


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime through I/O bindings, which spare it the copies of `session.run`.

    Throughput: one session whose operators run in the calling thread, and one caller per core.
    """

    def __init__(self, path: Path, mode: Mode, inputs: Mapping[str, np.ndarray]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = mode.threads or 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        callers = 1 if mode.is_latency else len(os.sched_getaffinity(0))
        self._bindings = [self._bind(onnxruntime, inputs) for _ in range(callers)]
        self.version = onnxruntime.__version__
        self.settings = {
            "intra_op_num_threads": options.intra_op_num_threads,
            "callers": callers,
            "precision": "as in the model",
        }

    def _bind(self, onnxruntime: Any, inputs: Mapping[str, np.ndarray]) -> Any:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array.copy()))
        for output in self._session.get_outputs():
            if all(isinstance(size, int) for size in output.shape) and output.type == "tensor(float)":
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, "cpu")
                binding.bind_ortvalue_output(output.name, value)
            else:
                binding.bind_output(output.name)
        return binding

    def infer(self) -> None:
        self._session.run_with_iobinding(self._bindings[0])

    def start_and_wait(self) -> None:
        raise NotImplementedError("ONNX Runtime has no asynchronous inference of bound memory")

    def infer_for(self, seconds: float) -> tuple[int, float]:
        counts = [0] * len(self._bindings)
        start = time.perf_counter()

        def call(index: int) -> None:
            while time.perf_counter() - start < seconds:
                self._session.run_with_iobinding(self._bindings[index])
                counts[index] += 1

        callers = [threading.Thread(target=call, args=(index,)) for index in range(len(counts))]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return sum(counts), time.perf_counter() - start

    def outputs(self) -> list[np.ndarray]:
        return [value.copy() for value in self._bindings[0].copy_outputs_to_cpu()]


ENGINES = ("cpuruntime", "openvino", "onnxruntime")


def installed(name: str) -> bool:
    """True when the engine's package can be imported."""
    return importlib.util.find_spec(name) is not None


def load(
    name: str, path: Path, mode: Mode, inputs: Mapping[str, np.ndarray], device: str, precision: str = "f32"
) -> Engine:
    """The engine `name` with the model at `path`; `device` is cpuruntime's device."""
    if name == "onnxruntime":
        return OnnxRuntimeEngine(path, mode, inputs)
    if name == "openvino":
        import openvino

        return StreamsEngine(openvino, path, mode, inputs, "CPU", precision)
    import cpuruntime

    return StreamsEngine(cpuruntime, path, mode, inputs, device, precision)


def _flops(compiled: Any) -> int:
    """What the steps of cpuruntime's program do."""
    device = getattr(getattr(compiled, "_shared", None), "device", None)
    programs = device.programs.cached() if hasattr(device, "programs") else []
    return sum(getattr(step, "flops", 0) * program.repeats for program in programs[-1:] for step in program.planned)


def _plain(value: Any) -> Any:
    if hasattr(value, "get_type_name"):
        return value.get_type_name()
    return value if isinstance(value, (int, float, str, bool)) else str(value)

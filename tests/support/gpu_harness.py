"""Runs lowered graphs on an OpenCL driver, launch by launch, each buffer in memory of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cpuruntime import passes
from cpuruntime.devices.gpu.lower import PIPELINE, Lowered, lower, prelude
from cpuruntime.frontend.reader import read
from cpuruntime.gpu_runtime.interface import Buffer


class Driver:
    """One device; `platform` is a part of its platform's name. The first barrier of kernel `without` is left out."""

    def __init__(self, platform: str = "Portable", without: str = "") -> None:
        import pyopencl as cl

        self.cl = cl
        found = [one for one in cl.get_platforms() if platform in one.name]
        self.device = found[0].get_devices()[0]
        self.context = cl.Context([self.device])
        self.queue = cl.CommandQueue(self.context)
        self.kernels: dict = {}
        self.without = without

    def kernel(self, source):
        """The kernel of a text, compiled once."""
        key = source.text
        if key not in self.kernels:
            text = source.text.replace("BARRIER;", "", source.entry == self.without)
            program = self.cl.Program(self.context, prelude("opencl") + text).build(
                ["-cl-mad-enable", "-cl-std=CL1.2"]
            )
            self.kernels[key] = self.cl.Kernel(program, source.entry)
        return self.kernels[key]

    def run(self, lowered: Lowered, feeds: Mapping, outputs) -> list[np.ndarray]:
        """The outputs for `feeds`, arrays by values of the graph."""
        cl, memory = self.cl, {}

        def allocate(buffer: Buffer, array=None):
            memory[buffer.key] = cl.Buffer(self.context, cl.mem_flags.READ_WRITE, max(buffer.nbytes, 1))
            if array is not None and array.nbytes:
                cl.enqueue_copy(self.queue, memory[buffer.key], np.ascontiguousarray(array))

        for buffer, array in lowered.constants.items():
            allocate(buffer, array)
        for value, array in feeds.items():
            allocate(lowered.values[value].buffer, array)
        for launch in lowered.launches:
            arguments = []
            for argument in launch.arguments:
                if isinstance(argument, Buffer):
                    if argument.key not in memory:
                        allocate(argument, np.full(argument.nbytes, 0xFF, np.uint8))  # NaN
                    arguments.append(memory[argument.key])
                else:
                    arguments.append((np.float32 if isinstance(argument, float) else np.int32)(argument))
            kernel = self.kernel(launch.kernel)
            kernel.set_args(*arguments)
            cl.enqueue_nd_range_kernel(self.queue, kernel, launch.global_size, launch.local_size)
        results = []
        for value in outputs:
            result = np.empty(value.static_shape, value.element_type.to_dtype())
            if result.nbytes:
                cl.enqueue_copy(self.queue, result, memory[lowered.values[value].buffer.key])
            results.append(result)
        self.queue.finish()
        return results


def run_model(
    driver: Driver, model, feeds: Mapping[str, np.ndarray], tuning=None, precision: str = "f32"
) -> list[np.ndarray]:
    """The outputs of an ONNX model of static shapes."""
    graph = model if hasattr(model, "nodes") else read(model)
    graph = passes.run(graph, PIPELINE)
    lowered = lower(graph, None, precision, tuning)
    return driver.run(lowered, {value: feeds[value.name] for value in graph.inputs}, graph.outputs)


def unavailable(platform: str) -> str:
    """Why there is no driver of a platform; "" where there is one."""
    try:
        import pyopencl as cl

        found = any(platform in one.name for one in cl.get_platforms())
    except Exception as error:  # the package is absent, or finds no driver
        return f"no OpenCL: {error}"
    return "" if found else f"no OpenCL driver of platform {platform}"

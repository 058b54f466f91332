"""The process of one side: reads one JSON command a line from stdin and answers each with one JSON line on stdout.

    {"command": "hello"} -> version, python, package_bytes
    {"command": "start", "model", "mode", "config", "shapes", "inputs", "outputs"} -> startup, first, memory
    {"command": "slice", "seconds"} -> value, processor, count, cpu_seconds

It runs in the Python, and on the package, of its side, which may be older than this file: public names only. An error
is answered with {"error": text}. `startup` are the seconds of import, reading and compiling, `first` those of the first
inference, `value` those of one inference: the lower quartile of a slice, since disturbances only lengthen inferences;
in throughput mode the slice's time by their number. `processor` is the same of processor time. `memory` is the peak of
resident memory in bytes. `cpu_seconds` is the processor time since the last answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module

WARM_UP_SHARE = 0.15
"""A slice begins with untimed inferences for this part of its length: caches and clock rates drop in the pause."""

MANY = 1000
"""From so many inferences on it is no matter if one begins when the slice is almost over, beside idle streams."""


class Worker:
    """The model of this process and the mode it is measured in."""

    def hello(self, command):
        """The version, and the bytes of the package when each file is compressed as in a wheel."""
        import platform
        import zlib

        ov = import_module("cpuruntime")
        total = 0
        for folder, folders, files in os.walk(os.path.dirname(ov.__file__), followlinks=True):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    total += len(zlib.compress(file.read()))
        return {"version": ov.get_version(), "python": platform.python_version(), "package_bytes": total}

    def start(self, command):
        """Imports, reads, compiles, fills the inputs and infers once."""
        begin = time.perf_counter()
        ov = import_module("cpuruntime")  # that of the side, which need not be this file's
        core = ov.Core()
        model = core.read_model(command["model"])
        if command["shapes"]:
            model.reshape(command["shapes"])
        compiled = core.compile_model(model, "CPU", command["config"])
        startup = time.perf_counter() - begin
        self.is_throughput = command["mode"] == "throughput"
        self.queue = ov.AsyncInferQueue(compiled) if self.is_throughput else None
        requests = list(self.queue) if self.queue is not None else [compiled.create_infer_request()]
        self.request = requests[0]
        arrays = stored_inputs(command["inputs"]) if command["inputs"] else random_inputs(compiled)
        if len(arrays) != len(compiled.inputs):
            raise ValueError(f"the model has {len(compiled.inputs)} inputs, and {len(arrays)} arrays are given")
        for request in requests:
            for index, array in enumerate(arrays):
                request.get_input_tensor(index).data[...] = array
        begin = time.perf_counter()
        self.request.infer()
        first = time.perf_counter() - begin
        if hasattr(compiled, "wait_until_optimized"):  # else a cold cache would have NumPy measured
            compiled.wait_until_optimized()
            self.request.infer()
        if command["outputs"]:
            import numpy as np

            outputs = [self.request.get_output_tensor(index).data for index in range(len(compiled.outputs))]
            np.savez(command["outputs"], *outputs)
        self.cpu_seconds = time.process_time()
        return {"startup": startup, "first": first, "memory": peak_memory()}

    def slice(self, command):
        """Measures for a time, after untimed inferences."""
        self._measure(command["seconds"] * WARM_UP_SHARE)
        value, processor, count = self._measure(command["seconds"])
        last, self.cpu_seconds = self.cpu_seconds, time.process_time()
        return {"value": value, "processor": processor, "count": count, "cpu_seconds": self.cpu_seconds - last}

    def _measure(self, seconds):
        """(seconds of one inference, its processor time, their number)."""
        clock, used = time.perf_counter, time.process_time
        begin, used_before = clock(), used()
        end = begin + seconds
        if self.is_throughput:
            count = 0
            while not count or clock() < end:
                self.queue.start_async()
                count += 1
                if count < MANY:
                    self.queue.get_idle_request_id()
            self.queue.wait_all()
            return (clock() - begin) / count, (used() - used_before) / count, count
        times, processor_times = [], []
        while not times or clock() < end:
            begin, used_before = clock(), used()
            self.request.infer()
            processor_times.append(used() - used_before)
            times.append(clock() - begin)
        return quartile(times), quartile(processor_times), len(times)


def quartile(values):
    """The lower one."""
    return sorted(values)[len(values) // 4]


def random_inputs(compiled):
    """Floats from 0 to 1; integers of 0 and 1, which lie inside any table that they index."""
    import numpy as np

    generator = np.random.default_rng(0)
    arrays = []
    for port in compiled.inputs:
        shape, dtype = tuple(port.shape), np.dtype(port.element_type.to_dtype())
        whole = dtype.kind in "iub"
        arrays.append((generator.integers(0, 2, shape) if whole else generator.random(shape)).astype(dtype))
    return arrays


def stored_inputs(path):
    """The arrays of an .npz file."""
    import numpy as np

    with np.load(path) as archive:
        return [archive[name] for name in archive.files]


def peak_memory():
    """Bytes. (getrusage's figure begins with that of the parent process.)"""
    with open("/proc/self/status") as file:
        return int(file.read().partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024


def main():
    """Serves commands until the end of stdin. What libraries print goes to stderr, not between the answers."""
    sys.path[0] = sys.argv[1]  # the folder of the package, instead of this file's
    if not sys.path[0]:
        del sys.path[0]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command["command"])(command)
        except Exception as error:  # whatever a side raises is a result of the comparison
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

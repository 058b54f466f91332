"""Arrays between pages that cannot be touched, and models run on them in a child process.

An access beyond an array is a signal that ends the child: `run_child` then fails and names the case.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import cpuruntime as ov
from cpuruntime.errors import InternalError

PAGE = mmap.PAGESIZE
CONFIG = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
TESTS = Path(__file__).parents[1]

_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@dataclass
class Crafted:
    """A model and the inputs it is run on, by what is special about them.

    Attributes:
        compare: whether results are held against ONNX Runtime's where it accepts the model and the inputs.
        tolerance: relative to the largest number of each output.
    """

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Mapping[str, np.ndarray]]
    compare: bool = True
    tolerance: float = 1e-5


@dataclass
class Counts:
    """How many cases there were, how many gave results, and those that ended with an error that is a fault of ours."""

    cases: int = 0
    results: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def errors_of(self, name: str) -> Iterator[None]:
        """Errors of the model or the data are results as well; others are faults."""
        try:
            yield
        except Exception as error:
            if isinstance(error, InternalError) or not isinstance(error, ov.errors.Error):
                self.faults[name] = f"{type(error).__name__}: {error}"


def between_pages(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of `array` that ends where a page begins that cannot be touched, or begins where such a page ends."""
    pages = max(1, -(-array.nbytes // PAGE))
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    raw = np.frombuffer(memory, np.uint8)[PAGE : (pages + 1) * PAGE]
    for guard in (start, start + (pages + 1) * PAGE):
        if _protect(guard, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    place = raw[raw.size - array.nbytes :] if at_end else raw[: array.nbytes]
    copy = place.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run_guarded(compiled: ov.CompiledModel, feeds: Mapping[str, np.ndarray], at_end: bool) -> list[np.ndarray]:
    """The outputs of one inference with all arrays between pages. Inputs must stay as they are."""
    request = compiled.create_infer_request()
    inputs = {name: between_pages(array, at_end) for name, array in feeds.items()}
    for name, array in inputs.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    for index, port in enumerate(compiled.outputs):
        if port.partial_shape.is_static:
            shape, dtype = tuple(port.partial_shape.to_shape()), port.element_type.to_dtype()
            target = between_pages(np.full(shape, 7, dtype), at_end)
            request.set_output_tensor(index, ov.Tensor(target, shared_memory=True))
    request.infer()
    for name, array in inputs.items():
        assert array.tobytes() == feeds[name].tobytes(), f"input {name} was written to"
    return [request.get_output_tensor(index).data.copy() for index in range(len(compiled.outputs))]


def run_cases(cases: Iterable[Crafted], judge: Callable[..., list[np.ndarray]], check: Callable[..., None]) -> Counts:
    """Runs all. Before each step its name is printed, so that the last line names the one that a signal ended."""
    counts = Counts()
    for case in cases:
        counts.cases += len(case.feeds)
        say(f"{case.name}: compile")
        with counts.errors_of(case.name):
            compiled = ov.Core().compile_model(case.model, "CPU", CONFIG)
            for what in case.feeds:
                with counts.errors_of(f"{case.name}: {what}"):
                    _run(case, what, compiled, judge, check)
                    counts.results += 1
    return counts


def _run(case: Crafted, what: str, compiled: ov.CompiledModel, judge: Any, check: Any) -> None:
    results = []
    for at_end in (True, False):
        say(f"{case.name}: {what}, {'end' if at_end else 'start'}")
        results.append(run_guarded(compiled, case.feeds[what], at_end))
    check(results[1], results[0], 0)
    if case.compare:
        say(f"{case.name}: {what}, ONNX Runtime")
        try:
            expected = judge(case.model, case.feeds[what])
        except Exception:  # it refuses the model or the inputs
            return
        check(results[0], expected, case.tolerance)


def say(text: str) -> None:
    """A line that is out before anything else is done."""
    os.write(1, f"{text}\n".encode())


def run_child(*arguments: str, seconds: float = 300, **environment: Any) -> str:
    """The last line that a script of this folder prints; AssertionError with it where the child fails."""
    script, *rest = arguments
    command = [sys.executable, str(TESTS / "support" / script), *rest]
    paths = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env={**os.environ, "PYTHONPATH": paths} | environment
    )
    last = done.stdout.rstrip().rpartition("\n")[2]
    assert done.returncode == 0, f"exit {done.returncode} at '{last}'\n{done.stderr[-3000:]}"
    return last

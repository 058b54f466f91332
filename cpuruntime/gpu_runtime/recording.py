"""A runtime without a driver: it keeps what it was asked for, and fails as it is told to, for tests of faults."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cpuruntime.errors import DeviceUnavailableError, InvalidArgumentError, OutOfMemoryError
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import (
    BuildError,
    Call,
    Copy,
    Facts,
    GpuRuntime,
    Memory,
    Module,
    Prepared,
    Queue,
    Recorded,
    Slot,
)

FACTS = Facts(
    name="Recorder", vendor="nobody", driver="recording 1", kind="gpu", is_unified=True, compute_units=4, clock=1000,
    group_size=256, local_memory=32768, memory=2**30, largest=2**29, alignment=64, half="storage",
)  # fmt: skip

Emulation = Callable[[Sequence[Any], tuple[int, ...]], None]
"""What stands in for a kernel: it is given the arguments, memory as uint8 arrays, and the global size."""


@dataclass
class Faults:
    """What goes wrong; a test may change it at any time.

    Attributes:
        unbuilt: builds fail whose text has this in it.
        refuses_binaries: no binary is loaded.
        most_memory: bytes that there are in all.
        is_lost: commands are refused.
        status: the number that submissions end with.
        callbacks: how often the driver calls back at the end of one.
        held: while it is not set, submissions do not end.
        taken: while it is not set, the driver does not come back from the call that submits.
    """

    unbuilt: str = ""
    refuses_binaries: bool = False
    most_memory: int = 2**30
    is_lost: bool = False
    status: int = 0
    callbacks: int = 1
    held: threading.Event = field(default_factory=threading.Event)
    taken: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.held.set()
        self.taken.set()


class RecordingRuntime(GpuRuntime):
    """Keeps the texts it built, the binaries it loaded, and the calls that were submitted, in their order.

    Args:
        emulations: what computes, by the names of kernels; others do nothing.
        changes: to FACTS.

    Attributes:
        durations: nanoseconds that kernels take on timing queues, by their names; 1000 for others.
    """

    dialect = "opencl"

    def __init__(self, emulations: Mapping[str, Emulation] | None = None, **changes: Any) -> None:
        self.facts = replace(FACTS, **changes)
        self.faults = Faults()
        self.emulations = emulations or {}
        self.durations: dict[str, int] = {}
        self.built: list[str] = []
        self.loaded: list[bytes] = []
        self.submitted: list[Call] = []
        self.copied = self.taken = self.taken_on_host = self.prepared = 0

    @property
    def context(self) -> Any:
        return self

    def within(self, context: Any) -> GpuRuntime:
        raise InvalidArgumentError(f"A {type(context).__name__} is no context of {self.facts.name}.")

    def build(self, source: str) -> Module:
        self.built.append(source)
        if self.faults.unbuilt and self.faults.unbuilt in source:
            raise BuildError(f"error: in {self.faults.unbuilt}")
        return RecordingModule(source)

    def load(self, binary: bytes) -> Module:
        if self.faults.refuses_binaries:
            raise BuildError("the binary is of another driver")
        self.loaded.append(binary)
        return RecordingModule(binary.decode())

    def allocate(self, nbytes: int, host: bool = False) -> Memory:
        if self.taken + nbytes > self.faults.most_memory:
            raise OutOfMemoryError(f"{self.facts.name} has no {nbytes} bytes left.")
        self.taken += nbytes
        self.taken_on_host += nbytes * host
        pages = np.frombuffer(mmap.mmap(-1, max(nbytes, 1)), np.uint8)
        return RecordingMemory(self, pages[:nbytes], host, nbytes)

    def statistics(self) -> dict[str, int]:
        return {"cl_mem": self.taken - self.taken_on_host, "usm_host": self.taken_on_host}

    def fill(self, memory: Memory, array: np.ndarray) -> None:
        _content(memory)[:] = array.reshape(-1).view(np.uint8)

    def read(self, memory: Memory, array: np.ndarray) -> None:
        array.reshape(-1).view(np.uint8)[:] = _content(memory)

    def lend(self, array: np.ndarray) -> Memory | None:
        is_fit = self.facts.is_unified and array.nbytes and array.ctypes.data % 4096 == 0
        return RecordingMemory(self, array.reshape(-1).view(np.uint8), True) if is_fit else None

    def adopt(self, foreign: Any) -> Memory:
        if not isinstance(foreign, RecordingMemory) or foreign.runtime is not self:
            raise InvalidArgumentError(f"A {type(foreign).__name__} is no memory of this context.")
        return foreign

    def queue(self, priority: int = 1, throttle: int = 1, timing: bool = False) -> Queue:
        return RecordingQueue(self, timing)


class RecordingModule(Module):
    """A text that was built."""

    def __init__(self, source: str) -> None:
        self.source = source

    def binary(self) -> bytes:
        return self.source.encode()


class RecordingMemory(Memory):
    """Memory of the host; `content` are its bytes. `taken` bytes are given back with it."""

    def __init__(self, runtime: RecordingRuntime, content: np.ndarray, host: bool, taken: int = 0) -> None:
        self.runtime = runtime
        self.content = content
        self.nbytes = content.nbytes
        self.array = content if host else None
        self._taken = taken

    @property
    def handle(self) -> RecordingMemory:  # type: ignore[override]
        return self

    def at(self, offset: int, nbytes: int) -> Memory:
        return RecordingMemory(self.runtime, self.content[offset : offset + nbytes], False)

    def __del__(self) -> None:
        self.runtime.taken -= self._taken
        self.runtime.taken_on_host -= self._taken * (self.array is not None)


@dataclass
class RecordingRecorded(Recorded):
    """The calls."""

    calls: Sequence[Call]
    times: list[int] = field(default_factory=list)


@dataclass
class RecordingPrepared(Prepared):
    """What `prepare` was given."""

    recorded: RecordingRecorded
    bindings: Sequence[Memory]
    writes: Sequence[Copy]
    reads: Sequence[Copy]


class RecordingQueue(Queue):
    """Runs emulations at once, and calls back from another thread."""

    def __init__(self, runtime: RecordingRuntime, timing: bool) -> None:
        self.runtime = runtime
        self.timing = timing

    def record(self, calls: Sequence[Call]) -> Recorded:
        return RecordingRecorded(calls)

    def prepare(
        self,
        recorded: Recorded,
        bindings: Sequence[Memory] = (),
        lent: Sequence[Memory] = (),
        writes: Sequence[Copy] = (),
        reads: Sequence[Copy] = (),
    ) -> Prepared:
        assert isinstance(recorded, RecordingRecorded)
        self.runtime.prepared += 1
        return RecordingPrepared(recorded, bindings, writes, reads)

    def submit(self, prepared: Prepared, end: End) -> None:
        assert isinstance(prepared, RecordingPrepared)
        runtime, faults, recorded = self.runtime, self.runtime.faults, prepared.recorded
        faults.taken.wait()
        if faults.is_lost:
            raise DeviceUnavailableError(f"{runtime.facts.name} is lost.")
        bindings, writes, reads = prepared.bindings, prepared.writes, prepared.reads
        for copy in writes:
            ctypes.memmove(_content(copy.memory).ctypes.data, copy.address, copy.memory.nbytes)
        for call in recorded.calls:
            runtime.submitted.append(call)
            arguments = [bindings[a.index] if isinstance(a, Slot) else a for a in call.arguments]
            if call.entry in runtime.emulations:
                bare = [_content(a) if isinstance(a, Memory) else a for a in arguments]
                runtime.emulations[call.entry](bare, call.global_size)
        for copy in reads:
            ctypes.memmove(copy.address, _content(copy.memory).ctypes.data, copy.memory.nbytes)
        runtime.copied += len(writes) + len(reads)
        if self.timing:
            recorded.times = [runtime.durations.get(call.entry, 1000) for call in recorded.calls]
        over = threading.Event()
        end.begin(lambda: faults.status if over.is_set() else None)
        threading.Thread(target=_call_back, args=(faults, over, end), daemon=True).start()


def _call_back(faults: Faults, over: threading.Event, end: End) -> None:
    faults.held.wait()
    over.set()
    for _ in range(faults.callbacks):
        end.notify()


def _content(memory: Memory) -> np.ndarray:
    assert isinstance(memory, RecordingMemory)
    return memory.content

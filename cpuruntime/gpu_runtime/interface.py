"""What device GPU asks of a driver: facts, memory, kernels, and queues that run recorded launches.

Kernels are written in one dialect of C. A runtime says in `dialect` which prelude of macros goes before them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cpuruntime.gpu_runtime.end import End


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A kernel: the name of its function, and its text in the dialect, without prelude. Equal texts compile once."""

    entry: str
    text: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a program, named by `key`, of `nbytes` bytes.

    `kind` is "value" for what the graph's values lie in, "constant" for what is filled once when the model is compiled,
    "scratch" for the rest. The content of values and scratch does not last from one inference to the next.
    """

    key: Hashable
    nbytes: int
    kind: Literal["value", "constant", "scratch"] = "value"


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of a kernel. An int argument is passed as int32, a float as float32, a Buffer as a pointer to its memory.

    The sizes count work items, one to three dimensions; each global size is a multiple of the local one.
    """

    kernel: KernelSource
    arguments: tuple[Buffer | int | float, ...]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device is.

    Attributes:
        name, vendor: as its driver says.
        driver: the driver with its version; binaries of another one are not loaded.
        kind: "gpu", "cpu" for a driver that runs kernels on the processor, or "other".
        is_unified: whether host and device share one memory, so that mapping copies nothing.
        compute_units, clock: their number, and megahertz or 0.
        group_size: most work items of a work group.
        local_memory, memory, largest: bytes that a work group has, the device has, one allocation may have.
        alignment: bytes; what offsets of buffers are multiples of.
        half: what 16-bit floats are good for: "none", "storage" (arithmetic in float32), "arithmetic".
        sub_group: work items of a sub-group, 0 without them.
        has_double: whether kernels may use float64.
    """

    name: str
    vendor: str
    driver: str
    kind: Literal["gpu", "cpu", "other"]
    is_unified: bool
    compute_units: int
    clock: int
    group_size: int
    local_memory: int
    memory: int
    largest: int
    alignment: int
    half: Literal["none", "storage", "arithmetic"]
    sub_group: int = 0
    has_double: bool = False


class BuildError(Exception):
    """A kernel does not compile: `log` is the compiler's."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


class Memory(ABC):
    """Memory that kernels read and write, freed with the last reference to it. `nbytes` is its size.

    `array` are its bytes in the host's memory, uint8[nbytes], where the host can see it; else None. Kernels use such
    memory only while it is lent to a submission, and the host does not use it then. `handle` is the driver's own.
    """

    nbytes: int
    array: np.ndarray | None = None
    handle: Any = None

    @abstractmethod
    def at(self, offset: int, nbytes: int) -> Memory:
        """A part of it, from `offset` bytes on, a multiple of `Facts.alignment`."""


class Module(ABC):
    """Compiled kernels."""

    @abstractmethod
    def binary(self) -> bytes:
        """What `GpuRuntime.load` makes it from again; complete only after each kernel has been launched once."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An argument that each submission binds: number `index` of its `bindings`."""

    index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A launch with its memory. Sizes and arguments are as those of `Launch`."""

    module: Module
    entry: str
    arguments: tuple[Memory | Slot | int | float, ...]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy between a memory and the host's memory at `address`, of the memory's `nbytes`."""

    memory: Memory
    address: int


class Recorded(ABC):
    """Launches that a queue recorded. `times` are nanoseconds of each in its last submission, by a timing queue."""

    times: list[int]


class Prepared:
    """Commands with their memory, which it does not keep alive: for `Queue.submit`, as often as the memory lasts."""


class Queue(ABC):
    """Runs commands in the order of their submission. One thread at a time uses it."""

    @abstractmethod
    def record(self, calls: Sequence[Call]) -> Recorded:
        """Launches for `prepare`. Raises OutOfMemoryError."""

    @abstractmethod
    def prepare(
        self,
        recorded: Recorded,
        bindings: Sequence[Memory] = (),
        lent: Sequence[Memory] = (),
        writes: Sequence[Copy] = (),
        reads: Sequence[Copy] = (),
    ) -> Prepared:
        """Commands that run `writes` from the host, the launches, and `reads` to the host.

        `lent` are the memories with an `array` that are used. What was prepared of the same launches before is void.
        """

    @abstractmethod
    def submit(self, prepared: Prepared, end: End) -> None:
        """Run prepared commands, and return at once; `end` says when they are over. The memory lives until then.

        Raises:
            OutOfMemoryError: the device has not the memory.
            DeviceUnavailableError: the device is lost, or refuses a command. `end` says when those before it are over.
        """


class GpuRuntime(ABC):
    """One device of one driver. All methods but those of queues may be called from several threads at a time."""

    facts: Facts
    dialect: Literal["opencl", "cuda"]

    @abstractmethod
    def build(self, source: str) -> Module:
        """Compile a text, prelude included. Raises BuildError."""

    @abstractmethod
    def load(self, binary: bytes) -> Module:
        """What `Module.binary` gave, of this device and driver. Raises BuildError where the driver refuses it."""

    @abstractmethod
    def allocate(self, nbytes: int, host: bool = False) -> Memory:
        """New memory, with any content; with `host` the host sees it at `array`, which is aligned to pages.

        Raises OutOfMemoryError.
        """

    @abstractmethod
    def fill(self, memory: Memory, array: np.ndarray) -> None:
        """Copy a C-contiguous array into memory, and return when it is there. Raises OutOfMemoryError."""

    @abstractmethod
    def read(self, memory: Memory, array: np.ndarray) -> None:
        """Copy memory into a C-contiguous array of its size, and return when it is there."""

    @abstractmethod
    def lend(self, array: np.ndarray) -> Memory | None:
        """The host's own memory as the device's, without a copy; None where that would be none, or copies."""

    @abstractmethod
    def adopt(self, foreign: Any) -> Memory:
        """Memory of another library on this device: its object, handle or DLPack capsule.

        Raises InvalidArgumentError where it is not one, or of another device or context.
        """

    @abstractmethod
    def queue(self, priority: int = 1, throttle: int = 1, timing: bool = False) -> Queue:
        """A new queue; `priority` and `throttle` are 0 (low), 1 or 2 (high); with `timing` launches are timed."""

    @abstractmethod
    def statistics(self) -> dict[str, int]:
        """Bytes that are allocated now: "cl_mem" on the device, "usm_host" in memory that the host sees."""

    @abstractmethod
    def within(self, context: Any) -> GpuRuntime:
        """The same device in a context of the user's. Raises InvalidArgumentError where it is none of the device's."""

    @property
    @abstractmethod
    def context(self) -> Any:
        """The driver's context, for programs that use it beside this package."""

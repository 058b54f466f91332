"""Packed constants: each is laid out for its kernel once and shared by all programs and streams of a compiled model."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count

import numpy as np

from cpuruntime.compiler.kernel import Kernel
from cpuruntime.graph import Compressed, Deferred
from cpuruntime.host.memory import Slabs, allocate
from cpuruntime.program.plan.packing import Copy, Packing, Recipe
from cpuruntime.program.plan.storage import Address, Place, Storage
from cpuruntime.trace.recorder import span

SMALL = 64 * 1024
"""Bytes: larger arrays take time to digest, and are filled by other threads."""


class WeightStore:
    """The packed constants of one compiled model; filled while programs are planned, under the planner's lock.

    A packed constant lives as long as a program that names its address. Those of a model that is planned once lie in
    slabs of memory, on huge pages, in the order in which the steps read them.
    """

    def __init__(self, planned_once: bool = False) -> None:
        self.planned_once = planned_once
        self._packed: weakref.WeakValueDictionary[Hashable, Storage] = weakref.WeakValueDictionary()
        self._recipes: weakref.WeakKeyDictionary[Storage, Recipe] = weakref.WeakKeyDictionary()
        self._identities: dict[int, tuple[np.ndarray, Hashable]] = {}
        self._numbers = count()
        self._slabs = Slabs()
        self._small_slabs = Slabs()
        self._filling: _Filling | None = None
        self._check: Callable[[Sequence[Kernel]], None] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(s.size for s in self._packed.values())

    def identity(self, array: np.ndarray) -> Hashable:
        """A key for the content of `array`: a digest, so that programs for other shapes find what was packed before.

        Large arrays of a model that is planned once are numbered.
        """
        known = self._identities.get(id(array))
        if known is None:
            if self.planned_once and array.nbytes > SMALL:
                known = (array, ("array", next(self._numbers)))
            else:
                parts = array.parts() if isinstance(array, Compressed) else [array]
                digest = hashlib.sha1(usedforsecurity=False)
                for part in parts:
                    digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
                kinds = [(part.shape, part.dtype.str) for part in parts]
                known = (array, (digest.digest(), *kinds))
            # The entry holds the array, so that its id is not reused.
            self._identities[id(array)] = known
        return known[1]

    def release(self, array: np.ndarray) -> None:
        """Drops an array that will not be packed again."""
        self._identities.pop(id(array), None)

    def forget_sources(self) -> None:
        """Drops all arrays, once a program is planned."""
        self._identities.clear()

    @contextmanager
    def packing(self, threads: int, check: Callable[[Sequence[Kernel]], None] | None = None) -> Iterator[None]:
        """Large constants of this block are filled by so many threads; raises what filling them raised.

        They are filled at its end, so that no measurement is disturbed. With `check`, which raises where kernels are
        missing, those of a node are filled while the next ones are planned. What is read is freed meanwhile.
        """
        filling = self._filling = _Filling(threads)
        self._check = check
        try:
            yield
            with span("pack weights"):
                filling.finish()
        except BaseException:
            for key in filling.abandon():
                self._packed.pop(key, None)
            raise
        finally:
            self._filling = self._check = None

    def go_on(self, kernels: Iterable[Kernel]) -> None:
        """Fills, in a block of `packing` with a check, what steps of these kernels read; raises what the check does."""
        if self._check is not None and self._filling is not None and self._filling.waiting:
            self._check([*kernels])
            self._filling.start()

    def pack(
        self, key: Hashable, size: int, fill: Callable[[np.ndarray], None], kernels: Sequence[Kernel] = ()
    ) -> Address:
        """The address of `size` bytes that `fill` writes into (a zeroed uint8 array); filled once per `key`.

        `kernels` are those that `fill` runs. Until the block of `packing` ends nobody changes what it reads.
        """
        storage = self._packed.get(key)
        if storage is None:
            # Small ones lie together: fresh memory takes time, and those who plan touch no more of it than they need.
            slabs = self._small_slabs if size <= SMALL else self._slabs
            array = slabs.take(max(size, 1)) if self.planned_once else allocate(max(size, 1))
            if self._filling is None or size <= SMALL:
                fill(array)
            else:
                for kernel in kernels:
                    _ = kernel.address
                self._filling.waiting[key] = partial(fill, array)
            storage = self._packed[key] = Storage(Place.FIXED, size, owner=array)
        return Address(storage)

    def packed(self, key: Hashable, size: int, packing: Packing, source: np.ndarray | Deferred) -> Address:
        """The same for a constant that is packed so, whose recipe is noted where it comes from the model's file."""
        address = self.pack(key, size, partial(packing.fill, source=source), packing.kernels)
        if isinstance(source, Deferred) and source.origin is not None:
            self._recipes.setdefault(address.storage, (packing, source.origin))
        return address

    def recipes(self) -> dict[int, Recipe]:
        """How to pack constants again from the model's file, by their addresses."""
        noted = [*self._recipes.items()]
        return {storage.owner.ctypes.data: recipe for storage, recipe in noted if storage.owner is not None}

    def is_packed(self, key: Hashable) -> bool:
        """Whether something lives under a key."""
        return key in self._packed

    def constant(self, key: Hashable, array: np.ndarray) -> Address:
        """The address of a row-major copy of `array`."""
        return self.packed(("constant", key), array.nbytes, Copy(), array)


class _Filling:
    """The large constants of one block of `packing`: `waiting`, or being filled by threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: dict[Hashable, Future[None]] = {}
        self.waiting: dict[Hashable, Callable[[], None]] = {}

    def start(self) -> None:
        """Begin with those that wait."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "cpuruntime-pack")
        for key in [*self.waiting]:
            self._jobs[key] = self._pool.submit(self.waiting.pop(key))

    def finish(self) -> None:
        """Fill all; raises what filling one raised."""
        if self.waiting:
            self.start()
        for job in self._jobs.values():
            job.result()
        if self._pool is not None:
            self._pool.shutdown()

    def abandon(self) -> list[Hashable]:
        """The keys of all, of which none is being filled any more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        return [*self.waiting, *self._jobs]


class DryWeights(WeightStore):
    """The weights of a dry run: nothing is packed; `kernels` are those that packing would run."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: dict[Kernel, None] = {}

    def identity(self, array: np.ndarray) -> Hashable:
        """Any key: nothing is looked for."""
        return None

    def pack(
        self, key: Hashable, size: int, fill: Callable[[np.ndarray], None], kernels: Sequence[Kernel] = ()
    ) -> Address:
        """Memory without an address."""
        self.kernels.update(dict.fromkeys(kernels))
        return Address(Storage(Place.FIXED, size))

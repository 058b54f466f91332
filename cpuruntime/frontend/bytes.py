"""The bytes of a model: of a file, read piece by piece, or in memory."""

from __future__ import annotations

import os
import stat
import weakref
from math import prod

import numpy as np

from cpuruntime.errors import ModelError
from cpuruntime.graph import Deferred
from cpuruntime.host.memory import Slabs


class FileBytes:
    """A regular file, read piece by piece, never mapped: a file that is cut meanwhile is an error, not a signal."""

    def __init__(self, descriptor: int, what: str) -> None:
        """Takes over an open descriptor. Raises ModelError when it is that of no regular file."""
        self.descriptor = descriptor
        self._memory = Slabs()
        self._is_lent = False
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ModelError(f"{what} is {kind}; a regular file is needed.")
        self.size = status.st_size
        self._state = _state(status)
        self._close = weakref.finalize(self, os.close, descriptor)
        self._close.atexit = False  # threads that end may read it

    def peek(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return os.pread(self.descriptor, length, start)

    def array(self, start: int, stop: int) -> np.ndarray:
        """The bytes from `start` to `stop` in memory of their own; ModelError when the file has become shorter."""
        return self._read(start, self._memory.take(stop - start))

    def deferred(self, start: int, shape: tuple[int, ...], dtype: np.dtype) -> Deferred:
        """An array from `start` that is read when it is used; the file is open until then.

        Reading it raises ModelError when the file has changed.
        """
        self._is_lent = True

        def rows(first: int, last: int) -> np.ndarray:
            array = np.empty((last - first, *shape[1:]), dtype)
            self._read(start + first * prod(shape[1:]) * dtype.itemsize, array.reshape(-1).view(np.uint8))
            if _state(os.fstat(self.descriptor)) != self._state:
                raise ModelError("the model's file was changed while the model was compiled.")
            return array

        return Deferred(shape, dtype, lambda: rows(0, shape[0]), rows)

    def _read(self, start: int, data: np.ndarray) -> np.ndarray:
        done = 0
        while done < data.size:
            count = os.preadv(self.descriptor, [memoryview(data)[done:]], start + done)
            if count == 0:
                raise ModelError(f"the file ended at byte {start + done} while it was read.")
            done += count
        return data

    def close(self) -> None:
        """Close the file, unless an array has to be read; then it is closed with the last of these."""
        if not self._is_lent:
            self._close()


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """What changes with the content of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class MemoryBytes:
    """A model held in memory; arrays refer to it without copying."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def peek(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        return bytes(self._data[start : start + length])

    def array(self, start: int, stop: int) -> np.ndarray:
        """The bytes from `start` to `stop`, shared with the model."""
        return np.frombuffer(self._data, np.uint8, stop - start, start)

    def close(self) -> None:
        """Nothing to close."""

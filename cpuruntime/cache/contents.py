"""What a model is by its content: digests of files and bytes.

A file that was read before is not read again where device, inode, size and both its times are as they were then, and
were more than 2 seconds old: no later write can have left the time of change as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from cpuruntime.store import Folder

CHUNK = 4 * 2**20
THREADS = 2
RECENT = 2 * 10**9
"""Nanoseconds: two changes of a file so close may have the same time, in the coarsest of today's file systems."""

Stamp = list[int]


class ModelFile:
    """A model file with its external data, as it is now, by way of an index of those seen before.

    Attributes:
        digest: that of all its content; None where the files of its data are not known yet, or one cannot be read.
    """

    def __init__(self, path: str, index: Folder) -> None:
        self._path, self._index = os.path.abspath(path), index
        self._seen = f"source-{_hex(self._path.encode())[:40]}.json"
        self._own = ""
        self._before: list[tuple[str, Stamp]] = []
        self.digest: str | None = None
        try:
            self.digest = self._remembered() or self._computed()
        except OSError:
            return

    def _remembered(self) -> str | None:
        found = _read(self._index, self._seen)
        if found is None:
            return None
        digest, files = found
        self._before = [(location, _stamp(self._file(location))) for location, _ in files]
        return digest if [[location, stamp] for location, stamp in self._before] == files else None

    def _computed(self) -> str | None:
        self._before = [("", _stamp(self._path))]
        self._own = file_digest(self._path)
        locations = _read(self._index, f"content-{self._own[:40]}.json")
        return None if locations is None else self._digest(locations)

    def _digest(self, locations: Sequence[str]) -> str:
        self._before += [(location, _stamp(self._file(location))) for location in locations]
        found = [self._own, *(file_digest(self._file(location)) for location in locations)]
        digest = _hex("\0".join(found).encode())
        if self._is_as_before() and all(max(s[3:]) < time.time_ns() - RECENT for _, s in self._before):
            self._index.remove(self._seen)
            self._index.publish(self._seen, json.dumps([digest, self._before]).encode())
        return digest

    def learn(self, locations: Sequence[str]) -> None:
        """The model was read, with external data at these locations: sets `digest`, None where a file changed."""
        try:
            if not self._own:
                self._own = file_digest(self._path)
            if self.digest is None:
                locations = sorted(set(locations))
                self._index.publish(f"content-{self._own[:40]}.json", json.dumps(locations).encode())
                self.digest = self._digest(locations)
            if not self._is_as_before():
                self.digest = None
        except OSError:
            self.digest = None

    def _is_as_before(self) -> bool:
        return all(_stamp(self._file(location)) == stamp for location, stamp in self._before)

    def _file(self, location: str) -> str:
        return os.path.join(os.path.dirname(self._path), location) if location else self._path


def bytes_digest(model: bytes) -> str:
    """That of a model in memory."""
    return _hex(model)


def _read(folder: Folder, name: str) -> Any:
    content = folder.read(name)
    return None if content is None else json.loads(content)


def _hex(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()


def _stamp(path: str) -> Stamp:
    facts = os.stat(path)
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def file_digest(path: str) -> str:
    """That of the digests of a file's chunks, which are read in several threads."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _digesting(descriptor)()
    finally:
        os.close(descriptor)


def content_digest(descriptor: int) -> Callable[[], str]:
    """What awaits `ModelFile.digest` of an open file without external data, which is read by threads meanwhile."""
    digest = _digesting(descriptor)
    return lambda: _hex(digest().encode())


def _digesting(descriptor: int) -> Callable[[], str]:
    starts = range(0, os.fstat(descriptor).st_size, CHUNK)
    digests, failed = [b""] * len(starts), list[OSError]()

    def work(first: int) -> None:
        try:
            for number in range(first, len(starts), THREADS):
                digests[number] = hashlib.sha256(os.pread(descriptor, CHUNK, starts[number])).digest()
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(min(THREADS, len(starts)))]
    for thread in threads:
        thread.start()

    def wait() -> str:
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return _hex(b"".join(digests))

    return wait

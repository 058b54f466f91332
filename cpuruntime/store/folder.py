"""A private folder of checksummed files: compiled kernels, which are executed, and results of measurements.

The folder belongs to the effective user and nobody else may write to it. It is opened once, without following a
symbolic link, and all access is by its descriptor, so that a later change of a parent folder has no effect. A file
begins with a digest of its name and content: a truncated, damaged or foreign file is ignored, and replaced by the next
writer. Nothing here raises: a folder that cannot be used caches nothing, which is logged once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

log = logging.getLogger("cpuruntime")

MOST_BYTES = 512 * 2**20
"""Size limit of a folder: some ten thousand kernels; arbitrary."""

HOUR, DAY = 3600, 86400


class Folder:
    """A private folder. Thread-safe, and safe beside other processes.

    Args:
        path: made with mode 0700, parents too, where it does not exist. None: nothing is cached.
        most_bytes: above it, the files that were not used for longest are removed.
    """

    def __init__(self, path: Path | None, most_bytes: int = MOST_BYTES) -> None:
        self.path = None if path is None else path.absolute()
        self._most_bytes = most_bytes
        self._unchecked = most_bytes
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        if self.path is not None:
            try:
                self._descriptor = _open_folder(self.path)
                weakref.finalize(self, os.close, self._descriptor).atexit = False  # threads that end use it then
            except OSError as error:
                log.warning("folder %s cannot be used, nothing is cached there: %s", self.path, error)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, valid or not."""
        try:
            return self._descriptor is not None and bool(os.stat(name, dir_fd=self._descriptor))
        except OSError:
            return False

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is no valid one."""
        if self._descriptor is None:
            return None
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(name, flags, dir_fd=self._descriptor), "rb") as file:
                facts = os.fstat(file.fileno())
                _check_private(facts, stat.S_ISREG)
                found = file.read()
                if facts.st_mtime < time.time() - DAY:
                    os.utime(file.fileno())  # the date of the last use, to the day
        except OSError:
            return None
        digest, content = found[:32], found[32:]
        return content if digest == _digest(name, content) else None

    def publish(self, name: str, content: bytes) -> bytes:
        """Writes a file unless there is a valid one, and returns the content of the file: the first writer's.

        The file appears whole. A full disk or a read-only folder is logged, and costs the work of making the content
        again in the next process.
        """
        return self._write(name, _digest(name, content) + content, replace=False) or content

    def write_text(self, name: str, text: str) -> None:
        """Writes a file for people, which `read` does not accept."""
        self._write(name, text.encode(), replace=True)

    def _write(self, name: str, data: bytes, replace: bool) -> bytes | None:
        """Writes a file; without `replace` only where there is no valid one, whose content is returned."""
        if self._descriptor is None:
            return None
        temporary = f".{secrets.token_hex(8)}"
        place = {"src_dir_fd": self._descriptor, "dst_dir_fd": self._descriptor}
        try:
            self._limit(len(data))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                with open(os.open(temporary, flags, 0o600, dir_fd=self._descriptor), "wb") as file:
                    file.write(data)
                if not replace:
                    try:
                        os.link(temporary, name, **place)
                        return None
                    except OSError:  # there is a file, or the file system has no links
                        found = self.read(name)
                        if found is not None:
                            return found
                os.replace(temporary, name, **place)
            finally:
                self._remove(temporary)
        except OSError as error:
            log.warning("%s could not be written to %s: %s", name, self.path, error)
        return None

    def _limit(self, size: int) -> None:
        """Checks the limit before the first file and after every sixteenth part of the limit that was written."""
        with self._lock:
            self._unchecked += size
            if self._unchecked < self._most_bytes // 16:
                return
            self._unchecked = 0
            now, files = time.time(), []
            with os.scandir(self._descriptor) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        facts = entry.stat(follow_symlinks=False)
                        if entry.name.startswith(".") and facts.st_mtime < now - HOUR:
                            self._remove(entry.name)  # its writer was killed
                        elif stat.S_ISREG(facts.st_mode):
                            files.append((facts.st_mtime, entry.name, facts.st_size))
        excess = sum(size for *_, size in files) + size - self._most_bytes
        if excess > 0:
            excess += self._most_bytes // 4
        for _, name, length in sorted(files):
            if excess <= 0:
                return
            self._remove(name)
            excess -= length

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _open_folder(path: Path) -> int:
    for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
        with suppress(FileExistsError):  # another process made it
            missing.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_private(os.fstat(descriptor), stat.S_ISDIR)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_private(facts: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("it must belong to this user and be writable by nobody else")


@cache
def cache_folder() -> Folder:
    """The folder of compiled kernels and measurements.

    CPURUNTIME_CACHE_DIR/kernels, else cpuruntime/kernels under the user's cache folder.
    """
    base, home = os.environ.get("CPURUNTIME_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if base else (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "cpuruntime"
    except RuntimeError as error:
        log.warning("nothing is cached: %s", error)
        return Folder(None)
    return Folder(root / "kernels")

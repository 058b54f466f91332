"""A private folder of checksummed files: compiled kernels, which are executed, and results of measurements.

A file begins with a digest of its name and content: a truncated, damaged or foreign file is ignored, and replaced by
the next writer. Nothing here raises: a folder that cannot be used or written caches nothing, which is logged once.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pwd
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from cpuruntime.store.environment import trusted_environment
from cpuruntime.store.private import PrivateFolder

log = logging.getLogger("cpuruntime")

MOST_BYTES = 512 * 2**20
"""Size limit of a folder: some ten thousand kernels; arbitrary."""

MINUTE, HOUR, DAY = 60, 3600, 86400


class Folder:
    """A private folder. Thread-safe, and safe beside other processes.

    Args:
        path: made with mode 0700, parents too, where it does not exist. None: nothing is cached.
        most_bytes: above it, the files that were not used for longest are removed.
        base: another folder, whose files are found here, too.
        of_root: whether root may own the folder instead.
    """

    def __init__(
        self, path: Path | None, most_bytes: int = MOST_BYTES, base: Folder | None = None, of_root: bool = False
    ) -> None:
        self._most_bytes = most_bytes
        self._base = base
        self._is_failing = False
        self._unchecked = most_bytes
        self._lock = threading.Lock()
        self._folder: PrivateFolder | None = None
        if path is not None:
            try:
                self._folder = PrivateFolder(path, of_root)
            except OSError as error:
                log.warning("folder %s cannot be used, nothing is cached there: %s", path, error)

    @property
    def path(self) -> Path | None:
        """The absolute path; None where nothing is cached."""
        return self._folder and self._folder.path

    @property
    def nbytes(self) -> int:
        """Bytes of all files; 0 where nothing is cached."""
        if self._folder is None:
            return 0
        return sum(size for *_, size in _files(self._folder)[0])

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, valid or not."""
        with suppress(OSError):
            if self._folder is not None and os.stat(name, dir_fd=self._folder.descriptor):
                return True
        return self._base is not None and self._base.has(name)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is no valid one."""
        found = self._read(name)
        return self._base.read(name) if found is None and self._base is not None else found

    def _read(self, name: str) -> bytes | None:
        if self._folder is None:
            return None
        try:
            with self._folder.open_file(name) as file:
                found = file.read()
                _note_use(file, DAY)
        except OSError:
            return None
        digest, content = found[:32], found[32:]
        return content if digest == _digest(name, content) else None

    def publish(self, name: str, content: bytes) -> bytes:
        """Writes a file unless there is a valid one, and returns the content of the file: the first writer's.

        The file appears whole. A full disk or a read-only folder is logged once, and costs the work of making the
        content again in the next process.
        """
        if self._base is not None and (found := self._base.read(name)) is not None:
            return found
        return self._write(name, [_digest(name, content), content], replace=False) or content

    def write_text(self, name: str, text: str) -> None:
        """Writes a file for people, which `read` does not accept."""
        self.replace(name, [text.encode()])

    def replace(self, name: str, pieces: Sequence[bytes | memoryview]) -> None:
        """Writes a file that has a checksum of its own, or none; the latest writer's stays."""
        self._write(name, pieces, replace=True)

    def open(self, name: str) -> io.FileIO:
        """A file as it is, to read from; its use is noted. Raises OSError where there is none."""
        if self._folder is None:
            raise FileNotFoundError(f"there is no folder for {name}")
        file = self._folder.open_file(name)
        _note_use(file, MINUTE)
        return file

    def files(self) -> list[tuple[float, str, int]]:
        """(time of the last use, name, bytes) of each file, the one that was not used for longest first."""
        return [] if self._folder is None else sorted(_files(self._folder)[0])

    def remove(self, name: str) -> None:
        """Removes a file, so that the next writer's is the first."""
        if self._folder is not None:
            with suppress(OSError):
                self._folder.remove(name)

    def _write(self, name: str, pieces: Sequence[bytes | memoryview], replace: bool) -> bytes | None:
        """Writes a file; without `replace` only where there is no valid one, whose content is returned."""
        folder = self._folder
        if folder is None:
            return None
        temporary = f".{os.urandom(8).hex()}"
        place = {"src_dir_fd": folder.descriptor, "dst_dir_fd": folder.descriptor}
        try:
            self._limit(folder, sum(map(len, pieces)))
            try:
                with io.BufferedWriter(folder.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)) as file:
                    file.writelines(pieces)
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
                folder.remove(temporary)
        except OSError as error:
            if not self._is_failing:
                log.warning("%s could not be written to %s: %s", name, self.path, error)
            self._is_failing = True
        return None

    def _limit(self, folder: PrivateFolder, size: int) -> None:
        """Checks the limit before the first file and after every sixteenth part of the limit that was written."""
        with self._lock:
            self._unchecked += size
            if self._unchecked < self._most_bytes // 16:
                return
            self._unchecked = 0
            files, abandoned = _files(folder)
            for name in abandoned:
                folder.remove(name)
        excess = sum(size for *_, size in files) + size - self._most_bytes
        if excess > 0:
            excess += self._most_bytes // 4
        for _, name, length in sorted(files):
            if excess <= 0:
                return
            folder.remove(name)
            excess -= length


def _files(folder: PrivateFolder) -> tuple[list[tuple[float, str, int]], list[str]]:
    """(time of the last use, name, bytes) of each file, and the names of those whose writers were killed."""
    now, files, abandoned = time.time(), [], []
    with os.scandir(folder.descriptor) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                if entry.name.startswith(".") and facts.st_mtime < now - HOUR:
                    abandoned.append(entry.name)
                elif stat.S_ISREG(facts.st_mode):
                    files.append((facts.st_mtime, entry.name, facts.st_size))
    return files, abandoned


def _note_use(file: io.FileIO, exactness: int) -> None:
    """Makes the time of a file that of its last use, to so many seconds."""
    if os.fstat(file.fileno()).st_mtime < time.time() - exactness:
        with suppress(OSError):  # the file system may be read-only
            os.utime(file.fileno())


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


@cache
def cache_folder() -> Folder:
    """The folder of compiled kernels and measurements.

    CPURUNTIME_CACHE_DIR/kernels, else cpuruntime/kernels under the user's cache folder. In a home or cache folder of
    another user, as under sudo, none is made. Where it cannot be written, which is logged, a private folder in TMPDIR
    takes what is written, and what is there is used.
    """
    temporary = trusted_environment().get("TMPDIR", "")
    instead = Path(temporary if os.path.isabs(temporary) else "/tmp", f"cpuruntime-cache-{os.geteuid()}")
    path = base = None
    try:
        path = _chosen_folder()
        folder = PrivateFolder(path)
        if os.access(".", os.W_OK, dir_fd=folder.descriptor, effective_ids=True):
            return Folder(path)
        problem, base = "it cannot be written", Folder(path)
    except OSError as error:
        problem = error.strerror or str(error)
    log.warning(
        "compiled kernels are stored in %s, which may not last, and not in %s: %s; CPURUNTIME_CACHE_DIR can name "
        "another folder", instead, path or "the user's cache", problem,
    )  # fmt: skip
    return Folder(instead, base=base)


def _chosen_folder() -> Path:
    """Where the cache should be; OSError where no folder may be made there."""
    variables = trusted_environment()
    chosen, caches = variables.get("CPURUNTIME_CACHE_DIR"), variables.get("XDG_CACHE_HOME", "")
    if chosen:
        return Path(chosen, "kernels")
    base = Path(caches) if os.path.isabs(caches) else _home(variables.get("HOME", "")) / ".cache"
    folder = base / "cpuruntime" / "kernels"
    if not folder.exists():
        _check_owner(base)
    return folder


def _home(variable: str) -> Path:
    """HOME, else the effective user's home by the user database; OSError where there is none."""
    try:
        home = variable or pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = ""
    if not os.path.isabs(home):
        raise FileNotFoundError(f"user {os.geteuid()} has no home folder")
    return Path(home)


def _check_owner(path: Path) -> None:
    """OSError where the folder, or the one it would be made in, belongs to another user, who could replace ours."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    owner = existing.stat().st_uid
    if owner not in (0, os.geteuid()):
        raise PermissionError(f"{existing} belongs to user {owner}, not to {os.geteuid()}")

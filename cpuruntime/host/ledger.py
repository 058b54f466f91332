"""The ledger: leases of the processors that this user's processes have pinned threads to, so that others avoid them.

Each lease is a file in a folder of the user's own, locked by the process that holds it. The kernel drops the lock when
the process ends, however it ends, and a file without a lock is no lease: nothing has to be repaired after a crash. A
process holds the folder's lock while it chooses processors, so that two never choose the same.

The folder is /tmp/cpuruntime-UID, or CPURUNTIME_LEDGER_DIR; services and cron jobs have no XDG_RUNTIME_DIR, and
systemd-tmpfiles leaves locked files alone. A folder that other users can write is not used, nor is one behind a
symbolic link: then this process knows only its own leases, and explains so. Containers of one kernel that share the
folder see each other; leases made under another kernel are ignored, since they number other processors.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.host import forks
from cpuruntime.host.assignment import Assignment, Holder, ProcessorRequest, assign
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.sysfs import read_text

PATIENCE = 2.0
"""Seconds to wait for the folder's lock; a process holds it for well below a millisecond."""

_LOCK = "lock"


class Lease:
    """Processors that others avoid until `release`, or until the process ends. A forked child does not have it.

    `cpus` and `reasons` are the assignment's; `seen` are the leases that were held before.
    """

    def __init__(
        self, holder: Holder, assignment: Assignment, seen: Sequence[Holder], file: io.FileIO | None, path: Path
    ) -> None:
        self.holder = holder
        self.seen = tuple(seen)
        self.cpus = assignment.cpus
        self.reasons = assignment.reasons
        self._file = file
        self._release = weakref.finalize(self, _remove, file, path)

    @property
    def is_held(self) -> bool:
        """Whether it was not released."""
        return self._release.alive

    def release(self) -> None:
        """Release the processors; from any thread or finaliser, since it takes no lock. A second call does nothing."""
        self._release()

    def after(self, count: int) -> Callable[[], None]:
        """A function that releases when it is called for the last of `count` times."""
        left = [None] * (count - 1)

        def release() -> None:
            try:
                left.pop()
            except IndexError:
                self.release()

        return release

    def _forked(self) -> None:
        self._release.detach()
        if self._file is not None:
            self._file.close()


def _remove(file: io.FileIO | None, path: Path) -> None:
    if file is not None:
        with suppress(OSError):
            path.unlink()
        _unlock(file)


def _unlock(file: io.FileIO) -> None:
    """Unlock and close: a child that foreign code forked may have the file open, too, so closing is not enough."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


class Snapshot:
    """All leases while the folder's lock is held: no other process or thread makes one.

    `problem` says why leases of other processes are not known; empty when they are.
    """

    def __init__(self, folder: Path, descriptor: int | None, holders: Sequence[Holder], problem: str) -> None:
        self.holders = tuple(holders)
        self.problem = problem
        self._folder = folder
        self._descriptor = descriptor

    def assign(
        self,
        requests: Sequence[ProcessorRequest],
        exclusive: bool = False,
        cores: Mapping[int, int] | None = None,
        quota: Quota | None = None,
    ) -> Assignment:
        """The processors that `lease` would lease; it raises the same errors."""
        assignment = assign(requests, self.holders, exclusive, cores, quota)
        return _alone(assignment, exclusive, self.problem) if self.problem else assignment

    def lease(
        self,
        requests: Sequence[ProcessorRequest],
        name: str = "",
        exclusive: bool = False,
        cores: Mapping[int, int] | None = None,
        quota: Quota | None = None,
    ) -> Lease:
        """Lease processors for the model called `name`; arguments and errors are those of `assignment.assign`.

        DeviceUnavailableError also for an exclusive lease that other processes could not see.
        """
        assignment = self.assign(requests, exclusive, cores, quota)
        key = f"{_machine()}-{os.getpid()}-{os.urandom(6).hex()}"
        cpus = tuple(cpu for share in assignment.cpus for cpu in share)
        holder = Holder(os.getpid(), name, cpus, exclusive, key, quota.group if quota else 0, is_own=True)
        file = None
        if self._descriptor is not None:
            try:
                file = _write(holder, self._descriptor)
            except OSError as error:
                assignment = _alone(assignment, exclusive, f"{self._folder} cannot be written: {error.strerror}")
        lease = Lease(holder, assignment, self.holders, file, self._folder / key)
        _leases.add(lease)
        return lease


EMPTY = Snapshot(Path(), None, (), "")
"""The snapshot of a machine where nothing is leased."""


def _alone(assignment: Assignment, exclusive: bool, problem: str) -> Assignment:
    """The assignment where this process and others do not see each other's leases."""
    if exclusive:
        raise DeviceUnavailableError(f"ENABLE_CPU_RESERVATION needs a folder where others can see it: {problem}.")
    reason = f"processors that other processes have pinned are not known: {problem}"
    return Assignment(assignment.cpus, (*assignment.reasons, reason))


class Ledger:
    """The ledger in `folder`, by default the user's; may be used from several threads."""

    def __init__(self, folder: Path | None = None) -> None:
        chosen = os.environ.get("CPURUNTIME_LEDGER_DIR")
        self.folder = folder or Path(chosen or f"/tmp/cpuruntime-{os.geteuid()}").absolute()

    @contextmanager
    def open(self) -> Iterator[Snapshot]:
        """Lock the folder until the end of the `with`, and read its leases; where it is unusable, this process's."""
        with _lock, ExitStack() as stack:
            descriptor = None
            problem = ""
            try:
                descriptor = _open_folder(self.folder)
                stack.callback(os.close, descriptor)
                mutex = open_in(_LOCK, os.O_RDWR | os.O_CREAT, descriptor)
                stack.callback(_unlock, mutex)
                _wait_for(mutex)
                holders = list(_read(descriptor))
            except OSError as error:
                problem = f"{self.folder} {error if error.errno is None else f'cannot be used: {error.strerror}'}"
                descriptor, holders = None, [lease.holder for lease in list(_leases) if lease.is_held]
            yield Snapshot(self.folder, descriptor, holders, problem)

    def holders(self) -> list[Holder]:
        """All leases at this moment, by process."""
        with self.open() as snapshot:
            return sorted(snapshot.holders, key=lambda holder: (holder.pid, holder.cpus))


def open_in(name: str, flags: int, folder: int) -> io.FileIO:
    """A file in the folder; it is closed on exec, and in forked children."""
    mode = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "r+"}[flags & os.O_ACCMODE]
    file = io.FileIO(name, mode, opener=lambda path, _: os.open(path, flags | _SAFELY, 0o600, dir_fd=folder))
    _files.add(file)
    return file


_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def _open_folder(path: Path) -> int:
    """The folder, made if it does not exist. OSError unless this user alone can write it."""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
    except OSError as error:
        raise OSError(f"cannot be used as a folder: {error.strerror}") from None
    facts = os.fstat(descriptor)
    if facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return descriptor
    os.close(descriptor)
    if facts.st_uid != os.geteuid():
        raise OSError(f"belongs to user {facts.st_uid}, not to {os.geteuid()}")
    raise OSError("can be written by other users")


def _write(holder: Holder, folder: int) -> io.FileIO:
    file = open_in(holder.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        names = ("pid", "name", "cpus", "exclusive", "group")
        file.write(json.dumps({name: getattr(holder, name) for name in names}).encode())
    except OSError:
        os.unlink(holder.key, dir_fd=folder)
        file.close()
        raise
    return file


def _wait_for(mutex: io.FileIO) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"has been locked by another process for {PATIENCE:g} seconds") from None
            time.sleep(0.001)


def _read(folder: int) -> Iterator[Holder]:
    """The leases that are held; files without a lock are removed."""
    prefix = _machine() + "-"
    own = {lease.holder.key for lease in list(_leases) if lease.is_held}
    for name in os.listdir(folder):
        if not name.startswith(prefix):
            continue
        with suppress(FileNotFoundError), open_in(name, os.O_RDONLY, folder) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(file.read())
                    cpus = tuple(int(cpu) for cpu in entry["cpus"])
                    pid, group = int(entry["pid"]), int(entry.get("group", 0))
                    yield Holder(pid, str(entry["name"]), cpus, bool(entry["exclusive"]), name, group, name in own)
            else:
                os.unlink(name, dir_fd=folder)


def _machine() -> str:
    """The identity of the running kernel; under one kernel processors have the same numbers everywhere."""
    return read_text(Path("/proc/sys/kernel/random/boot_id")).replace("-", "") or "unknown"


_lock = threading.RLock()
_leases: weakref.WeakSet[Lease] = weakref.WeakSet()
_files: weakref.WeakSet[io.FileIO] = weakref.WeakSet()


def _in_child() -> None:
    """In a forked child: its streams do not exist, so it holds nothing. Closing a file here does not unlock it."""
    global _lock
    _lock = threading.RLock()
    for lease in list(_leases):
        lease._forked()
    for file in list(_files):
        file.close()


forks.functions.append(_in_child)

"""The ledger: leases of the processors that this user's processes have pinned threads to, so that others avoid them.

Each lease is a file in a folder of the user's own, locked by the process that holds it. The kernel drops the lock when
the process ends, however it ends, and a file without a lock is no lease: nothing has to be repaired after a crash. A
process holds the folder's lock while it chooses processors, so that two never choose the same.

The folder is the one that CPURUNTIME_LEDGER_DIR names, else /tmp/cpuruntime-UID, else, where another user took that
name, /run/user/UID/cpuruntime. XDG_RUNTIME_DIR plays no part and its folder comes second: services and cron jobs do not
have the variable, and the folder is removed when the user logs out while his processes run on. systemd-tmpfiles leaves
locked files alone. Where no folder is private, this process knows only its own leases, and explains so. Containers of
one kernel that share the folder see each other; leases made under another kernel are ignored, since they number other
processors.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.host import forks
from cpuruntime.host.assignment import Assignment, Holder, ProcessorRequest, assign
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.sysfs import read_text
from cpuruntime.store import PrivateFolder, trusted_environment

PATIENCE = 2.0
"""Seconds to wait for the folder's lock; a process holds it for well below a millisecond."""

MOST_BYTES = 2**17
"""Size limit of a file of a lease, for those that read it; arbitrary."""

MOST_CHARACTERS = 1000
"""Of a model's name in a lease; arbitrary."""

_LOCK = "lock"


class Lease:
    """Processors that others avoid until `release`, or until the process ends. A forked child does not have it.

    `cpus` and `reasons` are the assignment's; `seen` are the leases that were held before.
    """

    def __init__(
        self,
        holder: Holder,
        assignment: Assignment,
        seen: Sequence[Holder],
        file: io.FileIO | None,
        folder: PrivateFolder | None,
    ) -> None:
        self.holder = holder
        self.seen = tuple(seen)
        self.cpus = assignment.cpus
        self.reasons = assignment.reasons
        self._file = file
        self._release = weakref.finalize(self, _remove, file, folder, holder.key)

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


def _remove(file: io.FileIO | None, folder: PrivateFolder | None, name: str) -> None:
    if file is not None and folder is not None:
        with suppress(OSError):
            folder.remove(name)
        _unlock(file)


def _unlock(file: io.FileIO) -> None:
    """Unlock and close: a child that foreign code forked may have the file open, too, so closing is not enough."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


class Snapshot:
    """All leases while the folder's lock is held: no other process or thread makes one.

    `problem` says why leases of other processes are not known, or not of all; empty when they are.
    """

    def __init__(self, folder: PrivateFolder | None, holders: Sequence[Holder], problem: str) -> None:
        self.holders = tuple(holders)
        self.problem = problem
        self._folder = folder

    def assign(
        self,
        requests: Sequence[ProcessorRequest],
        exclusive: bool = False,
        cores: Mapping[int, int] | None = None,
        quota: Quota | None = None,
    ) -> Assignment:
        """The processors that `lease` would lease; it raises the same errors."""
        assignment = assign(requests, self.holders, exclusive, cores, quota)
        if not self.problem:
            return assignment
        if self._folder is None:
            return _alone(assignment, exclusive, self.problem)
        reason = f"only processes that use {self._folder.path} are known, since {self.problem}"
        return Assignment(assignment.cpus, (*assignment.reasons, reason))

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
        key = f"{machine()}-{os.getpid()}-{os.urandom(6).hex()}"
        cpus = tuple(cpu for share in assignment.cpus for cpu in share)
        holder = Holder(os.getpid(), name, cpus, exclusive, key, quota.group if quota else 0, is_own=True)
        file = None
        if self._folder is not None:
            try:
                file = _write(holder, self._folder)
            except OSError as error:
                assignment = _alone(assignment, exclusive, f"{self._folder.path} cannot be written: {error.strerror}")
        lease = Lease(holder, assignment, self.holders, file, self._folder)
        _leases.add(lease)
        return lease


EMPTY = Snapshot(None, (), "")
"""The snapshot of a machine where nothing is leased."""


def _alone(assignment: Assignment, exclusive: bool, problem: str) -> Assignment:
    """The assignment where this process and others do not see each other's leases."""
    problem += "; CPURUNTIME_LEDGER_DIR can name a folder for the leases of this user's processes"
    if exclusive:
        raise DeviceUnavailableError(f"ENABLE_CPU_RESERVATION needs a folder where others can see it: {problem}.")
    reason = f"processors that other processes have pinned are not known: {problem}"
    return Assignment(assignment.cpus, (*assignment.reasons, reason))


class Ledger:
    """The ledger in the first private one of `folders`, by default the user's; may be used from several threads."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders or default_folders()

    @contextmanager
    def open(self) -> Iterator[Snapshot]:
        """Lock the folder until the end of the `with`, and read its leases; where it is unusable, this process's."""
        with _lock, ExitStack() as stack:
            folder, problem = _first_private(self.folders)
            holders = [lease.holder for lease in list(_leases) if lease.is_held]
            if folder is not None:
                try:
                    mutex = open_in(folder, _LOCK, os.O_RDWR | os.O_CREAT)
                    stack.callback(_unlock, mutex)
                    _wait_for(mutex)
                    holders = list(_read(folder))
                except OSError as error:
                    folder, problem = None, _unusable(folder.path, error)
            yield Snapshot(folder, holders, problem)

    def holders(self) -> list[Holder]:
        """All leases at this moment, by process."""
        with self.open() as snapshot:
            return sorted(snapshot.holders, key=lambda holder: (holder.pid, holder.cpus))


def _first_private(paths: Sequence[Path]) -> tuple[PrivateFolder | None, str]:
    """The first folder that can be used, and why those before it cannot."""
    problems = []
    for path in paths:
        try:
            return PrivateFolder(_absolute(path)), "; ".join(problems)
        except OSError as error:
            problems.append(_unusable(path, error))
    return None, "; ".join(problems)


def _unusable(path: Path, error: OSError) -> str:
    return f"{path} cannot be used: {error.strerror or error}"


def default_folders() -> tuple[Path, ...]:
    """Where the ledger of the effective user's processes is, by preference."""
    chosen = trusted_environment().get("CPURUNTIME_LEDGER_DIR")
    if chosen:
        return (Path(chosen),)
    user = os.geteuid()
    session = Path(f"/run/user/{user}")
    return (Path(f"/tmp/cpuruntime-{user}"), *([session / "cpuruntime"] if session.exists() else []))


@cache
def _absolute(path: Path) -> Path:
    """The path at the first use: a process that changes its working folder stays with its ledger."""
    return path.absolute()


def open_in(folder: PrivateFolder, name: str, flags: int = os.O_RDONLY) -> io.FileIO:
    """A file in the folder; it is closed on exec, and in forked children."""
    file = folder.open_file(name, flags)
    _files.add(file)
    return file


def _write(holder: Holder, folder: PrivateFolder) -> io.FileIO:
    file = open_in(folder, holder.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entry = {name: getattr(holder, name) for name in ("pid", "cpus", "exclusive", "group")}
        file.write(json.dumps({**entry, "name": holder.name[:MOST_CHARACTERS]}).encode())
    except OSError:
        folder.remove(holder.key)
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


def _read(folder: PrivateFolder) -> Iterator[Holder]:
    """The leases that are held; files without a lock are removed."""
    prefix = machine() + "-"
    own = {lease.holder.key for lease in list(_leases) if lease.is_held}
    for name in os.listdir(folder.descriptor):
        if not name.startswith(prefix):
            continue
        with suppress(FileNotFoundError, PermissionError), open_in(folder, name) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(name, file.read(MOST_BYTES), name in own)
                if holder is not None:
                    yield holder
            else:
                folder.remove(name)


def _holder(key: str, text: bytes, is_own: bool) -> Holder | None:
    """The holder of a lease; None where its file is malformed."""
    try:
        entry = json.loads(text)
        cpus = tuple(int(cpu) for cpu in entry["cpus"])
        pid, group = int(entry["pid"]), int(entry.get("group", 0))
        return Holder(pid, str(entry["name"]), cpus, bool(entry["exclusive"]), key, group, is_own)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def machine() -> str:
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

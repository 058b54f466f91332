"""The ledger of pinned processors: which processes of this user have pinned threads where, so that others avoid them.

Each lease is a file in a folder of the user's own, locked by the process that holds it. The kernel drops the lock when
the process ends, however it ends, and what is not locked is not a lease: there is nothing to repair after a crash and
nobody to ask. Whoever chooses processors holds the folder's lock meanwhile, so that two never choose the same.

The folder is /tmp/cpuruntime-UID, or CPURUNTIME_LEDGER_DIR. It is not below XDG_RUNTIME_DIR, which services and cron
jobs of the same user do not have: they would not see the others. systemd-tmpfiles leaves locked files alone.
A folder that is not the user's alone is not used, nor is one behind a symbolic link: then this process knows only its
own leases, and says so. Leases made under another kernel (a virtual machine that shares the folder) are ignored, since
they number other processors; containers of one kernel that share the folder see each other.
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.processors import cpu_list

PATIENCE = 2.0
"""Seconds to wait for another process that is choosing processors, which takes well below a millisecond."""

_LOCK = "lock"


@dataclass(frozen=True)
class Wish:
    """`count` processors for one stream, out of `candidates`, best first."""

    candidates: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Holder:
    """A lease as others see it: the process, the name of its model, and the processors it has pinned threads to.

    `key` tells leases apart, `group` is that of the CPU quota they are under (0: not known), and `is_own` whether it is
    this process's.
    """

    pid: int
    name: str
    cpus: tuple[int, ...]
    exclusive: bool = False
    key: str = ""
    group: int = 0
    is_own: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        process = "this process" if self.pid == os.getpid() else f"process {self.pid}"
        return f"{process} (model '{self.name}')" if self.name else process


@dataclass(frozen=True)
class Choice:
    """The processors of each stream, and a sentence for each thing that is not as in the plan."""

    cpus: tuple[tuple[int, ...], ...]
    reasons: tuple[str, ...] = ()


class Lease:
    """Processors that others avoid until `release`, or until the process ends. A forked child does not have it.

    Attributes:
        cpus: the processors of each stream.
        reasons: what is not as in the plan, and why; a sentence each.
        seen: the leases there were before.
    """

    def __init__(
        self, holder: Holder, choice: Choice, seen: Sequence[Holder], file: io.FileIO | None, path: Path
    ) -> None:
        self.holder = holder
        self.seen = tuple(seen)
        self.cpus = choice.cpus
        self.reasons = choice.reasons
        self._file = file
        self._given_back = weakref.finalize(self, _give_back, file, path)

    @property
    def is_held(self) -> bool:
        """Whether it was not released."""
        return self._given_back.alive

    def release(self) -> None:
        """Gives the processors back. Any thread, a finaliser too: it takes no lock. Again does nothing."""
        self._given_back()

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
        self._given_back.detach()
        if self._file is not None:
            self._file.close()


def _give_back(file: io.FileIO | None, path: Path) -> None:
    if file is None:
        return
    with suppress(OSError):
        path.unlink()
    with suppress(OSError):
        # Not by closing alone: a child that foreign code forked may have the file open, too.
        fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


class Page:
    """The ledger while nobody else can change it: who holds what, and the means to hold more.

    Attributes:
        holders: all leases, those of this process included.
        problem: why leases of other processes are not known; empty when they are.
    """

    def __init__(self, folder: Path, descriptor: int | None, holders: Sequence[Holder], problem: str) -> None:
        self.holders = tuple(holders)
        self.problem = problem
        self._folder = folder
        self._descriptor = descriptor

    def choose(
        self,
        wishes: Sequence[Wish],
        exclusive: bool = False,
        cores: Mapping[int, int] | None = None,
        quota: Quota | None = None,
    ) -> Choice:
        """What `lease` would lease."""
        choice = choose(wishes, self.holders, exclusive, cores, quota)
        return _alone(choice, exclusive, self.problem) if self.problem else choice

    def lease(
        self,
        wishes: Sequence[Wish],
        name: str = "",
        exclusive: bool = False,
        cores: Mapping[int, int] | None = None,
        quota: Quota | None = None,
    ) -> Lease:
        """Leases processors as `choose` finds them, for the model called `name`."""
        choice = self.choose(wishes, exclusive, cores, quota)
        key = f"{_machine()}-{os.getpid()}-{os.urandom(6).hex()}"
        cpus = tuple(cpu for share in choice.cpus for cpu in share)
        holder = Holder(os.getpid(), name, cpus, exclusive, key, quota.group if quota else 0, is_own=True)
        file = None
        if self._descriptor is not None:
            try:
                file = _write(holder, self._descriptor)
            except OSError as error:
                choice = _alone(choice, exclusive, f"{self._folder} cannot be written: {error.strerror}")
        lease = Lease(holder, choice, self.holders, file, self._folder / key)
        _leases.add(lease)
        return lease


NOBODY = Page(Path(), None, (), "")
"""The page of a machine where nothing is leased."""


def _alone(choice: Choice, exclusive: bool, problem: str) -> Choice:
    """The choice where other processes and this one do not know of each other."""
    if exclusive:
        raise DeviceUnavailableError(f"ENABLE_CPU_RESERVATION needs a folder where others can see it: {problem}.")
    reason = f"processors that other processes have pinned are not known: {problem}"
    return Choice(choice.cpus, (*choice.reasons, reason))


class Ledger:
    """The ledger in `folder`; the user's by default. Any thread; many may exist of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        chosen = os.environ.get("CPURUNTIME_LEDGER_DIR")
        self.folder = folder or Path(chosen or f"/tmp/cpuruntime-{os.geteuid()}").absolute()

    @contextmanager
    def open(self) -> Iterator[Page]:
        """The ledger as it is, kept from changing until the end of the `with`: be quick.

        Processes wait for each other here. Where the folder cannot be used the page has this process's leases alone.
        """
        with _lock:
            descriptor = None
            mutex = None
            problem = ""
            try:
                try:
                    descriptor = _open_folder(self.folder)
                    mutex = _open(_LOCK, os.O_RDWR | os.O_CREAT, descriptor)
                    _wait_for(mutex)
                    holders = list(_read(descriptor))
                except OSError as error:
                    problem = f"{self.folder} {error if error.errno is None else f'cannot be used: {error.strerror}'}"
                if problem:
                    holders = [lease.holder for lease in list(_leases) if lease.is_held]
                yield Page(self.folder, None if problem else descriptor, holders, problem)
            finally:
                if mutex is not None:
                    with suppress(OSError):
                        fcntl.flock(mutex, fcntl.LOCK_UN)
                    mutex.close()
                if descriptor is not None:
                    os.close(descriptor)

    def holders(self) -> list[Holder]:
        """All leases at this moment, by process."""
        with self.open() as page:
            return sorted(page.holders, key=lambda holder: (holder.pid, holder.cpus))


def choose(
    wishes: Sequence[Wish],
    holders: Sequence[Holder] = (),
    exclusive: bool = False,
    cores: Mapping[int, int] | None = None,
    quota: Quota | None = None,
) -> Choice:
    """Processors for each stream, all different: those with the fewest leases, then those on the least leased core.

    Ties go by the order of the candidates. Where leases under the quota have as many processors as it allows to be
    busy, these come before all others. Pure.

    Args:
        wishes: what each stream wants.
        holders: the leases there are.
        exclusive: whether only processors without any lease will do.
        cores: the physical core of each processor; each is one of its own by default.
        quota: what reserved processors leave of the process's CPU quota.

    Raises:
        DeviceUnavailableError: a stream gets too few, because of exclusive leases or for an exclusive one.
    """
    cores = cores or {}
    users = Counter(cpu for holder in holders for cpu in holder.cpus)
    crowd = Counter(cores.get(cpu, cpu) for cpu in users.elements())
    barred = set(users) if exclusive else reserved(holders)
    leased = under_quota(quota, holders) - reserved(holders)
    spare = inf if quota is None else quota.cpus - len(leased)
    taken: set[int] = set()
    planned: set[int] = set()
    confined: set[int] = set()
    shares = []
    for wish in wishes:
        planned.update([cpu for cpu in wish.candidates if cpu not in planned][: wish.count])
        share: list[int] = []
        free = [cpu for cpu in dict.fromkeys(wish.candidates) if cpu not in taken and cpu not in barred]
        if len(free) < wish.count:
            raise _none_left(wishes, holders, barred, exclusive)
        while len(share) < wish.count:
            best = min(free, key=lambda cpu: (spare < 1 and cpu not in leased, users[cpu], crowd[cores.get(cpu, cpu)]))
            if users[best] > min(users[cpu] for cpu in free):
                confined.add(best)
            spare -= best not in leased
            free.remove(best)
            share.append(best)
            crowd[cores.get(best, best)] += 1
        share.sort(key=wish.candidates.index)
        taken.update(share)
        shares.append(tuple(share))
    reasons = [*_moves(planned, taken - confined, holders, cores), *_shared(taken, confined, users, holders)]
    if spare < 0:
        reasons.append(f"models have {len(leased | taken)} processors, more than the control group's CPU quota allows")
    return Choice(tuple(shares), tuple(reasons))


def _moves(
    planned: set[int], taken: set[int], holders: Sequence[Holder], cores: Mapping[int, int]
) -> Iterator[str]:
    left, instead = planned - taken, taken - planned
    if not instead:
        return
    users = {cpu for holder in holders for cpu in holder.cpus}
    busy = {cores.get(cpu, cpu) for cpu in users}
    avoided = {cpu for cpu in left if cores.get(cpu, cpu) in busy}
    if avoided:
        which = {cores.get(cpu, cpu) for cpu in avoided}
        near = {cpu for cpu in users if cores.get(cpu, cpu) in which}
        yield f"{listed(avoided)} pinned by {who(near, holders)}; taking {cpu_list(instead)} instead"
    else:
        yield f"{listed(instead)} taken instead of {cpu_list(left)}: their cores have fewer threads of this model"


def _shared(
    taken: set[int], confined: set[int], users: Mapping[int, int], holders: Sequence[Holder]
) -> Iterator[str]:
    shared = {cpu for cpu in taken - confined if users[cpu]}
    if shared:
        yield f"{listed(shared)} shared with {who(shared, holders)}: no other allowed processor has fewer threads"
    if confined:
        yield (
            f"{listed(confined)} shared with {who(confined, holders)}: "
            "models use no more processors than the control group's CPU quota allows"
        )


def under_quota(quota: Quota | None, holders: Iterable[Holder]) -> set[int]:
    """The processors leased under this quota: by this process, and by others of the group that it is set for."""
    if quota is None:
        return set()
    found = (holder for holder in holders if holder.is_own or (quota.group and holder.group == quota.group))
    return {cpu for holder in found for cpu in holder.cpus}


def _none_left(
    wishes: Sequence[Wish], holders: Sequence[Holder], barred: set[int], exclusive: bool
) -> DeviceUnavailableError:
    wanted = sum(wish.count for wish in wishes)
    allowed = {cpu for wish in wishes for cpu in wish.candidates}
    lost = allowed & barred
    kind, remedy = "reserved", "ask for fewer threads"
    if exclusive:
        kind, remedy = "pinned", "compile without ENABLE_CPU_RESERVATION"
    return DeviceUnavailableError(
        f"{wanted} of the processors {cpu_list(allowed)} are wanted and {len(allowed - lost)} can be had: "
        f"{listed(lost)} {kind} by {who(lost, holders)}. Release those models, or {remedy}."
    )


def reserved(holders: Iterable[Holder]) -> set[int]:
    """The processors that nobody else may pin threads to."""
    return {cpu for holder in holders if holder.exclusive for cpu in holder.cpus}


def who(cpus: Iterable[int], holders: Iterable[Holder]) -> str:
    """Those who have pinned threads to any of these processors, in words."""
    wanted = set(cpus)
    found = list(dict.fromkeys(str(holder) for holder in holders if wanted.intersection(holder.cpus)))
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def listed(cpus: Iterable[int]) -> str:
    """ "CPU 3 is" or "CPUs 0-3,6 are"."""
    cpus = set(cpus)
    return f"CPU {cpu_list(cpus)} is" if len(cpus) == 1 else f"CPUs {cpu_list(cpus)} are"


def _open(name: str, flags: int, folder: int) -> io.FileIO:
    """A file in the folder, closed in children that other programs run in, and in forked ones."""
    mode = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "r+"}[flags & os.O_ACCMODE]
    file = io.FileIO(name, mode, opener=lambda path, _: os.open(path, flags | _SAFELY, 0o600, dir_fd=folder))
    _files.add(file)
    return file


_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def _open_folder(path: Path) -> int:
    """The folder, made if it is not there. OSError when it is not one that only this user can write."""
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
    except OSError as error:
        raise OSError(f"cannot be used as a folder: {error.strerror}") from None
    facts = os.fstat(descriptor)
    problem = ""
    if facts.st_uid != os.geteuid():
        problem = f"belongs to user {facts.st_uid}, not to {os.geteuid()}"
    elif facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "can be written by other users"
    if problem:
        os.close(descriptor)
        raise OSError(problem)
    return descriptor


def _write(holder: Holder, folder: int) -> io.FileIO:
    """The locked file of a lease."""
    file = _open(holder.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder)
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
    """The leases that are held; files of others are removed."""
    prefix = _machine() + "-"
    own = {lease.holder.key for lease in list(_leases) if lease.is_held}
    for name in os.listdir(folder):
        if not name.startswith(prefix):
            continue
        with suppress(FileNotFoundError), _open(name, os.O_RDONLY, folder) as file:
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
    """What tells kernels apart; within one, processors have the same numbers everywhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return "unknown"


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

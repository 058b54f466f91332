"""Kernel packs: machine code of many kernels in one read-only file, for every machine of an ISA level.

    "cpuruntime pack2" | SHA-256 of all up to the objects | size of the index | size of the file | index | objects

The index is JSON: who made the pack, for each level {symbol: [name, offset, size, SHA-256]}, and for each size of a
model's file the same of plans, by what they are for. Numbers are 8 bytes, little endian, and offsets count from the
first object. A pack is read with `pread`, not mapped, so that a file that is
cut meanwhile cannot end the process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cpuruntime.store.environment import trusted_environment

log = logging.getLogger("cpuruntime")

MAGIC = b"cpuruntime pack2"
PREFIX = 64
SUFFIX = ".pack"
MOST_INDEX = 64 * 2**20
"""Bytes of an index; arbitrary."""

OWN = Path(__file__).parents[1] / "kernels"
"""The folder of packs that are installed with the package."""


class Entry(NamedTuple):
    """One object: the name of the kernel or the model, and where its content is."""

    name: str
    offset: int
    size: int
    digest: str


Tables = dict[str, dict[str, Entry]]
Contents = Mapping[str, Mapping[str, tuple[str, bytes]]]
"""(name, code) by symbol, by level; the same of plans."""


class Pack:
    """An open pack. Thread-safe; processes and users share the file.

    Args:
        path: the file.
        trusted: False: it must belong to root or to the effective user, and nobody else may write to it.

    Attributes:
        made_by: the versions of what made it.
        levels: entries by symbol, by ISA level.
        plans: entries of models, by the size of the model's file.

    Raises:
        OSError: it cannot be read, or another user can write to it.
        ValueError: it is no pack, or is damaged.
    """

    def __init__(self, path: Path, trusted: bool = False) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self._descriptor).atexit = False  # threads that end may read it
        facts = os.fstat(self._descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise PermissionError("it is not a regular file")
        if not trusted:
            _check_owner(facts)
        self.nbytes = facts.st_size
        self.made_by, self.levels, self.plans = self._index()
        tables = [*self.levels.values(), *self.plans.values()]
        self._entries = {symbol: entry for entries in tables for symbol, entry in entries.items()}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._entries

    def read(self, symbol: str) -> bytes | None:
        """The code of a kernel, or a plan; None where the pack has none. Raises ValueError when it is damaged."""
        entry = self._entries.get(symbol)
        if entry is None:
            return None
        code = os.pread(self._descriptor, entry.size, self._objects + entry.offset)
        if hashlib.sha256(code).hexdigest() != entry.digest:
            raise ValueError(f"what it has of {entry.name} is damaged")
        return code

    def _index(self) -> tuple[dict[str, str], Tables, Tables]:
        prefix = os.pread(self._descriptor, PREFIX, 0)
        if len(prefix) < PREFIX or not prefix.startswith(MAGIC):
            raise ValueError("it is no pack of this version's format")
        size, whole = (int.from_bytes(prefix[at : at + 8], "little") for at in (48, 56))
        if whole != self.nbytes or size > min(whole, MOST_INDEX):
            raise ValueError("it is truncated or damaged")
        index = os.pread(self._descriptor, size, PREFIX)
        if hashlib.sha256(prefix[48:] + index).digest() != prefix[16:48]:
            raise ValueError("its index is damaged")
        try:
            made_by, *tables = json.loads(index)
            levels, plans = ({key: {s: Entry(*e) for s, e in rows.items()} for key, rows in t.items()} for t in tables)
            tables = [*levels.values(), *plans.values()]
            for entry in (entry for entries in tables for entry in entries.values()):
                if not 0 <= entry.offset <= entry.offset + entry.size <= whole - PREFIX - size:
                    raise ValueError(f"{entry.name} lies outside of the file")
        except (TypeError, AttributeError) as error:
            raise ValueError(f"its index has another form: {error}") from error
        self._objects = PREFIX + size
        return made_by, levels, plans


def write_pack(path: Path, made_by: Mapping[str, str], levels: Contents, plans: Contents | None = None) -> None:
    """Writes (name, code) by symbol, by level, and plans by the sizes of models' files. The file appears whole.

    Raises:
        OSError: it cannot be written; a file that was there before is left as it is.
    """
    objects: list[bytes] = []
    size = 0

    def table(contents: Contents) -> Tables:
        nonlocal size
        rows: Tables = {}
        for key, named in sorted(contents.items()):
            rows[key] = {}
            for symbol, (name, code) in sorted(named.items()):
                rows[key][symbol] = Entry(name, size, len(code), hashlib.sha256(code).hexdigest())
                objects.append(code)
                size += len(code)
        return rows

    index = json.dumps([dict(made_by), table(levels), table(plans or {})], separators=(",", ":")).encode()
    sizes = len(index).to_bytes(8, "little") + (PREFIX + len(index) + size).to_bytes(8, "little")
    prefix = MAGIC + hashlib.sha256(sizes + index).digest() + sizes
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with temporary.open("xb") as file:
            file.writelines([prefix, index, *objects])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def kernel_packs() -> tuple[Pack, ...]:
    """The packs that CPURUNTIME_KERNEL_PATH names, files or folders of `*.pack`, then those of the package.

    A pack that cannot be used is logged.
    """
    return tuple(_opened())


def pack_files() -> Iterator[tuple[Path, bool]]:
    """The files that `kernel_packs` looks into, and whether each is installed with the package."""
    named = trusted_environment().get("CPURUNTIME_KERNEL_PATH", "")
    places = [(Path(place).absolute(), False) for place in named.split(os.pathsep) if place]
    for place, trusted in [*places, *([(OWN, True)] if OWN.exists() else [])]:
        try:
            files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
        except OSError as error:
            log.warning("kernel packs in %s are not used: %s", place, error)
            continue
        yield from ((file, trusted) for file in files)


def _opened() -> Iterator[Pack]:
    for file, trusted in pack_files():
        try:
            yield Pack(file, trusted)
        except (OSError, ValueError) as error:
            log.warning("kernel pack %s is not used: %s", file, problem_of(error))


def problem_of(error: Exception) -> str:
    """Why a file cannot be used, without its name."""
    return getattr(error, "strerror", None) or str(error)


def _check_owner(facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"it belongs to user {facts.st_uid}, neither to {os.geteuid()} nor to root")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("other users can write to it")

"""Private folders: they belong to the effective user, or to root where that is allowed, and nobody else may write.

A folder is opened once, without following a symbolic link in its place, checked on the descriptor, and used by the
descriptor only: a later change of its path, or of a folder above it, has no effect.
"""

from __future__ import annotations

import io
import os
import stat
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


class PrivateFolder:
    """A private folder, made where it does not exist: with mode 0700, parents too, whatever the umask. Thread-safe.

    `path` is absolute; `descriptor` is open as long as this object lives. With `of_root` the folder and its files may
    belong to root, too.

    Raises:
        OSError: it cannot be made or opened, belongs to another user, or others can write to it.
    """

    def __init__(self, path: Path, of_root: bool = False) -> None:
        self.path = path.absolute()
        self._owners = {os.geteuid(), 0} if of_root else {os.geteuid()}
        self.descriptor = _open_folder(self.path)
        weakref.finalize(self, os.close, self.descriptor).atexit = False  # threads that end use it then
        _check_private(self.descriptor, self._owners)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> io.FileIO:
        """A regular file, made with mode 0600 where `flags` say so; closed on exec.

        OSError also where it is a symbolic link, belongs to another user, or others can write to it.
        """
        mode = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "r+"}[flags & os.O_ACCMODE]
        descriptor = os.open(name, flags | _SAFELY, 0o600, dir_fd=self.descriptor)
        try:
            if not stat.S_ISREG(_check_private(descriptor, self._owners).st_mode):
                raise PermissionError("it is not a regular file")
            if flags & os.O_CREAT:
                os.fchmod(descriptor, 0o600)  # the umask may have taken the user's own rights
            return io.FileIO(descriptor, mode)
        except OSError:
            os.close(descriptor)
            raise

    def remove(self, name: str) -> None:
        """Removes a file, if there is one of this name."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)


def _open_folder(path: Path) -> int:
    """Opens a folder; those that are missing are made one in the other, not by their paths."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | _FOLDER | os.O_NOFOLLOW)
    existing = next(folder for folder in path.parents if folder.exists())
    folder = os.open(existing, os.O_PATH | _FOLDER)
    try:
        for name in path.relative_to(existing).parts:
            parent, folder = folder, _make(name, folder)
            os.close(parent)
        return os.open(".", os.O_RDONLY | _FOLDER, dir_fd=folder)
    finally:
        os.close(folder)


def _make(name: str, parent: int) -> int:
    """The descriptor of a new folder, or of the one that another process has just made."""
    is_new = False
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
        is_new = True
    folder = os.open(name, os.O_PATH | _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    if is_new and os.fstat(folder).st_mode & 0o700 != 0o700:  # by the umask
        os.chmod(f"/proc/self/fd/{folder}", 0o700)
    return folder


def _check_private(descriptor: int, owners: Collection[int]) -> os.stat_result:
    facts = os.fstat(descriptor)
    if facts.st_uid not in owners:
        raise PermissionError(f"it belongs to user {facts.st_uid}, not to {os.geteuid()}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("other users can write to it")
    return facts

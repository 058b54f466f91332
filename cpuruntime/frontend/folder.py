"""A model file and its folder, opened together: external data are opened below descriptors, never by path.

Links are resolved here, component by component, and each step is a descriptor that no one can exchange. What is opened
lies directly in a directory that was reached from the model's folder, so there is nothing to check afterwards. This is
openat2 with RESOLVE_BENEATH, which cannot serve: it knows one folder, and model hubs need two.
"""

from __future__ import annotations

import errno
import os
import stat

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_LINKS = 40


class OutsideError(Exception):
    """The location leads out of the model's folder."""


class ModelFolder:
    """The folder of a model file, kept open. Used by one thread; close it to release its descriptors.

    A model that is a link also has the folder of the file it points to: model hubs keep links to model and data in one
    folder and the files in another. `model` is a descriptor of the model file, and the caller closes that. `opened` are
    the locations of files that were opened.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError or ValueError when the file cannot be opened."""
        self.opened: list[str] = []
        folder, name = os.path.split(path)
        name = name or (path and ".")
        self._roots = [os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            self.model = os.open(name, _READ, dir_fd=self._roots[0])
            self._add_folder_of_the_file(name)
        except BaseException:
            self.close()
            raise

    def _add_folder_of_the_file(self, name: str) -> None:
        """Add the folder that the model's link leads to, if it still leads to the file that was opened."""
        try:
            with _Walk(self._roots, name) as walk:
                if os.path.samestat(walk.stat(), os.fstat(self.model)):
                    self._roots.append(os.dup(walk.folder))
        except (OSError, OutsideError):
            return  # a link without a path, as /proc/self/fd has

    def open(self, location: str) -> int:
        """A descriptor, to read from, of the file or folder at `location`.

        Raises OutsideError when it lies outside the model's folder, and OSError when it cannot be opened.
        """
        parts = location.replace("\\", "/").split("/")
        if not location or os.path.isabs(location) or ".." in parts or "\0" in location:
            raise OutsideError
        with _Walk(self._roots, location) as walk:
            if not walk.inside:
                raise OutsideError
            found = os.open(walk.name, _READ | os.O_NOFOLLOW, dir_fd=walk.folder)
            self.opened.append(location)
            return found

    def close(self) -> None:
        """Close the folder."""
        while self._roots:
            os.close(self._roots.pop())


class _Walk:
    """Follows a path from the first root: `folder` is the directory it leads to, `name` the file in it, or ".".

    `inside` says whether `folder` is a root or was reached from one by names alone.
    """

    def __init__(self, roots: list[int], path: str) -> None:
        self._roots = [os.fstat(root) for root in roots]
        self._trail = [os.dup(roots[0])]  # from a root down while inside, else one directory
        self.inside = True
        self.name = "."
        try:
            self._follow(path)
        except OSError:
            self._close()
            if self.inside:
                raise
            raise OutsideError from None  # the error does not say what else the machine has

    @property
    def folder(self) -> int:
        return self._trail[-1]

    def stat(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _follow(self, path: str) -> None:
        pending = path.split("/")[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if self.name != ".":
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if name == ".." and self.inside and len(self._trail) > 1:
                os.close(self._trail.pop())
                continue
            step = os.open(name, _STEP, dir_fd=self.folder)
            mode = os.fstat(step).st_mode
            if stat.S_ISDIR(mode):
                self._enter(step, name == "..")
                continue
            target = os.readlink("", dir_fd=step) if stat.S_ISLNK(mode) else None
            os.close(step)
            if target is None:
                self.name = name
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            pending += target.split("/")[::-1]
            if target.startswith("/"):
                self._enter(os.open("/", _STEP), True)

    def _enter(self, directory: int, leaves: bool) -> None:
        if leaves or not self.inside:
            self._close()
            self.inside = any(os.path.samestat(os.fstat(directory), root) for root in self._roots)
        self._trail.append(directory)

    def _close(self) -> None:
        while self._trail:
            os.close(self._trail.pop())

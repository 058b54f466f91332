"""The sources that a kernel's machine code depends on, and their digest.

A module's imports are read from its bytecode, which Python keeps: the names of imported modules, and the strings that
name modules of the package, as `lazy` and `made` take them. Parsing all sources anew would take half a second.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache, lru_cache
from importlib.machinery import SourceFileLoader
from types import CodeType
from weakref import WeakValueDictionary

_PACKAGE = __name__.partition(".")[0]
_ROOT = os.path.dirname(os.path.dirname(__file__))
# These decide nothing about machine code, and every kernel's module reaches them.
_IRRELEVANT = (
    "cpuruntime.compiler.build", "cpuruntime.compiler.objects", "cpuruntime.compiler.recipes", "cpuruntime.store",
    "cpuruntime.errors", "cpuruntime.version",
)  # fmt: skip
_MOST_FILES = 4096
_CHUNK = 2**18


class Generated:
    """The text and bytecode of a generated module."""

    def __init__(self, source: str, code: CodeType) -> None:
        self.source, self.code = source, code


_generated: WeakValueDictionary[str, Generated] = WeakValueDictionary()


def add_generated(path: str, source: str, code: CodeType) -> Generated:
    """Makes a generated module known by the path that its functions name, as long as the result lives."""
    return _generated.setdefault(path, Generated(source, code))


@lru_cache(maxsize=_MOST_FILES)
def source_digest(path: str) -> bytes:
    """Digest of the source at `path` and of all modules of the package that it imports, directly or not."""
    return hashlib.sha256(b"".join(sorted(map(_own_digest, reached(path))))).digest()


@lru_cache(maxsize=_MOST_FILES)
def _own_digest(path: str) -> bytes:
    """Digest of a file's name and text."""
    return hashlib.sha256(os.path.basename(path).encode() + b"\0" + _module(path)[0].encode()).digest()


@cache
def package_digest() -> str:
    """Digest of all sources of the package, in hexadecimal; a name of its version that edits of a checkout change."""
    digest = hashlib.sha256()
    memory = bytearray(_CHUNK)
    pending = [_ROOT]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    digest.update(entry.name.encode())
                    _add(digest, entry.path, memory)
                elif entry.is_dir():
                    pending.append(entry.path)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, path: str, memory: bytearray) -> None:
    """Adds the content and the size of a file, by way of some memory: in a third of the time of a file object."""
    size, count = 0, len(memory)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while count == len(memory):  # a file that ends is read no further
            count = os.readv(descriptor, [memory])
            digest.update(memoryview(memory)[:count])
            size += count
    finally:
        os.close(descriptor)
    digest.update(b"\0%d\0" % size)


def reached(path: str) -> set[str]:
    """The file itself, and those of the package's modules that it imports, directly or not."""
    pending, seen = [path], set()
    while pending:
        file = pending.pop()
        if file not in seen:
            seen.add(file)
            pending += _imports(file)
    return seen


@lru_cache(maxsize=_MOST_FILES)
def _imports(path: str) -> set[str]:
    """The files of the package's modules that a file imports, at any depth, or names in a string."""
    words = _words(_module(path)[1])
    modules = {word for word in words if word.startswith(f"{_PACKAGE}.") and not word.startswith(_IRRELEVANT)}
    packages = [name for name in modules if (file := module_file(name)) and file.endswith("__init__.py")]
    members = {f"{package}.{word}" for package in packages for word in words if word.isidentifier()}
    return {file for name in modules | members if (file := module_file(name))}


def module_file(name: str) -> str | None:
    """The file of a module of the package; None where there is none."""
    *packages, last = name.split(".")[1:] or [""]
    folder = os.path.join(_ROOT, *packages)
    names = _names(folder)
    if f"{last}.py" in names:
        return os.path.join(folder, f"{last}.py")
    inner = os.path.join(folder, last)
    return os.path.join(inner, "__init__.py") if last in names and "__init__.py" in _names(inner) else None


@cache
def _names(folder: str) -> frozenset[str]:
    """What is in a folder of the package."""
    return frozenset(os.listdir(folder) if os.path.isdir(folder) else ())


def _module(path: str) -> tuple[str, CodeType]:
    """The text of a module and its bytecode."""
    found = _generated.get(path)
    return _read(path) if found is None else (found.source, found.code)


@cache
def _read(path: str) -> tuple[str, CodeType]:
    loader = SourceFileLoader("", path)
    return loader.get_data(path).decode(), loader.get_code("")


def _words(code: CodeType) -> set[str]:
    """Names and strings in the code and in the functions nested in it."""
    found = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            found |= _words(value)
        elif isinstance(value, str):
            found.add(value)
    return found

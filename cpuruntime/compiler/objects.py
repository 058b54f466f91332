"""Object files: the functions that the code in one calls, those that a kernel may call, and code in memory.

Code for x86-64 is loaded here, so that a process that compiles nothing does without LLVM. Kernels are compiled for the
large code model: each reference is an address of 64 bits, whatever it refers to.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from functools import cache
from typing import NamedTuple

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove", "syscall", "clock_gettime", "sched_getcpu"})
"""What a kernel may call: the C library functions the runtime itself uses and those LLVM emits for plain loops."""

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")  # name, kind, visibility, section, value, size
_RELOCATION = struct.Struct("<QIIq")  # offset, kind, symbol, addend
_SYMBOL_TABLE, _RELOCATIONS, _NO_CONTENT = 2, 4, 8
_WRITABLE, _IN_MEMORY = 1, 2
_ABSOLUTE, _RELATIVE = 1, 24  # R_X86_64_64, R_X86_64_PC64
_FAILED = 2**64 - 1
MOST_BYTES = 2**26
"""Of the code of one kernel; arbitrary."""


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    target: int
    alignment: int
    entry: int


def forbidden_symbols(code: bytes) -> set[str]:
    """The names that an object file uses, does not define, and may not use.

    Raises:
        ValueError: it is no ELF file of 64 bits, little endian, or it is damaged.
    """
    try:
        return {name for name, section, _ in _symbols(code, _sections(code)) if name and not section} - ALLOWED_SYMBOLS
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is damaged: {error}") from error


def load(code: bytes, entry: str) -> int:
    """The address of the function `entry` of an object file for x86-64, in executable memory that is never freed.

    Raises:
        ValueError: it is damaged, calls what no kernel may call, or has no such function.
        OSError: the system refuses executable memory.
    """
    try:
        sections = _sections(code)
        places, size = _places(sections)
        image = bytearray(size)
        for index, place in places.items():
            section = sections[index]
            image[place : place + section.size] = _part(code, section.offset, section.size)
        symbols = _symbols(code, sections)
        base = _take(size)
        addresses = [
            base + places[home] + value if home in places else None if home or not name else _function(name)
            for name, home, value in symbols
        ]
        _relocate(code, sections, places, addresses, image, base)
        found = next((address for (name, *_), address in zip(symbols, addresses) if name == entry), None)
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    if found is None or not base <= found < base + size:
        raise ValueError(f"its code has no entry {entry}")
    ctypes.memmove(base, bytes(image), size)
    if _c_library().mprotect(base, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise _failure("mprotect")
    return found


def _places(sections: list[_Section]) -> tuple[dict[int, int], int]:
    """Where each section lies in the image, by its index, and the size of the image."""
    places, size = {}, 0
    for index, section in enumerate(sections):
        if section.flags & _IN_MEMORY and section.size:
            if section.kind == _NO_CONTENT or section.flags & _WRITABLE:
                raise ValueError("it has variables")
            places[index] = -(-size // max(section.alignment, 1)) * max(section.alignment, 1)
            size = places[index] + section.size
    if size > MOST_BYTES:
        raise ValueError(f"it takes {size} bytes of memory")
    return places, size


def _relocate(
    code: bytes, sections: list[_Section], places: dict[int, int], addresses: list[int | None], image: bytearray,
    base: int,
) -> None:  # fmt: skip
    """Write the addresses that the code refers to into its image."""
    for section in sections:
        if section.kind != _RELOCATIONS or section.target not in places:
            continue
        place, room = places[section.target], sections[section.target].size
        for offset, kind, symbol, addend in _RELOCATION.iter_unpack(_part(code, section.offset, section.size)):
            address = addresses[symbol]
            if kind not in (_ABSOLUTE, _RELATIVE) or offset + 8 > room or address is None:
                raise ValueError(f"it has a relocation of kind {kind} at {offset}")
            own = base + place + offset if kind == _RELATIVE else 0
            struct.pack_into("<Q", image, place + offset, (address + addend - own) % 2**64)


def _sections(code: bytes) -> list[_Section]:
    if code[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no ELF file of 64 bits, little endian")
    (first,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
    return [_Section(*_SECTION.unpack_from(code, first + i * _SECTION.size)) for i in range(count)]


def _symbols(code: bytes, sections: list[_Section]) -> list[tuple[str, int, int]]:
    """Name, section (0: none) and value of each symbol."""
    found = []
    for section in sections:
        if section.kind == _SYMBOL_TABLE:
            names = sections[section.link].offset
            for name, _, _, home, value, _ in _SYMBOL.iter_unpack(_part(code, section.offset, section.size)):
                end = code.index(b"\0", names + name) if name else names
                found.append((code[names + name : end].decode(), home, value))
    return found


def _part(code: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(code):
        raise IndexError("it ends too early")
    return code[offset : offset + size]


def _function(name: str) -> int | None:
    """The address of a function of the C library."""
    if name not in ALLOWED_SYMBOLS:
        raise ValueError(f"it calls {name}")
    address: int | None = ctypes.cast(getattr(_c_library(), name), ctypes.c_void_p).value
    return address


@cache
def _c_library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_size_t
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _take(size: int) -> int:
    """The address of so many bytes of the system's memory."""
    access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address: int = _c_library().mmap(None, max(size, 1), access, kind, -1, 0)
    if address == _FAILED:
        raise _failure("mmap")
    return address


def _failure(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")

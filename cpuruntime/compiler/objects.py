"""Object files: the functions that the code in one calls, and those that a kernel may call."""

from __future__ import annotations

import struct

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove", "syscall", "clock_gettime", "sched_getcpu"})
"""What a kernel may call: the C library functions the runtime itself uses and those LLVM emits for plain loops."""

_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, kind, flags, address, offset, size, link, more
_SYMBOL = struct.Struct("<IBBHQQ")  # name, kind, visibility, section, value, size
_SYMBOL_TABLE = 2


def forbidden_symbols(code: bytes) -> set[str]:
    """The names that an object file uses, does not define, and may not use.

    Raises:
        ValueError: it is no ELF file of 64 bits, little endian, or it is damaged.
    """
    if code[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no ELF file of 64 bits, little endian")
    found = set()
    try:
        (first,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
        sections = [_SECTION.unpack_from(code, first + i * _SECTION.size) for i in range(count)]
        for _, kind, _, _, offset, size, link, *_ in sections:
            if kind == _SYMBOL_TABLE:
                names = sections[link][4]
                for name, _, _, section, _, _ in _SYMBOL.iter_unpack(code[offset : offset + size]):
                    if name and not section:
                        found.add(code[names + name : code.index(b"\0", names + name)].decode())
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    return found - ALLOWED_SYMBOLS

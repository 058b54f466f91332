"""Files of sections: a JSON header and named pieces of memory, with checksums and without pickle.

    magic | SHA-256 of sizes and header | size of the header | size of the file | header | sections

Sizes are 8 bytes, little endian. The sections begin at pages of memory, so that they can be used where the file is
mapped. The header has {section: [offset, bytes, [checksum of each CHUNK]]}; offsets count from the first section, and
checksums go on to the next section, so that every byte of the file is below one.

Checksums find damage, not malice: read a file only from a place where nobody else can write. That of a chunk is the
SHA-256 of sums: of the words in the same place of all its pages, each times an odd number that belongs to the page.
They are computed as fast as memory is read, and change with each word that changes and with the order of pages.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

MAGIC = b"cpuruntime model"
PREFIX = 64
PAGE = 4096
CHUNK = 16 * 2**20
THREADS = 2
GOLDEN = 0x9E3779B97F4A7C15
"""An odd number whose multiples are spread over all numbers of 64 bits."""
MOST_HEADER = 64 * 2**20
"""Bytes of a header; arbitrary."""

Pieces = Sequence[bytes | memoryview]


def written(facts: Mapping[str, Any], sections: Mapping[str, Pieces]) -> list[bytes | memoryview]:
    """The pieces of a file; `facts` is anything that JSON can hold."""
    rows: dict[str, Any] = {}
    body: list[bytes | memoryview] = []
    offset = 0
    for name, pieces in sections.items():
        size = sum(map(len, pieces))
        padded = [*pieces, bytes(-size % PAGE)]
        rows[name] = [offset, size, list(_digests(padded))]
        body += padded
        offset += size + -size % PAGE
    header = json.dumps([facts, rows], separators=(",", ":")).encode()
    header += b" " * (-(PREFIX + len(header)) % PAGE)
    sizes = len(header).to_bytes(8, "little") + (PREFIX + len(header) + offset).to_bytes(8, "little")
    return [MAGIC + hashlib.sha256(sizes + header).digest() + sizes, header, *body]


def _digests(pieces: Pieces) -> Iterator[str]:
    """Those of chunks of the pieces joined together, which are whole pages."""
    chunk, filled = memoryview(bytearray(CHUNK)), 0
    for piece in map(memoryview, pieces):
        while len(piece):
            part, piece = piece[: CHUNK - filled], piece[CHUNK - filled :]
            chunk[filled : filled + len(part)] = part
            filled += len(part)
            if filled == CHUNK:
                yield checksum(chunk)
                filled = 0
    if filled:
        yield checksum(chunk[:filled])


def checksum(chunk: memoryview) -> str:
    """That of whole pages, at most CHUNK, in hexadecimal."""
    import numpy as np  # not above: this room is imported where NumPy is not needed

    pages = np.frombuffer(chunk, np.uint64).reshape(-1, PAGE // 8)
    factors = np.arange(1, 1 + len(pages), dtype=np.uint64) * np.uint64(GOLDEN) | np.uint64(1)
    return hashlib.sha256(np.einsum("i,ij->j", factors, pages)).hexdigest()


class SectionFile:
    """A file of sections in memory, whose header is right. `check` says whether its sections are.

    Attributes:
        facts: those of `written`.
        memory, nbytes: the whole file and its size.
        source: what gives parts of another file, where this one is without them.
        finish: awaits those that read the source in the background, and raises what they raised.

    Raises:
        ValueError: it is no such file, or it is damaged.
    """

    source: Any = None
    finish: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, memory: memoryview) -> None:
        prefix = bytes(memory[:PREFIX])
        if len(prefix) < PREFIX or not prefix.startswith(MAGIC):
            raise ValueError("it is no model that this version of cpuruntime has stored")
        size, self.nbytes = (int.from_bytes(prefix[at : at + 8], "little") for at in (48, 56))
        if self.nbytes != len(memory) or size > min(self.nbytes, MOST_HEADER):
            raise ValueError("it is truncated or damaged")
        header = bytes(memory[PREFIX : PREFIX + size])
        if hashlib.sha256(prefix[48:] + header).digest() != prefix[16:48]:
            raise ValueError("its header is damaged")
        self.facts, self._rows = json.loads(header)
        self.memory, self._body = memory, memory[PREFIX + size :]

    @classmethod
    def mapped(cls, descriptor: int) -> SectionFile:
        """The file of a descriptor, which may be closed; its memory is shared with other processes.

        Raises OSError where it cannot be mapped.
        """
        size = os.fstat(descriptor).st_size
        if size < PREFIX:
            raise ValueError("it is truncated or damaged")
        return cls(memoryview(mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ)))

    def __iter__(self) -> Iterator[str]:
        """The names of the sections."""
        return iter(self._rows)

    def __getitem__(self, name: str) -> memoryview:
        """A section. Read only where the memory is."""
        offset, size, _ = self._rows[name]
        return self._body[offset : offset + size]

    def check(self) -> Callable[[], None]:
        """Checks small sections, of one chunk, at once, and larger ones in threads that the returned function awaits.

        Both raise ValueError where a section is damaged.
        """
        small, large, damaged = [], [], []
        for name, (offset, size, digests) in self._rows.items():
            end = offset + size + -size % PAGE
            parts = [(name, self._body[at : min(at + CHUNK, end)]) for at in range(offset, end, CHUNK)]
            if len(parts) != len(digests):
                raise ValueError(f"its section '{name}' has another size")
            (large if len(parts) > 1 else small).extend(zip(parts, digests))

        def work(chunks: Iterable[tuple[tuple[str, memoryview], str]]) -> None:
            damaged.extend(name for (name, part), digest in chunks if checksum(part) != digest)

        def report() -> None:
            for thread in threads:
                thread.join()
            if damaged:
                raise ValueError(f"its section '{damaged[0]}' is damaged")

        threads = [threading.Thread(target=work, args=(large[first::THREADS],)) for first in range(THREADS)]
        threads = threads if large else []
        for thread in threads:
            thread.start()
        work(small)
        if damaged:
            report()
        return report

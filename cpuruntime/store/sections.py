"""Files of sections: a JSON header and named pieces of memory, with checksums and without pickle.

    magic | SHA-256 of sizes and header | size of the header | size of the file | header | sections

Sizes are 8 bytes, little endian. The sections begin at pages of memory, so that they can be used where the file is
mapped. The header has {section: [offset, bytes, [SHA-256 of each CHUNK]]}; offsets count from the first section, and
checksums go on to the next section, so that every byte of the file is below one.

Checksums find damage, not malice: read a file only from a place where nobody else can write.
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
        rows[name] = [offset, size, [digest.hex() for digest in _digests(padded)]]
        body += padded
        offset += size + -size % PAGE
    header = json.dumps([facts, rows], separators=(",", ":")).encode()
    header += b" " * (-(PREFIX + len(header)) % PAGE)
    sizes = len(header).to_bytes(8, "little") + (PREFIX + len(header) + offset).to_bytes(8, "little")
    return [MAGIC + hashlib.sha256(sizes + header).digest() + sizes, header, *body]


def _digests(pieces: Pieces) -> Iterator[bytes]:
    """Those of chunks of the pieces joined together."""
    digest, room, is_empty = hashlib.sha256(), CHUNK, True
    for piece in map(memoryview, pieces):
        while len(piece):
            part, piece = piece[:room], piece[room:]
            digest.update(part)
            room, is_empty = room - len(part), False
            if not room:
                yield digest.digest()
                digest, room, is_empty = hashlib.sha256(), CHUNK, True
    if not is_empty:
        yield digest.digest()


class SectionFile:
    """A file of sections in memory, whose header is right. `check` says whether its sections are.

    Attributes:
        facts: those of `written`.
        memory, nbytes: the whole file and its size.

    Raises:
        ValueError: it is no such file, or it is damaged.
    """

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
            damaged.extend(name for (name, part), digest in chunks if hashlib.sha256(part).hexdigest() != digest)

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

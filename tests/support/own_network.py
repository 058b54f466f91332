"""A network namespace that has loopback alone: what tests start there can be reached from nowhere else."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP, IFREQ = 0x8913, 0x8914, 1, "16sh22x"


def namespace(process: int | str = "thread-self") -> str:
    """Names the network namespace of a process, or of this thread."""
    return os.readlink(f"/proc/{process}/ns/net")


@contextmanager
def own_network() -> Iterator[str]:
    """Have this thread, and the threads and processes that it starts, in a namespace of their own.

    Yields why there is none, or "". It takes CAP_SYS_ADMIN.
    """
    machine, refused = namespace(), ""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def leave() -> None:
        if namespace() != machine:
            _call("setns", before, CLONE_NEWNET)

    try:
        try:
            _call("setns", before, CLONE_NEWNET)  # where this is refused there is no way back
            _call("unshare", CLONE_NEWNET)
            _raise_loopback()
        except OSError as error:
            refused = f"No network namespace: {error.strerror}. Run `unshare --user --map-root-user --net pytest`."
            leave()
        yield refused
    finally:
        leave()
        os.close(before)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        _, flags = struct.unpack(IFREQ, fcntl.ioctl(end, SIOCGIFFLAGS, struct.pack(IFREQ, b"lo", 0)))
        fcntl.ioctl(end, SIOCSIFFLAGS, struct.pack(IFREQ, b"lo", flags | IFF_UP))


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library that returns 0."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

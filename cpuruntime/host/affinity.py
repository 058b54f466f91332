"""Where threads run and what they are called. Linux; on other systems threads are neither pinned nor named."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from contextlib import suppress

_this_thread = threading.local()


def allowed_cpus() -> frozenset[int]:
    """The affinity mask of the calling thread.

    On a stream's thread or one for callbacks it is the mask of the thread that made the stream, without its pinning.
    """
    inherited: frozenset[int] | None = getattr(_this_thread, "inherited", None)
    if inherited is not None:
        return inherited
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(range(os.cpu_count() or 1))
    return frozenset(os.sched_getaffinity(0))


def is_stream_thread() -> bool:
    """Whether the calling thread is a stream's or one for callbacks."""
    return hasattr(_this_thread, "inherited")


def enter_stream(name: str, cpu: int | None, inherited: frozenset[int]) -> str:
    """Name the calling thread, which now belongs to a stream, and pin it to `cpu`, or to `inherited` if that is None.

    Returns why it could not be pinned, "" on success. `name` has at most 15 characters.
    """
    _this_thread.inherited = inherited
    name_thread(name)
    try:
        os.sched_setaffinity(0, inherited if cpu is None else {cpu})
    except (OSError, AttributeError) as error:
        return "" if cpu is None else f"thread {name} could not be pinned to CPU {cpu}: {error}"
    return ""


def enter_caller(name: str, cpus: frozenset[int], inherited: frozenset[int]) -> None:
    """Name the calling thread, which now runs callbacks, and let it run on `cpus` where the system allows that."""
    _this_thread.inherited = inherited
    name_thread(name)
    with suppress(OSError, AttributeError):
        os.sched_setaffinity(0, cpus)


def name_thread(name: str) -> None:
    """Set the name that ps and top show, where the system allows that."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
            file.write(name)
    except OSError:
        return


def mask_bytes(cpus: Collection[int], size: int) -> bytes:
    """The processors as the bit mask of sched_setaffinity, `size` bytes long."""
    return sum(1 << cpu for cpu in set(cpus)).to_bytes(size, "little")

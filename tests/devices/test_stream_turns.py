"""The length of the turns that threads of streams take on a processor."""

from __future__ import annotations

import ctypes
import os
import platform
import threading

import numpy as np
import pytest
from support.stream_tasks import Neighbours, Run

from cpuruntime.streams.executor import StreamExecutor
from cpuruntime.streams.native import time_slices as layout
from cpuruntime.streams.priorities import HIGH, LOW, MEDIUM
from cpuruntime.streams.time_slices import LONG, SHORT, take_turns_of
from cpuruntime.testing.probes import threads_of

_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_LINUX = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in platform.release().split(".")[:2])

pytestmark = pytest.mark.skipif(_LINUX < (6, 12), reason="turns are of one length before Linux 6.12")


def attributes(thread: int = 0) -> np.ndarray:
    """What the system has for a thread, by its number there; 0 is the calling one."""
    found = np.zeros(1, layout.ATTRIBUTES)
    call = ctypes.CDLL(None, use_errno=True).syscall
    number = _SCHED_GETATTR[platform.machine()]
    assert call(number, thread, ctypes.c_void_p(found.ctypes.data), found.itemsize, 0) == 0
    return found[0]


def turns(executor: StreamExecutor) -> set[int]:
    """Of the threads of its streams."""
    threads = [thread for stream in executor.streams for thread in threads_of(stream)]
    return {int(attributes(thread.native_id)["runtime"]) for thread in threads}


def test_a_priority_has_turns_of_its_own() -> None:
    usual = {int(attributes()["runtime"])}
    for level, expected in ((LOW, {LONG}), (MEDIUM, usual), (HIGH, {SHORT})):
        executor = StreamExecutor(1, 2, pin=False, level=level)
        assert turns(executor) == expected
        executor.stop()


def test_callbacks_interrupt_streams_and_leave_new_streams_their_turns() -> None:
    usual = int(attributes()["runtime"])
    seen: list[object] = []

    def look() -> None:
        seen.append(int(attributes()["runtime"]))
        made = StreamExecutor(1, 2, pin=False)
        seen.append(turns(made))
        made.stop(wait=False)

    executor = StreamExecutor(1, pin=False)
    task = Run(Neighbours(4, 2).job)
    task.start(executor, look)
    assert task.wait_called()
    executor.stop()
    assert seen == [SHORT, {usual}]


def test_nothing_but_the_turns_changes() -> None:
    seen: list[np.ndarray] = []

    def look() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 3)
        before = attributes()
        take_turns_of(SHORT)
        seen.extend((before, attributes()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    before, after = seen
    assert (after["nice"], after["runtime"]) == (3, SHORT)
    for field in ("policy", "flags", "nice", "priority", "deadline", "period"):
        assert before[field] == after[field]

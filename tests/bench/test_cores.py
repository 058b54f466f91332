"""bench/cores.py: the time that two threads take to meet."""

from __future__ import annotations

import os

import pytest

import cores
from cpuruntime.streams.thread_group import ThreadGroup


def test_a_barrier_takes_time() -> None:
    group = ThreadGroup(2)
    assert cores.barrier_ns(group) > 0
    group.stop()


def test_the_command_counts_what_it_saw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert cores.main([]) == 1
    monkeypatch.undo()
    if len(os.sched_getaffinity(0)) > 1:
        assert cores.main(["--seconds", "0.1"]) == 0
        assert "ns a barrier" in capsys.readouterr().out

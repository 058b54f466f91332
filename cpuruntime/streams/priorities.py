"""Priorities of the models of one process: who gives way to whom, on which processors."""

from __future__ import annotations

from cpuruntime.compiler.build import never_free
from cpuruntime.streams.memory import aligned_bytes, holding_the_gil
from cpuruntime.streams.native import priorities, signals

LOW, MEDIUM, HIGH = range(priorities.LEVELS)

_table = aligned_bytes(priorities.TABLE_BYTES)
never_free(_table)
TABLE: int = _table.ctypes.data
"""The address of the process's table of claims; it stays for good, so what runs may always write there."""


def live(level: int) -> int:
    """How many models of a level there are."""
    return int(_table[: priorities.CLAIMS.itemsize].view(priorities.CLAIMS)["live"][0, level])


def enter(level: int) -> None:
    """Counts a model of a level."""
    holding_the_gil(signals.add)(TABLE + priorities.LIVE + 4 * level, 1, 0)


def leave(level: int) -> None:
    """Ends `enter`. Safe in a finaliser."""
    holding_the_gil(signals.add)(TABLE + priorities.LIVE + 4 * level, -1, 0)


def is_claimed(processor: int, level: int) -> bool:
    """Whether work of a level gives way on a processor."""
    line = _table[priorities.FIRST + priorities.LINE * processor :]
    claims = line[: priorities.CLAIMS.itemsize].view(priorities.CLAIMS)
    return bool(claims["above"][0, level])


def forked() -> None:
    """Called in a forked child, where nothing that claimed a processor runs."""
    lines = _table.reshape(-1, priorities.LINE)[:, : priorities.CLAIMS.itemsize].view(priorities.CLAIMS)
    if lines["above"][0].any():
        lines["above"] = 0

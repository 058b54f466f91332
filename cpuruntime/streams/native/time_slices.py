"""The length of a thread's turns on a processor, as Linux schedules them."""

from __future__ import annotations

from cpuruntime.compiler.kernel import kernel, lazy, record

system = lazy("cpuruntime.streams.native.system")

ATTRIBUTES = record(
    size="u4", policy="u4", flags="u8", nice="i4", priority="u4", runtime="u8", deadline="u8", period="u8",
)  # fmt: skip
"""The system's struct sched_attr, in its first version: see sched_setattr(2)."""


@kernel(ATTRIBUTES)
def schedule(attributes, unused, unused_too):
    """Gives the calling thread these attributes; what the system refuses stays as it was."""
    system.syscall(system.SCHED_SETATTR, 0, system.address_of(attributes), 0, 0)

"""Claims on processors: how work of a higher priority makes work of a lower one give way, between steps.

The table, one for the process, has a LINE for each processor. A claim of level n adds 1 to `above[m]` of the lines of
its processors, for each lower level m; work of level m gives way where `above[m]` of a processor it uses is not 0.
Claims are made only while there are models of a lower level, as `live` says.

A step in progress is not preempted.
"""

from __future__ import annotations

from cpuruntime.compiler.kernel import inline, lazy, record
from cpuruntime.streams.native.signals import LINE, notify_all

system = lazy("cpuruntime.streams.native.system")
simd = lazy("cpuruntime.compiler.simd")

LEVELS = 3
CLAIMS = record(count="i4", sleepers="i4", value="i8", above=f"{LEVELS}i4", live=f"{LEVELS}i4")
"""A line of the table: a SIGNAL, notified when a claim ends, and the claims on a processor.

Line ALL is the sum of all lines, and has `live`, the models of each level. Line ANYWHERE is for claims of threads that
are not pinned, which may run on any processor; the line of processor n is FIRST + n.
"""

ABOVE, LIVE = (CLAIMS.fields[name][1] for name in ("above", "live"))
ALL, ANYWHERE, FIRST = 0, LINE, 2 * LINE
PROCESSORS = 8192
TABLE_BYTES = FIRST + PROCESSORS * LINE


@inline
def is_claimed(line, level):
    """Whether work of `level` has to leave the processor of this line to others."""
    return system.load(line + ABOVE + 4 * level) > 0


@inline
def line_of(table, processor):
    """The address of a processor's line; of one that is unknown or beyond the table, line ANYWHERE's."""
    if processor < 0 or processor >= PROCESSORS:
        return table + ANYWHERE
    return table + FIRST + LINE * processor


@inline
def claimed_line(group):
    """The address of a line that is claimed and concerns the group, 0 if there is none.

    Threads that are not pinned give way on the processor they run on; the system may then move them to another.
    """
    if not is_claimed(group.table + ALL, group.level):
        return 0
    if is_claimed(group.table + ANYWHERE, group.level):
        return group.table + ANYWHERE
    if group.owned == 0:
        here = line_of(group.table, system.current_cpu())
        return here if is_claimed(here, group.level) else 0
    for i in range(group.owned):
        line = line_of(group.table, simd.load_i64(group.owns + 8 * i))
        if is_claimed(line, group.level):
            return line
    return 0


@inline
def has_lower(group):
    """Whether there are models of a level below the group's."""
    lower = 0
    for level in range(group.level):
        lower += system.load(group.table + LIVE + 4 * level)
    return lower > 0


@inline
def add(line, level, number):
    for lower in range(level):
        system.fetch_add(line + ABOVE + 4 * lower, number)


@inline
def claim(group):
    """Claims the group's processors."""
    add(group.table + ALL, group.level, 1)
    if group.owned == 0:
        add(group.table + ANYWHERE, group.level, 1)
    for i in range(group.owned):
        add(line_of(group.table, simd.load_i64(group.owns + 8 * i)), group.level, 1)


@inline
def end_claim(line, level):
    add(line, level, -1)
    notify_all(line)


@inline
def release(group):
    """Ends a claim and wakes those who wait for that."""
    add(group.table + ALL, group.level, -1)
    if group.owned == 0:
        end_claim(group.table + ANYWHERE, group.level)
    for i in range(group.owned):
        end_claim(line_of(group.table, simd.load_i64(group.owns + 8 * i)), group.level)

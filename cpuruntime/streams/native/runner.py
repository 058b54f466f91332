"""Runs programs by the threads of a stream, without the interpreter between the first step and the last.

A program is a table of steps, (kernel address, argument block address). One thread leads: it publishes the job, runs
share 0 and goes on when every share of the last step is done. The others sit in `work` from their start to their
dismissal. Between two steps stands a barrier, so a step sees everything that the one before it wrote, on whichever
thread. A step too small to be shared, whose argument block address has ALONE added, is the leader's: no barrier stands
between two of them, and a job of nothing else is not published. A waiting thread spins for a moment, then sleeps in
the kernel.

A leader's own thread returns to the interpreter after a job, unless the job names a task: then the task is completed
here, and the thread waits for the next job.

Between steps a leader gives way: it waits while work of a higher priority claims a processor of its group, see
`claims`. A run ends early, between steps, when it is cancelled or its deadline passes.

The entries are compiled like kernels; what their three arguments mean is theirs. Their callers guarantee: one leader of
a group at a time; `work` entered once by each thread 1..threads-1; the memory of groups, jobs and signals outlives the
calls.
"""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import inline, kernel, lazy, record
from cpuruntime.streams.native.priorities import claim, claimed_line, has_lower, is_claimed, release
from cpuruntime.streams.native.signals import (
    HOUR,
    LINE,
    SLEEPERS,
    VALUE,
    linger_while,
    notify_all,
    sleep,
    sleep_while,
    spin_while,
    yield_while,
)

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")

TASK = record(
    count="i4", sleepers="i4", value="i8", also="i8", completed="i8", pool="i8", notifies="i4", unused="i4",
    control="i8", repeat="i8",
)  # fmt: skip
"""The end of a job's task: a SIGNAL, whose `count` goes up by 1 each time, and the result of the job.

also       address of another SIGNAL to notify, or 0
completed  steps of the job that all threads finished
pool       address of the SIGNAL of the callback pool, notified besides if `notifies` is not 0
control    address of the CONTROL that its jobs listen to
repeat     address of a job of the task's own that does all there is to do on the memory it has now, or 0
"""

CONTROL = record(cancel="i4", deadline="i8", began="i8", ended="i8")
"""What a run listens to, and when it was.

cancel    once it is not 0, the run ends at the next step boundary
deadline  0, or the clock (ns) from which on it does so
began     the clock when the latest run began
ended     the clock when it was over
"""

GROUP = record(
    words="i8", threads="i8", cpu="i8", mask="i8", saved_mask="i8", spin="i8", yielding="i8", linger="i8",
    level="i8", table="i8", owns="i8", owned="i8",
)  # fmt: skip
"""What a group is; constant while it lives.

words       address of the words below: WORDS_BYTES, zeroed, 128-byte aligned
threads     number of threads, the leader included
cpu         the CPU of thread 0, -1 for any
mask        address of MASK_BYTES: the CPU mask with only that CPU in it
saved_mask  address of MASK_BYTES of scratch, where a leader that pins itself keeps its own mask meanwhile
spin        nanoseconds a thread spins at a barrier before it offers its core to others
yielding    nanoseconds it then goes on offering before it sleeps
linger      nanoseconds a thread spins for its next job before it sleeps
level       its priority, 0 (low) to claims.LEVELS - 1
table       address of the process's table of claims
owns        address of int64[owned]: the CPUs its threads are pinned to; owned is 0 when they are not
"""

JOB = record(
    program="i8", steps="i8", shared="i8", timing="i8", timed="i8", control="i8", task="i8", again="i8",
    completed="i8", elapsed="i8",
)  # fmt: skip
"""One program to run; the last two fields are the runner's, the others but `again` are constant while it runs.

program    address of int64[steps][2]: kernel, argument block + ALONE or 0
steps      number of steps, at least 1
shared     number of steps up to the last one that is not ALONE, 0 when all are
timing     0, or address of int64[steps + 1]: the clock (ns) at the start and after each step; behind it, of each thread
           below `timed`, int64[steps]: the clock after its share of each step that the threads share, else older
timed      of how many threads there are such clocks
control    0, or address of a CONTROL
task       address of the TASK that is over with this job; 0 when the interpreter has to go on with it
again      what the last step, run by the leader alone, may set: not 0 to have all steps run once more
completed  steps of the last run that all threads finished
elapsed    nanoseconds the last run took that was not ended early, 0 before the first
"""

ALSO, TASK_COMPLETED, POOL, NOTIFIES, TASK_CONTROL, REPEAT = (
    TASK.fields[name][1] for name in ("also", "completed", "pool", "notifies", "control", "repeat")
)
CANCEL, DEADLINE, BEGAN, ENDED = (CONTROL.fields[name][1] for name in CONTROL.names)
PROGRAM, STEPS, SHARED, TIMING, TIMED, OF_CONTROL, OF_TASK, AGAIN, COMPLETED, ELAPSED = (
    JOB.fields[name][1] for name in JOB.names
)
STEP_BYTES = 16
ALONE = 1
MASK_BYTES = 1024
# Nanoseconds. Work that gives way goes on when nothing has claimed its processors for GRACE, since the next inference
# of a loop follows at once, and at the latest after PATIENCE; it looks for a cancellation every GLANCE.
SHORT_JOB, GRACE, GLANCE, PATIENCE = 500_000, 200_000, 5_000_000, 1_000_000_000
# A worker that was roused spins so long for a job: about the time that it takes to plan one for a new shape.
ROUSED = 300_000
# What `lead` may be asked for: to pin the calling thread, and not to give way, as the caller holds the GIL.
PIN, HOLDS_GIL = 1, 2

# A group's words. Those written by different threads lie a LINE apart.
POSTED = 0  # a SIGNAL to the workers, its value the job's address or DISMISSAL
RESTING = POSTED + SLEEPERS  # int32, workers that sleep
ROUSING = POSTED + 16  # int32, another one whenever workers are roused
BELL = LINE  # a SIGNAL to the leader's thread, its value the job's address or 0
FLIGHT = LINE + 16  # int32, one of the states below
BARRIER = 2 * LINE  # a SIGNAL, its count the barriers passed so far
OVER = 2 * LINE + 16  # int64[2], the latest even and odd numbered barriers at which a run ended early
PARKED = 2 * LINE + 32  # int32, whether the leader gives way to others
ARRIVED = 3 * LINE  # int32, threads that reached the current barrier
INTERRUPT = 4 * LINE  # int32, set by anyone, for good: every run ends early
UNPINNED = 4 * LINE + 4  # int32, set by a leader that could not pin itself
LED = 4 * LINE + 8  # int64, the job that `attend` ran before it returned, AFTER_RECALL, or 0
HEARD = 4 * LINE + 16  # int64, the rings of the bell that `attend` has dealt with
PASSED = 4 * LINE + 24  # int64, the leader's count of barriers passed
CLOSED = 4 * LINE + 32  # int32, set by anyone, for good: `attend` returns after each job
CLAIMED = 4 * LINE + 36  # int32, whether the group claims its CPUs; written by the thread that has the stream
WORDS_BYTES = 5 * LINE
DISMISSAL = AFTER_RECALL = -1
# A job that names a task is in flight from before its ring until it is over; `attend` returns then if it was recalled.
IDLE, IN_FLIGHT, RECALLED = 0, 1, 2


@inline
def barrier(group):
    """Returns when all threads have called it; what they wrote before is then visible to all.

    The count cannot move between a thread's return from one barrier and its arrival at the next, since its own arrival
    is missing: so reading it here, before arriving, is no race, and neither is the last thread's reset of ARRIVED.
    """
    signal = group.words + BARRIER
    passed = system.load(signal)
    if system.fetch_add(group.words + ARRIVED, 1) == group.threads - 1:
        system.store(group.words + ARRIVED, 0)
        notify_all(signal)
    else:
        parked = group.words + PARKED
        if spin_while(signal, passed, group.spin, parked):
            return
        if has_lower(group) or not yield_while(signal, passed, group.yielding, parked):
            sleep_while(signal, passed)


@inline
def wait_for_job(group, signal, count, rousing):
    """Waits for a group's next job; when the word at `rousing` is another one, it spins once more, for longer.

    A thread that yields its core to work of a lower priority may wait a time slice; a sleeper preempts that work.
    """
    duration, before = group.linger, system.load(rousing)
    while True:
        if has_lower(group):
            posted = spin_while(signal, count, duration, group.words + PARKED)
        else:
            posted = linger_while(signal, count, duration)
        if posted:
            return
        if system.load(rousing) == before:
            sleep(signal, count, HOUR)
            if system.load(signal) != count:
                return
        before = system.load(rousing)
        duration = ROUSED if group.linger else 0


@inline
def is_late(control):
    """Whether the deadline has passed."""
    deadline = simd.load_i64(control + DEADLINE) if control else 0
    return deadline != 0 and system.now() >= deadline


@inline
def interrupted(words, control):
    if system.load(words + INTERRUPT) != 0:
        return True
    return control != 0 and (system.load(control + CANCEL) != 0 or is_late(control))


@inline
def give_way(group, control):
    """Waits while work of a higher priority claims the group's processors."""
    if not claimed_line(group):
        return
    system.store(group.words + PARKED, 1)
    start = system.now()
    line = claimed_line(group)
    while line and system.now() - start < PATIENCE and not interrupted(group.words, control):
        count = system.load(line)
        if is_claimed(line, group.level):
            sleep(line, count, GLANCE)
        else:
            system.futex_wait(group.words + PARKED, 1, GRACE)
            # A claim made and ended meanwhile has changed the count.
            if system.load(line) == count:
                line = claimed_line(group)
    system.store(group.words + PARKED, 0)


@inline
def is_alone(step):
    return simd.load_i64(step + 8) & ALONE


@inline
def is_met(step, alone):
    """Whether a barrier follows a step that is not the last shared one."""
    return not alone or not is_alone(step + STEP_BYTES)


@inline
def over_at(group, number):
    """Address of the word that is `number` if the run ends early at barrier `number`.

    It is written before that barrier, and again two barriers later at the earliest, so it may be read at leisure.
    """
    return group.words + OVER + 8 * (number & 1)


@inline
def clocks_of(job, thread):
    """Address of a thread's clocks after its shares, or 0."""
    timing = simd.load_i64(job + TIMING)
    if not timing or thread >= simd.load_i64(job + TIMED):
        return 0
    steps = simd.load_i64(job + STEPS)
    return timing + 8 * (steps + 1 + thread * steps)


@inline
def share_of(group, job, thread, passed):
    """A worker's part of a job; takes and returns the number of barriers passed."""
    step = simd.load_i64(job + PROGRAM)
    end = step + STEP_BYTES * simd.load_i64(job + SHARED)
    clocks = clocks_of(job, thread)
    while step < end:
        alone = is_alone(step)
        if not alone:
            system.call(simd.load_i64(step), simd.load_i64(step + 8), thread, group.threads)
            if clocks:
                simd.store_i64(clocks, system.now())
        if clocks:
            clocks += 8
        if is_met(step, alone):
            barrier(group)
            passed += 1
            if simd.load_i64(over_at(group, passed)) == passed:
                break
        step += STEP_BYTES
    return passed


@inline
def run_step(step, alone, threads):
    """The leader's part of a step."""
    if alone:
        system.call(simd.load_i64(step), simd.load_i64(step + 8) - ALONE, 0, 1)
    else:
        system.call(simd.load_i64(step), simd.load_i64(step + 8), 0, threads)


@inline
def leaders_share(group, job, control, polite):
    """The leader's part of a job, giving way if it is `polite`; returns the number of steps completed.

    Only the leader looks at the cancel words. It notifies the others before it arrives at the barrier, so all leave
    at the same step.
    """
    program, steps = simd.load_i64(job + PROGRAM), simd.load_i64(job + STEPS)
    timing, clocks = simd.load_i64(job + TIMING), clocks_of(job, 0)
    shared = simd.load_i64(job + SHARED) if group.threads > 1 else 0
    passed = simd.load_i64(group.words + PASSED)
    if timing:
        simd.store_i64(timing, system.now())
    for i in range(steps):
        step = program + STEP_BYTES * i
        alone = is_alone(step)
        run_step(step, alone, group.threads)
        if clocks and not alone and i < shared:
            simd.store_i64(clocks + 8 * i, system.now())
        if polite and i + 1 < steps:
            give_way(group, control)
        ends_here = i + 1 < steps and interrupted(group.words, control)
        if i < shared and (ends_here or is_met(step, alone)):
            passed += 1
            if ends_here:
                simd.store_i64(over_at(group, passed), passed)
            barrier(group)
        if timing:
            simd.store_i64(timing + 8 * (i + 1), system.now())
        if ends_here:
            steps = i + 1
            break
    simd.store_i64(group.words + PASSED, passed)
    return steps


@inline
def stays_put(group, job):
    """Whether a calling thread runs on the group's CPU already and not long enough to be moved away from it.

    Changing its mask twice costs as much as a small model's inference.
    """
    elapsed = simd.load_i64(job + ELAPSED)
    return 0 < elapsed < SHORT_JOB and system.current_cpu() == group.cpu


@inline
def pin_caller(group):
    """Gives the calling thread the group's mask; returns the bytes of its own mask to restore, 0 for none."""
    length = system.syscall(system.SCHED_GETAFFINITY, 0, MASK_BYTES, group.saved_mask, 0)
    same = True
    for i in range(0, length, 8):
        same = same and simd.load_i64(group.saved_mask + i) == simd.load_i64(group.mask + i)
    if same:
        return 0
    if system.syscall(system.SCHED_SETAFFINITY, 0, MASK_BYTES, group.mask, 0) != 0:
        system.store(group.words + UNPINNED, 1)
        return 0
    return length


@inline
def run_whole(group, job, control, asked):
    """Runs a job; returns the number of steps completed."""
    pinned = 0
    if asked & PIN and not stays_put(group, job):
        pinned = pin_caller(group)
    while True:
        if group.threads > 1 and simd.load_i64(job + SHARED):
            simd.store_i64(group.words + POSTED + VALUE, job)
            notify_all(group.words + POSTED)
        completed = leaders_share(group, job, control, not asked & HOLDS_GIL)
        if completed < simd.load_i64(job + STEPS) or not simd.load_i64(job + AGAIN):
            break
    if pinned > 0:
        system.syscall(system.SCHED_SETAFFINITY, 0, pinned, group.saved_mask, 0)
    return completed


@inline
def ensure_claim(group):
    """Claims the group's processors if anybody would have to give way."""
    if not system.load(group.words + CLAIMED) and has_lower(group):
        system.store(group.words + CLAIMED, 1)
        claim(group)


@inline
def run(group, job, asked):
    start = system.now()
    control = simd.load_i64(job + OF_CONTROL)
    ensure_claim(group)
    if not asked & HOLDS_GIL:
        give_way(group, control)
    completed = 0 if is_late(control) else run_whole(group, job, control, asked)
    if system.load(group.words + CLAIMED):
        system.store(group.words + CLAIMED, 0)
        release(group)
    end = system.now()
    simd.store_i64(job + COMPLETED, completed)
    if completed == simd.load_i64(job + STEPS):
        simd.store_i64(job + ELAPSED, end - start)
    if control:
        simd.store_i64(control + BEGAN, start)
        simd.store_i64(control + ENDED, end)


@kernel(GROUP)
def lead(group, job, asked):
    """Runs the job at address `job` with the calling thread as thread 0; `asked` is 0 or a sum of PIN, HOLDS_GIL."""
    run(group, job, asked)


@kernel(GROUP)
def lead_for_task(group, job, task):
    """As `lead` by a thread that holds the GIL; the task has the number of completed steps."""
    run(group, job, HOLDS_GIL)
    simd.store_i64(task + TASK_COMPLETED, simd.load_i64(job + COMPLETED))


@kernel(GROUP)
def ring(group, job, unused):
    """Rings the bell with a job for the leader; claims the group's processors already now."""
    ensure_claim(group)
    simd.store_i64(group.words + BELL + VALUE, job)
    notify_all(group.words + BELL)


@kernel(GROUP)
def rouse(group, unused, unused_too):
    """Wakes the workers that sleep."""
    system.syscall(system.FUTEX, group.words + POSTED, system.FUTEX_WAKE_PRIVATE, system.EVERY_SLEEPER, 0)


@kernel(GROUP)
def work(group, thread, threads):
    """Thread `thread` of a group: does its share of every job posted, returns when it is dismissed."""
    posted = group.words + POSTED
    number, passed = np.int64(0), np.int64(0)
    while True:
        wait_for_job(group, posted, number, group.words + ROUSING)
        # The next job is not posted before this one ends, and it does not end without this thread.
        number = system.load(posted)
        job = simd.load_i64(posted + VALUE)
        if job == DISMISSAL:
            return
        passed = share_of(group, job, thread, passed)


@inline
def complete(task):
    """Notifies of the end of a task."""
    also = simd.load_i64(task + ALSO)
    pool = simd.load_i64(task + POOL)
    notify_all(task)
    if also:
        notify_all(also)
    # A thread that sets `notifies` looks at the count afterwards, so at least one of the two sees the other.
    if system.load(task + NOTIFIES) and pool:
        notify_all(pool)


@kernel(GROUP)
def attend(group, finished, pin):
    """A leader's own thread: completes the task at `finished` (if any), waits for the bell, leads its job.

    It goes on with the next job when that names a task, unless it was recalled meanwhile; LED then is AFTER_RECALL.

    `pin` is 0: the thread is pinned for good. The bell may ring without a job, and two rings may be heard as one; a job
    is taken once, and LED says which one was.
    """
    bell, flight = group.words + BELL, group.words + FLIGHT
    if finished:
        complete(finished)
    while True:
        heard = simd.load_i64(group.words + HEARD)
        wait_for_job(group, bell, heard, bell)
        # The count before the job: a ring after this is heard next time.
        simd.store_i64(group.words + HEARD, system.load(bell))
        job = simd.load_i64(bell + VALUE)
        simd.store_i64(group.words + LED, job)
        if job == 0:
            return
        # Nobody rings with another job before this one is over.
        simd.store_i64(bell + VALUE, 0)
        task = simd.load_i64(job + OF_TASK)
        run(group, job, pin)
        if task == 0:
            return
        simd.store_i64(task + TASK_COMPLETED, simd.load_i64(job + COMPLETED))
        # Idle before the end is notified, so that those who wait find the stream idle; the job may then be another's.
        recalled = system.replace(flight, IN_FLIGHT, IDLE) == RECALLED
        complete(task)
        if recalled:
            simd.store_i64(group.words + LED, AFTER_RECALL)
            return
        if system.load(group.words + CLOSED):
            simd.store_i64(group.words + LED, 0)
            return


@kernel(GROUP)
def recall(group, unused, unused_too):
    """Has the leader's thread return after the job in flight, if there is one: FLIGHT then is RECALLED."""
    system.replace(group.words + FLIGHT, IN_FLIGHT, RECALLED)

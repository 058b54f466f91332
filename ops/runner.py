"""Runs programs by the threads of a stream, without the interpreter between the first step and the last.

A program is a table of steps, (kernel address, argument block address). One thread leads: it publishes the job, runs
share 0 and goes on when every share of the last step is done. The others sit in `work` from their birth to their
dismissal. Between two steps stands a barrier, so a step sees everything that the one before it wrote, on whichever
thread. A step too small to be shared, whose argument block address has ALONE added, is the leader's: no barrier stands
between two of them, and a job of nothing else is not published. Whoever waits spins for a moment, then sleeps in the
kernel.

A leader's own thread returns to the interpreter after a job, unless the job names a task: then its landing is told
from here, and the thread waits for the next job.

The entries are compiled like kernels; what their three arguments mean is theirs. Their callers guarantee: one leader of
a group at a time; `work` entered once by each thread 1..threads-1; the memory of groups, jobs and signals outlives the
calls.
"""

from __future__ import annotations

import numpy as np

from .jit import inline, kernel, lazy, record

simd = lazy("simd")
system = lazy("system")

SIGNAL = record(count="i4", sleepers="i4", value="i8")
"""Something to wait for: `count` changes when it happens, `value` comes with it, `sleepers` wait in the kernel.

It has a cache line to itself wherever it lies.
"""

TASK = record(count="i4", sleepers="i4", value="i8", also="i8", completed="i8", ended="i8")
"""What is told when a job's task is over: a SIGNAL, whose `count` goes up by 1 each time, and what came of the job.

also       address of another SIGNAL to let happen, or 0
completed  steps of the job that all threads finished
ended      the clock (ns) when it was over
"""

GROUP = record(words="i8", threads="i8", cpu="i8", mask="i8", saved_mask="i8", spin="i8", yielding="i8", linger="i8")
"""What a group is; constant while it lives.

words       address of the words below: WORDS_BYTES, zeroed, 128-byte aligned
threads     number of threads, the leader included
cpu         the CPU of thread 0, -1 for any
mask        address of MASK_BYTES: the CPU mask with only that CPU in it
saved_mask  address of MASK_BYTES of scratch, where a leader that pins itself keeps its own mask meanwhile
spin        nanoseconds a thread spins at a barrier before it offers its core to others
yielding    nanoseconds it then goes on offering before it sleeps
linger      nanoseconds a thread spins for its next job before it sleeps
"""

JOB = record(
    program="i8", steps="i8", shared="i8", timing="i8", cancel="i8", task="i8", completed="i8", elapsed="i8"
)  # fmt: skip
"""One program to run; the last two fields are the runner's, the others are constant while it runs.

program    address of int64[steps][2]: kernel, argument block + ALONE or 0
steps      number of steps, at least 1
shared     number of steps up to the last one that is not ALONE, 0 when all are
timing     0, or address of int64[steps + 1]: the clock (ns) at the start and after each step
cancel     0, or address of an int32 word: once it is not 0, the run ends at the next step boundary
task       address of the TASK that is over with this job, 0 when the interpreter has to go on with it
completed  steps of the last run that all threads finished
elapsed    nanoseconds the last run took, 0 before the first
"""

SLEEPERS, VALUE = (SIGNAL.fields[name][1] for name in ("sleepers", "value"))
ALSO, TASK_COMPLETED, ENDED = (TASK.fields[name][1] for name in ("also", "completed", "ended"))
PROGRAM, STEPS, SHARED, TIMING, CANCEL, OF_TASK, COMPLETED, ELAPSED = (JOB.fields[name][1] for name in JOB.names)
STEP_BYTES = 16
ALONE = 1
MASK_BYTES = 1024
SHORT_JOB, OTHERS_RAN, HOUR = 500_000, 10_000, 3_600_000_000_000  # nanoseconds

# A group's words. Those written by different threads lie 128 bytes apart, since processors fetch lines in pairs.
LINE = 128
POSTED = 0  # a SIGNAL to the workers, its value the job's address or DISMISSAL
BELL = LINE  # a SIGNAL to the leader's thread, its value the job's address or 0
FLIGHT = LINE + 16  # int32, one of the states below
BARRIER = 2 * LINE  # a SIGNAL, its count the barriers passed so far
OVER = 2 * LINE + 16  # int64[2], the latest even and odd numbered barriers at which a run ended early
ARRIVED = 3 * LINE  # int32, threads that reached the current barrier
INTERRUPT = 4 * LINE  # int32, set by anyone, for good: every run ends early
UNPINNED = 4 * LINE + 4  # int32, set by a leader that could not pin itself
LED = 4 * LINE + 8  # int64, the job that `attend` ran before it returned, RECALLED, or 0
HEARD = 4 * LINE + 16  # int64, the rings of the bell that `attend` has dealt with
PASSED = 4 * LINE + 24  # int64, the leader's count of barriers passed
CLOSED = 4 * LINE + 32  # int32, set by anyone, for good: `attend` returns after each job
WORDS_BYTES = 5 * LINE
DISMISSAL = RECALLED = -1
# A job that names a task is in flight from before its ring until it landed; one called back then ends `attend`.
LANDED, FLYING, CALLED = 0, 1, 2


@inline
def happen(signal):
    """Lets a signal happen; what was written before is visible to those who waited."""
    system.fetch_add(signal, 1)
    if system.load(signal + SLEEPERS) > 0:
        system.syscall(system.FUTEX, signal, system.FUTEX_WAKE_PRIVATE, system.EVERY_SLEEPER, 0)


@inline
def sleep(signal, count, timeout):
    """Sleeps until the signal's count is no longer `count`, for at most `timeout` nanoseconds; may wake earlier.

    No wake-up is lost: `happen` changes the count and then reads `sleepers`, a sleeper counts itself there and then
    lets the kernel compare the count, so at least one of the two sees the other.
    """
    system.fetch_add(signal + SLEEPERS, 1)
    system.futex_wait(signal, count, timeout)
    system.fetch_add(signal + SLEEPERS, -1)


@inline
def sleep_while(signal, count):
    while system.load(signal) == count:
        sleep(signal, count, HOUR)


@inline
def spin_while(signal, count, duration):
    """Spins for `duration` ns; returns whether the signal's count is no longer `count`."""
    start = system.now()
    while system.now() - start < duration:
        for _ in range(32):
            if system.load(signal) != count:
                return True
            system.pause()
    return False


@inline
def yield_while(signal, count, duration):
    """Offers the core to others for `duration` ns; returns whether the signal's count is no longer `count`."""
    start = system.now()
    while system.now() - start < duration:
        if system.load(signal) != count:
            return True
        system.syscall(system.SCHED_YIELD, 0, 0, 0, 0)
    return False


@inline
def linger_while(signal, count, duration):
    """Spins for `duration` ns, offering the core to others; returns whether the count is no longer `count`.

    When others do want the core it returns early: a sleeper's wake-up is then faster than a spinning thread's turn.
    """
    start = system.now()
    moment, before = start, start
    while moment - start < duration and moment - before < OTHERS_RAN:
        for _ in range(16):
            if system.load(signal) != count:
                return True
            system.pause()
        system.syscall(system.SCHED_YIELD, 0, 0, 0, 0)
        before = moment
        moment = system.now()
    return system.load(signal) != count


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
        happen(signal)
    elif not spin_while(signal, passed, group.spin) and not yield_while(signal, passed, group.yielding):
        sleep_while(signal, passed)


@inline
def interrupted(words, cancel):
    return system.load(words + INTERRUPT) != 0 or (cancel != 0 and system.load(cancel) != 0)


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
def share_of(group, job, thread, passed):
    """A worker's part of a job; takes and returns the number of barriers passed."""
    step = simd.load_i64(job + PROGRAM)
    end = step + STEP_BYTES * simd.load_i64(job + SHARED)
    while step < end:
        alone = is_alone(step)
        if not alone:
            system.call(simd.load_i64(step), simd.load_i64(step + 8), thread, group.threads)
        if is_met(step, alone):
            barrier(group)
            passed += 1
            if simd.load_i64(over_at(group, passed)) == passed:
                return passed
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
def leaders_share(group, job):
    """The leader's part of a job; returns the number of steps completed.

    Only the leader looks at the cancel words. It tells the others before it arrives at the barrier, so that all leave
    at the same step.
    """
    program, steps = simd.load_i64(job + PROGRAM), simd.load_i64(job + STEPS)
    timing, cancel = simd.load_i64(job + TIMING), simd.load_i64(job + CANCEL)
    shared = simd.load_i64(job + SHARED) if group.threads > 1 else 0
    passed = simd.load_i64(group.words + PASSED)
    if timing:
        simd.store_i64(timing, system.now())
    for i in range(steps):
        step = program + STEP_BYTES * i
        alone = is_alone(step)
        run_step(step, alone, group.threads)
        ends_here = i + 1 < steps and interrupted(group.words, cancel)
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
def run(group, job, pin):
    start = system.now()
    if group.threads > 1 and simd.load_i64(job + SHARED):
        simd.store_i64(group.words + POSTED + VALUE, job)
        happen(group.words + POSTED)
    pinned = 0
    if pin and not stays_put(group, job):
        pinned = pin_caller(group)
    simd.store_i64(job + COMPLETED, leaders_share(group, job))
    if pinned > 0:
        system.syscall(system.SCHED_SETAFFINITY, 0, pinned, group.saved_mask, 0)
    simd.store_i64(job + ELAPSED, system.now() - start)


@kernel(GROUP)
def lead(group, job, pin):
    """Runs the job at address `job` with the calling thread as thread 0; with `pin` on the group's own CPU."""
    run(group, job, pin)


@kernel(GROUP)
def work(group, thread, threads):
    """Thread `thread` of a group: does its share of every job posted, returns when it is dismissed."""
    posted = group.words + POSTED
    number, passed = np.int64(0), np.int64(0)
    while True:
        if not linger_while(posted, number, group.linger):
            sleep_while(posted, number)
        # The next job is not posted before this one ends, and it does not end without this thread.
        number = system.load(posted)
        job = simd.load_i64(posted + VALUE)
        if job == DISMISSAL:
            return
        passed = share_of(group, job, thread, passed)


@inline
def land(task):
    """Tells that a task is over."""
    also = simd.load_i64(task + ALSO)
    happen(task)
    if also:
        happen(also)


@kernel(GROUP)
def attend(group, finished, pin):
    """A leader's own thread: tells that the task at `finished` (if any) is over, waits for the bell, leads its job.

    It goes on with the next job when that names a task, unless it was called back meanwhile; LED then is RECALLED.

    `pin` is 0: the thread is pinned for good. The bell may ring without a job, and two rings may be heard as one; a job
    is taken once, and LED says which one was.
    """
    bell, flight = group.words + BELL, group.words + FLIGHT
    if finished:
        land(finished)
    while True:
        heard = simd.load_i64(group.words + HEARD)
        if not linger_while(bell, heard, group.linger):
            sleep_while(bell, heard)
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
        simd.store_i64(task + ENDED, system.now())
        # Landed before it is told, so that whoever is told finds the stream free; the job may then be another task's.
        called = system.replace(flight, FLYING, LANDED) == CALLED
        land(task)
        if called:
            simd.store_i64(group.words + LED, RECALLED)
            return
        if system.load(group.words + CLOSED):
            simd.store_i64(group.words + LED, 0)
            return


@kernel(GROUP)
def recall(group, unused, unused_too):
    """Has the leader's thread return after the job in flight, if there is one: FLIGHT then is CALLED."""
    system.replace(group.words + FLIGHT, FLYING, CALLED)


@kernel(SIGNAL)
def notify(signal, value, unused):
    """Lets a signal happen, with a `value` unless that is 0."""
    address = system.address_of(signal)
    if value:
        simd.store_i64(address + VALUE, value)
    happen(address)


@kernel(SIGNAL)
def wait(signal, count, timeout):
    """Waits until the signal's count is no longer `count`, for about `timeout` nanoseconds; may return earlier.

    It spins for as many nanoseconds as the signal's value says, then sleeps. It returns when the process gets a signal
    of the other kind, so that the interpreter can handle Ctrl-C.
    """
    address = system.address_of(signal)
    if not linger_while(address, count, signal.value):
        sleep(address, count, timeout)

"""Short jobs that run again, called by CPython itself: from one call to its return nobody else has the GIL.

A job runs again where the task has one of its own, on the memory that the task has now, a stream is idle, and nothing
waits. The functions check that, and do nothing where it is not so.
"""

from __future__ import annotations

from cpuruntime.compiler.functions import function
from cpuruntime.compiler.kernel import inline, lazy, record
from cpuruntime.streams.native import runner
from cpuruntime.streams.native.inputs import (
    ACQUIRE,
    ADDRESS,
    ALLOCATE,
    ARRAY,
    ARRAYS,
    ATTRIBUTE,
    CLAIM,
    COPY_ARRAY,
    DICT_SIZE,
    FALSE,
    FROM_WORD,
    KEY,
    KIND,
    LIST_ITEM,
    LIST_SIZE,
    LONGEST,
    LONGEST_START,
    NEW_LIST,
    NONE,
    OF_PORTS,
    OF_QUEUE,
    OF_TASK,
    OUTPUTS,
    PORTS,
    RELEASE,
    RUNNING,
    SET_ATTRIBUTE,
    SET_DICT_ITEM,
    SET_ITEM,
    TIMES,
    TO_WORD,
    TRUE,
    ask,
    bind,
    is_all_own,
)

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")
interpreter = lazy("cpuruntime.streams.native.interpreter")

QUEUE = record("python idle queue lead")
"""What says whether a stream is idle and nothing waits: two lists; and the kernel that leads a job."""

IDLE, WAITING, LEAD = (QUEUE.fields[name][1] for name in ("idle", "queue", "lead"))
THREADS = runner.GROUP.fields["threads"][1]


@inline
def idle_group(python, queue):
    """The group of an idle stream, the one used last; 0 where there is none or something waits."""
    if ask(python, LIST_SIZE, simd.load_i64(queue + WAITING), 0) != 0:
        return 0
    idle = simd.load_i64(queue + IDLE)
    for place in range(ask(python, LIST_SIZE, idle, 0), 0, -1):
        stream = ask(python, LIST_ITEM, idle, place - 1)
        number = ask(python, ATTRIBUTE, stream, simd.load_i64(python + ADDRESS))
        group = ask(python, TO_WORD, number, 0)
        ask(python, RELEASE, number, 0)
        words = simd.load_i64(group)
        if system.load(words + runner.FLIGHT) == runner.IDLE:
            return 0 if system.load(words + runner.CLOSED) else group
    return 0


@inline
def group_for(python, queue, task, longest):
    """The group that may run the task's own job now; 0 where there is none."""
    job = simd.load_i64(task + runner.REPEAT)
    if job == 0 or simd.load_i64(job + runner.OF_CONTROL) != simd.load_i64(task + runner.TASK_CONTROL):
        return 0
    elapsed = simd.load_i64(job + runner.ELAPSED)
    if elapsed <= 0 or elapsed > longest:
        return 0
    group = idle_group(python, queue)
    if group != 0 and simd.load_i64(group + THREADS) > 1 and simd.load_i64(job + runner.SHARED) != 0:
        return 0
    return group


@inline
def steps_left(queue, group, task):
    """Runs the job; returns how many of its steps were left out."""
    job = simd.load_i64(task + runner.REPEAT)
    system.store(simd.load_i64(task + runner.TASK_CONTROL) + runner.CANCEL, 0)
    system.call(simd.load_i64(queue + LEAD), group, job, task)
    return simd.load_i64(job + runner.STEPS) - simd.load_i64(task + runner.TASK_COMPLETED)


@inline
def constant(python, name):
    """A new reference to None or True."""
    found = simd.load_i64(python + name)
    ask(python, ACQUIRE, found, 0)
    return found


@function(ARRAY)
def run_again(this, arguments, count):
    """run_again(task, longest), address and nanoseconds: the steps left out, None where the job was not run.

    `this` is an array that holds a QUEUE.
    """
    queue = this.data
    python = simd.load_i64(queue)
    task = ask(python, TO_WORD, simd.load_i64(arguments), 0)
    group = group_for(python, queue, task, ask(python, TO_WORD, simd.load_i64(arguments + 8), 0))
    if group == 0:
        return constant(python, NONE)
    return ask(python, FROM_WORD, steps_left(queue, group, task), 0)


@inline
def bound(python, call, shares):
    """A new reference to False for inputs that are bound: the call is claimed so that nobody else binds any meanwhile.

    0, with an exception set, where memory is short. What is only started binds its inputs again.
    """
    if shares != simd.load_i64(python + NONE):
        running, key, claim = simd.load_i64(call + RUNNING), simd.load_i64(call + KEY), simd.load_i64(call + CLAIM)
        if interpreter.invoke(simd.load_i64(python + SET_DICT_ITEM), running, key, claim, 0) & 0xFFFFFFFF != 0:
            return 0
    return constant(python, FALSE)


@inline
def results(python, call, shares):
    """A new result with the outputs, copies unless `shares`; 0, with an exception set, where memory is short."""
    outputs = simd.load_i64(call + OUTPUTS)
    count = ask(python, LIST_SIZE, outputs, 0)
    arrays = ask(python, NEW_LIST, count, 0)
    if arrays == 0:
        return 0
    for index in range(count):
        array = ask(python, LIST_ITEM, outputs, index)
        if shares:
            ask(python, ACQUIRE, array, 0)
        else:
            array = ask(python, COPY_ARRAY, array, 0)
            if array == 0:
                ask(python, RELEASE, arrays, 0)
                return 0
        interpreter.invoke(simd.load_i64(python + SET_ITEM), arrays, index, array, 0)
    made = ask(python, ALLOCATE, simd.load_i64(call + KIND), 0)
    if made != 0:
        store = simd.load_i64(python + SET_ATTRIBUTE)
        interpreter.invoke(store, made, simd.load_i64(python + ARRAYS), arrays, 0)
        interpreter.invoke(store, made, simd.load_i64(python + PORTS), simd.load_i64(call + OF_PORTS), 0)
    ask(python, RELEASE, arrays, 0)
    return made


@function(ARRAY)
def infer_again(this, arguments, count):
    """infer_again(inputs, share_inputs, share_outputs): the result; None where nothing was done.

    With None as `share_outputs` the result is True. Where inputs were bound and the job is not for here, the result is
    False, see `bound`. `this` is an array that holds a CALL.
    """
    call = this.data
    python, queue, task = simd.load_i64(call), simd.load_i64(call + OF_QUEUE), simd.load_i64(call + OF_TASK)
    given, shares = simd.load_i64(arguments), simd.load_i64(arguments + 16)
    none, true, false = simd.load_i64(python + NONE), simd.load_i64(python + TRUE), simd.load_i64(python + FALSE)
    is_idle = ask(python, DICT_SIZE, simd.load_i64(call + RUNNING), 0) == 0
    if not is_idle or not is_all_own(python, call) or (shares != none and shares != true and shares != false):
        return constant(python, NONE)
    if given != none and not bind(python, call, given, simd.load_i64(arguments + 8)):
        return constant(python, NONE)
    longest = simd.load_i64(call + (LONGEST_START if shares == none else LONGEST))
    control = simd.load_i64(task + runner.TASK_CONTROL)
    group = 0
    if simd.load_i64(control + runner.DEADLINE) == 0:
        group = group_for(python, queue, task, longest)
    if group == 0 or steps_left(queue, group, task) != 0:
        return bound(python, call, shares)
    times = simd.load_i64(call + TIMES)
    began = simd.load_i64(control + runner.BEGAN)
    simd.store_i64(times, began)
    simd.store_i64(times + 8, simd.load_i64(control + runner.ENDED) - began)
    if shares == none:
        return constant(python, TRUE)
    return results(python, call, shares == true)

"""Short jobs that run again, called by CPython itself: from one call to its return nobody else has the GIL.

A job runs again where the task has one of its own, on the memory that the task has now, a stream is idle, and nothing
waits. The functions check that, and do nothing where it is not so. Objects are borrowed from lists and dicts
that the records name, and not held over a call that could free them: none of those that come before the job does.
"""

from __future__ import annotations

from cpuruntime.compiler.functions import function
from cpuruntime.compiler.kernel import inline, lazy, record
from cpuruntime.streams.native import runner

simd = lazy("cpuruntime.compiler.simd")
system = lazy("cpuruntime.streams.native.system")
interpreter = lazy("cpuruntime.streams.native.interpreter")

ARRAY = record(
    references="i8", type="i8", data="i8", rank="i4", shape="i8", strides="i8", base="i8", dtype="i8", flags="i4"
)
"""The head of an ndarray, which extensions compiled for NumPy rely on."""

PYTHON = record(
    "list_size list_item dict_size attribute set_attribute to_word from_word acquire release",
    "new_list set_item allocate copy_array move_memory none true false array address arrays ports",
)
"""Addresses of C functions, and of objects: constants, the type ndarray, the names of attributes."""

QUEUE = record("python idle queue lead")
"""What says whether a stream is idle and nothing waits: two lists; and the kernel that leads a job."""

CALL = record(
    "python queue task running followed owned bound outputs inputs nbytes times kind ports longest longest_start",
)
"""A request of the public interface.

running, followed       dicts that are empty while it is idle and has no tensors of the user's
owned, bound, outputs   lists of arrays
inputs, nbytes          the number of inputs, and the bytes of the first
times                   address of int64[2]: when the latest inference began, and how long it took
kind, ports             the type of results, and what each of them has as `_ports`
longest, longest_start  nanoseconds of a job that is run again, for results and without
"""

LIST_SIZE, LIST_ITEM, DICT_SIZE, ATTRIBUTE, SET_ATTRIBUTE, TO_WORD, FROM_WORD, ACQUIRE, RELEASE = (
    PYTHON.fields[name][1] for name in PYTHON.names[:9]
)
NEW_LIST, SET_ITEM, ALLOCATE, COPY_ARRAY, MOVE_MEMORY, NONE, TRUE, FALSE, NDARRAY, ADDRESS, ARRAYS, PORTS = (
    PYTHON.fields[name][1] for name in PYTHON.names[9:]
)
IDLE, WAITING, LEAD = (QUEUE.fields[name][1] for name in ("idle", "queue", "lead"))
OF_QUEUE, OF_TASK, RUNNING, FOLLOWED, OWNED, BOUND, OUTPUTS = (CALL.fields[name][1] for name in CALL.names[1:8])
INPUTS, NBYTES, TIMES, KIND, OF_PORTS, LONGEST, LONGEST_START = (CALL.fields[name][1] for name in CALL.names[8:])
TYPE, DATA, RANK, SHAPE, DTYPE, FLAGS = (
    ARRAY.fields[name][1] for name in ("type", "data", "rank", "shape", "dtype", "flags")
)
CONTIGUOUS = 1
THREADS = runner.GROUP.fields["threads"][1]


@inline
def ask(python, name, first, second):
    """What the function of this name returns."""
    return interpreter.invoke(simd.load_i64(python + name), first, second, 0)


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
def is_like(array, own):
    """Whether an array is contiguous and has the dtype and the shape of another."""
    rank = simd.load_i32(array + RANK)
    if simd.load_i64(array + DTYPE) != simd.load_i64(own + DTYPE) or rank != simd.load_i32(own + RANK):
        return False
    for axis in range(rank):
        extent = simd.load_i64(simd.load_i64(array + SHAPE) + 8 * axis)
        if extent != simd.load_i64(simd.load_i64(own + SHAPE) + 8 * axis):
            return False
    return simd.load_i32(array + FLAGS) & CONTIGUOUS != 0


@inline
def is_bound(python, call, given, shares):
    """Whether what is given as the only input needs no other memory than what is bound."""
    if simd.load_i64(call + INPUTS) != 1 or simd.load_i64(given + TYPE) != simd.load_i64(python + NDARRAY):
        return False
    own = ask(python, LIST_ITEM, simd.load_i64(call + OWNED), 0)
    bound = ask(python, LIST_ITEM, simd.load_i64(call + BOUND), 0)
    if not is_like(given, own):
        return False
    if shares == simd.load_i64(python + TRUE):
        return given == bound
    return shares == simd.load_i64(python + FALSE) and bound == own


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
        interpreter.invoke(simd.load_i64(python + SET_ITEM), arrays, index, array)
    made = ask(python, ALLOCATE, simd.load_i64(call + KIND), 0)
    if made != 0:
        store = simd.load_i64(python + SET_ATTRIBUTE)
        interpreter.invoke(store, made, simd.load_i64(python + ARRAYS), arrays)
        interpreter.invoke(store, made, simd.load_i64(python + PORTS), simd.load_i64(call + OF_PORTS))
    ask(python, RELEASE, arrays, 0)
    return made


@function(ARRAY)
def infer_again(this, arguments, count):
    """infer_again(inputs, share_inputs, share_outputs): the result; None where nothing was done.

    With None as `share_outputs` the result is True. `this` is an array that holds a CALL.
    """
    call = this.data
    python, queue, task = simd.load_i64(call), simd.load_i64(call + OF_QUEUE), simd.load_i64(call + OF_TASK)
    given, shares = simd.load_i64(arguments), simd.load_i64(arguments + 16)
    none, true = simd.load_i64(python + NONE), simd.load_i64(python + TRUE)
    is_idle = ask(python, DICT_SIZE, simd.load_i64(call + RUNNING), 0) == 0
    is_own = ask(python, DICT_SIZE, simd.load_i64(call + FOLLOWED), 0) == 0
    longest = simd.load_i64(call + (LONGEST_START if shares == none else LONGEST))
    control = simd.load_i64(task + runner.TASK_CONTROL)
    group = 0
    if is_idle and is_own and simd.load_i64(control + runner.DEADLINE) == 0:
        group = group_for(python, queue, task, longest)
    if group == 0 or (shares != none and shares != true and shares != simd.load_i64(python + FALSE)):
        return constant(python, NONE)
    if given != none:
        if not is_bound(python, call, given, simd.load_i64(arguments + 8)):
            return constant(python, NONE)
        target = simd.load_i64(ask(python, LIST_ITEM, simd.load_i64(call + BOUND), 0) + DATA)
        source = simd.load_i64(given + DATA)
        if source != target:
            move = simd.load_i64(python + MOVE_MEMORY)
            interpreter.invoke(move, target, source, simd.load_i64(call + NBYTES))
    if steps_left(queue, group, task) != 0:
        return constant(python, NONE)
    times = simd.load_i64(call + TIMES)
    began = simd.load_i64(control + runner.BEGAN)
    simd.store_i64(times, began)
    simd.store_i64(times + 8, simd.load_i64(control + runner.ENDED) - began)
    if shares == none:
        return constant(python, TRUE)
    return results(python, call, shares == true)

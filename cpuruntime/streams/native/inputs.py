"""What CPython's objects are to the compiled call path, and how it binds what a user passes as inputs.

Objects are borrowed from lists and dicts that the records name, and not held over a call that could free them.
"""

from __future__ import annotations

import numpy as np

from cpuruntime.compiler.kernel import inline, lazy, record
from cpuruntime.streams.native import runner

simd = lazy("cpuruntime.compiler.simd")
interpreter = lazy("cpuruntime.streams.native.interpreter")

ARRAY = record(
    references="i8", type="i8", data="i8", rank="i4", shape="i8", strides="i8", base="i8", dtype="i8", flags="i4"
)
"""The head of an ndarray, which extensions compiled for NumPy rely on."""

PYTHON = record(
    "list_size list_item dict_size dict_item dict_next set_dict_item attribute set_attribute to_word from_word acquire",
    "release new_list set_item allocate copy_array move_memory none true false array list dict name number address",
    "arrays ports current",
)
"""Addresses of C functions, and of objects: constants, types (array, list, dict; name and number are str and int), and
the names of attributes.
"""

CALL = record(
    "python queue task running key claim empty owned bound outputs inputs sizes slots positions port times kind ports",
    "longest longest_start seen device own_inputs own_outputs addresses addresses_bytes",
)
"""A request of the public interface.

running                 a dict that is empty while it is idle, and `key` and `claim` to make it busy
empty                   a list of dicts that are empty unless memory has to be looked after
owned, bound, outputs   lists of arrays
inputs, sizes           the number of inputs, and address of int64[inputs], the bytes of each of static shape
slots                   address of int64[inputs + 3]: arrays for the inputs, and room for an item of a dict
positions, port         a dict of the inputs by what a user may call them, and the type of ports
times                   address of int64[2]: when the latest inference began, and how long it took
kind, ports             the type of results, and what each of them has as `_ports`
longest, longest_start  nanoseconds of a job that is run again, for results and without
seen                    0, or address of int64[BUCKETS]: each SEEN, by a hash of its shapes; inputs are found there then
device                  of dynamic shapes: the object that has the following, and a SEEN's `now` as `_current`
own_inputs, own_outputs lists of arrays
addresses               where those are; `addresses_bytes` long
"""

SEEN = record("next inputs outputs sizes now job addresses")
"""Memory of a request for inputs of certain shapes, with a job of its own.

next             the next one with the same hash, or 0
inputs, outputs  lists of arrays
sizes            address of int64[inputs]: the bytes of each
now              an object
job              the job's address, or 0
addresses        address of the arrays' addresses
"""

BUCKETS = 256

(
    LIST_SIZE, LIST_ITEM, DICT_SIZE, DICT_ITEM, DICT_NEXT, SET_DICT_ITEM, ATTRIBUTE, SET_ATTRIBUTE, TO_WORD, FROM_WORD,
    ACQUIRE, RELEASE, NEW_LIST, SET_ITEM, ALLOCATE, COPY_ARRAY, MOVE_MEMORY, NONE, TRUE, FALSE, NDARRAY, LIST, DICT,
    NAME, NUMBER, ADDRESS, ARRAYS, PORTS, CURRENT,
) = (PYTHON.fields[name][1] for name in PYTHON.names)  # fmt: skip
(
    OF_QUEUE, OF_TASK, RUNNING, KEY, CLAIM, EMPTY, OWNED, BOUND, OUTPUTS, INPUTS, SIZES, SLOTS, POSITIONS, PORT, TIMES,
    KIND, OF_PORTS, LONGEST, LONGEST_START, OF_SEEN, DEVICE, OWN_INPUTS, OWN_OUTPUTS, ADDRESSES, ADDRESSES_BYTES,
) = (CALL.fields[name][1] for name in CALL.names[1:])  # fmt: skip
NEXT, SEEN_INPUTS, SEEN_OUTPUTS, SEEN_SIZES, NOW, JOB, SEEN_ADDRESSES = (
    SEEN.fields[name][1] for name in SEEN.names
)
TYPE, DATA, RANK, SHAPE, DTYPE, FLAGS = (
    ARRAY.fields[name][1] for name in ("type", "data", "rank", "shape", "dtype", "flags")
)
CONTIGUOUS = 1
MOST_BYTES = 2**20
"""That are copied while the GIL is held, at most: some 0.1 ms."""


@inline
def ask(python, name, first, second):
    """What the function of this name returns."""
    return interpreter.invoke(simd.load_i64(python + name), first, second, 0, 0)


@inline
def is_all_own(python, call):
    """Whether no memory has to be looked after before an inference."""
    empty = simd.load_i64(call + EMPTY)
    for index in range(ask(python, LIST_SIZE, empty, 0)):
        if ask(python, DICT_SIZE, ask(python, LIST_ITEM, empty, index), 0) != 0:
            return False
    return True


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
def note(python, call, index, array):
    """Notes the array of an input; whether it is one."""
    if index < 0 or index >= simd.load_i64(call + INPUTS):
        return False
    if simd.load_i64(array + TYPE) != simd.load_i64(python + NDARRAY):
        return False
    simd.store_i64(simd.load_i64(call + SLOTS) + 8 * index, array)
    return True


@inline
def note_item(python, call, key, array):
    """Notes an item of a dict; whether it is an array by the name, the number or the port of an input."""
    kind = simd.load_i64(key + TYPE)
    is_key = kind == simd.load_i64(python + NAME) or kind == simd.load_i64(python + NUMBER)
    if not is_key and kind != simd.load_i64(call + PORT):
        return False
    index = ask(python, DICT_ITEM, simd.load_i64(call + POSITIONS), key)
    return index != 0 and note(python, call, ask(python, TO_WORD, index, 0), array)


@inline
def note_all(python, call, given):
    """Notes the arrays of a list, of a dict, or the only one; whether it is nothing else."""
    slots, inputs, kind = simd.load_i64(call + SLOTS), simd.load_i64(call + INPUTS), simd.load_i64(given + TYPE)
    for index in range(inputs + 1):
        simd.store_i64(slots + 8 * index, 0)
    if kind == simd.load_i64(python + NDARRAY):
        return inputs == 1 and note(python, call, 0, given)
    if kind == simd.load_i64(python + LIST):
        fits = ask(python, LIST_SIZE, given, 0) == inputs
        index = 0
        while fits and index < inputs:
            fits = note(python, call, index, ask(python, LIST_ITEM, given, index))
            index += 1
        return fits
    if kind != simd.load_i64(python + DICT):
        return False
    fits, place = True, slots + 8 * inputs
    step = simd.load_i64(python + DICT_NEXT)
    while fits and interpreter.invoke(step, given, place, place + 8, place + 16) & 0xFFFFFFFF != 0:
        fits = note_item(python, call, simd.load_i64(place + 8), simd.load_i64(place + 16))
    return fits


@inline
def fit_bound(python, call, shares):
    """Whether the arrays that are noted need no other memory than what is bound."""
    slots = simd.load_i64(call + SLOTS)
    fits, index, inputs = True, 0, simd.load_i64(call + INPUTS)
    while fits and index < inputs:
        array = simd.load_i64(slots + 8 * index)
        if array != 0:
            own = ask(python, LIST_ITEM, simd.load_i64(call + OWNED), index)
            bound = ask(python, LIST_ITEM, simd.load_i64(call + BOUND), index)
            if shares == simd.load_i64(python + TRUE):
                fits = array == bound
            else:
                fits = shares == simd.load_i64(python + FALSE) and bound == own
            fits = fits and is_like(array, own)
        index += 1
    return fits


@inline
def bucket_of(call):
    """The address of the bucket for the shapes of the arrays that are noted; 0 where one of them is missing."""
    hashed, slots = np.int64(0), simd.load_i64(call + SLOTS)
    for index in range(simd.load_i64(call + INPUTS)):
        array = simd.load_i64(slots + 8 * index)
        if array == 0:
            return 0
        shape = simd.load_i64(array + SHAPE)
        for axis in range(simd.load_i32(array + RANK)):
            hashed = hashed * 31 + simd.load_i64(shape + 8 * axis)
    return simd.load_i64(call + OF_SEEN) + 8 * (hashed & (BUCKETS - 1))


@inline
def seen_for(python, call):
    """The SEEN of the arrays that are noted, 0 where there is none."""
    bucket = bucket_of(call)
    if bucket == 0:
        return 0
    slots, inputs = simd.load_i64(call + SLOTS), simd.load_i64(call + INPUTS)
    seen = simd.load_i64(bucket)
    while seen != 0:
        own = simd.load_i64(seen + SEEN_INPUTS)
        fits, index = True, 0
        while fits and index < inputs:
            fits = is_like(simd.load_i64(slots + 8 * index), ask(python, LIST_ITEM, own, index))
            index += 1
        if fits:
            return seen
        seen = simd.load_i64(seen + NEXT)
    return 0


@inline
def take_over(python, source, target):
    """Has the second list the items of the first; it loses its own."""
    for index in range(ask(python, LIST_SIZE, source, 0)):
        item = ask(python, LIST_ITEM, source, index)
        ask(python, ACQUIRE, item, 0)
        interpreter.invoke(simd.load_i64(python + SET_ITEM), target, index, item, 0)


@inline
def change(python, call, seen):
    """Has the request the memory and the job for other shapes."""
    inputs, outputs = simd.load_i64(seen + SEEN_INPUTS), simd.load_i64(seen + SEEN_OUTPUTS)
    for place in (OWNED, BOUND, OWN_INPUTS):
        take_over(python, inputs, simd.load_i64(call + place))
    for place in (OUTPUTS, OWN_OUTPUTS):
        take_over(python, outputs, simd.load_i64(call + place))
    target, size = simd.load_i64(call + ADDRESSES), simd.load_i64(call + ADDRESSES_BYTES)
    move = simd.load_i64(python + MOVE_MEMORY)
    interpreter.invoke(move, target, simd.load_i64(seen + SEEN_ADDRESSES), size, 0)
    simd.store_i64(simd.load_i64(call + OF_TASK) + runner.REPEAT, simd.load_i64(seen + JOB))
    name, now = simd.load_i64(python + CURRENT), simd.load_i64(seen + NOW)
    interpreter.invoke(simd.load_i64(python + SET_ATTRIBUTE), simd.load_i64(call + DEVICE), name, now, 0)


@inline
def bind(python, call, given, shares):
    """Binds what is given: copies it to the request's own memory unless it is there. Whether it did."""
    if not note_all(python, call, given):
        return False
    seen, sizes = np.int64(0), simd.load_i64(call + SIZES)
    slots, inputs = simd.load_i64(call + SLOTS), simd.load_i64(call + INPUTS)
    if simd.load_i64(call + OF_SEEN) != 0:
        if shares == simd.load_i64(python + FALSE):
            seen = seen_for(python, call)
        if seen == 0:
            return False
        sizes = simd.load_i64(seen + SEEN_SIZES)
    elif not fit_bound(python, call, shares):
        return False
    total = np.int64(0)
    for index in range(inputs):
        total += simd.load_i64(sizes + 8 * index)
    if total > MOST_BYTES:
        return False
    if seen != 0:
        change(python, call, seen)
    bound = simd.load_i64(call + BOUND)
    for index in range(inputs):
        array = simd.load_i64(slots + 8 * index)
        if array != 0:
            target = simd.load_i64(ask(python, LIST_ITEM, bound, index) + DATA)
            source, size = simd.load_i64(array + DATA), simd.load_i64(sizes + 8 * index)
            if source != target:
                interpreter.invoke(simd.load_i64(python + MOVE_MEMORY), target, source, size, 0)
    return True

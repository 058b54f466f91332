"""Recurrent layers: LSTM, GRU and simple ones, all steps of time in one kernel.

What the inputs contribute to the gates is a matrix product over the whole sequence, done before: `projection`. Each
step then multiplies the state by the recurrent weights, by register tiles, and applies the gates while the products are
in the first-level cache. Steps depend on each other, so threads share directions and groups of `rows` sequences.

In memory that the kernel has to itself, and in the projection, a gate's units fill whole vectors (`blocks` of them);
weights are zero for units that do not exist. Gates follow each other in ONNX's order: i, o, f, c; z, r, h.

A sequence may be shorter than the others: its state then stays, and its results are zeros, as is the state of one
without steps. Backwards it begins with its own last step.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, factory, inline, kernel, lazy, made, record
from cpuruntime.ops.functions.activations import ACTIVATIONS

once = lazy("cpuruntime.compiler.once")
simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4

# Sequences, directions and steps have byte strides of their own; a stride of the same kind serves all states. Addresses
# of states and results may be 0: zeros to start with, nothing to write. Directions from `reversed` on go backwards.
# `lengths` (int32, one for each sequence) and `peepholes` (those of the gates i, o and f) may be 0, too; a length out
# of range sets the int64 at `fault`. What goes into an activation of a gate is limited to -clip .. clip.
ARGUMENTS = record(
    "projection projection_time projection_batch projection_direction "
    "weights weights_direction reset_weights bias bias_direction initial_hidden initial_cell last_hidden last_cell "
    "state_direction state_batch target target_time target_direction target_batch "
    "peepholes peepholes_direction lengths fault steps batch directions reversed units blocks scratch scratch_size",
    clip="f4",
)  # fmt: skip

# By cell: gates, and those of them that the first product of a step makes.
GATES = {"LSTM": (4, 4), "GRU": (3, 2), "GRU reset after": (3, 3), "RNN": (1, 1)}

CellActivation = tuple[str, float, float]
"""An activation's name in ACTIVATIONS and its parameters."""


def scratch_bytes(cell: str, blocks: int, rows: int) -> int:
    """Memory for each group of sequences: hidden state, cell state or reset state, gates; the lengths, 8 bytes each."""
    return rows * ((2 + GATES[cell][0]) * blocks * VECTOR_BYTES + VECTOR_BYTES)


def items(directions: int, batch: int, rows: int) -> int:
    """Groups of sequences, each with its direction."""
    return directions * -(-batch // rows)


@inline
def _tail(a, j):
    """Units in block j."""
    return min(LANES, a.units - j * LANES)


@inline
def _start(a, given, state):
    """A state before the first step: what lies at `given`, or zeros."""
    for j in range(a.blocks):
        value = simd.load_first(given + j * VECTOR_BYTES, _tail(a, j)) if given != 0 else simd.broadcast(0.0)
        simd.store(state + j * VECTOR_BYTES, value)


@inline
def _finish(a, state, target):
    for j in range(a.blocks):
        simd.store_first(target + j * VECTOR_BYTES, simd.load(state + j * VECTOR_BYTES), _tail(a, j))


def _activation(name: str, alpha: float, beta: float) -> Inline:
    function = ACTIVATIONS[name].function
    return inline(lambda x: function(x, simd.broadcast(alpha), simd.broadcast(beta)))


# The function of a cell, state(x, g, size, hidden, cell, peepholes, clip), returns a vector of the new hidden state. x
# and g are addresses of the first gate's vectors in projection and products; those of the next gate are `size` bytes
# further.


@inline
def _limited(x, clip):
    return simd.minimum(clip, simd.maximum(0.0 - clip, x))


@inline
def _sum(x, g, clip):
    return _limited(simd.load(x) + simd.load(g), clip)


@inline
def _peeped(x, g, cell, peephole, offset, clip):
    """The sum of a gate, and a share of the cell's state where there are peepholes."""
    total = simd.load(x) + simd.load(g)
    if peephole != 0:
        total = total + cell * simd.load(peephole + offset)
    return _limited(total, clip)


def _lstm(gate: Inline, candidate: Inline, output: Inline) -> Inline:
    @inline
    def state(x, g, size, hidden, cell, peepholes, clip):
        old = simd.load(cell)
        enter = gate(_peeped(x, g, old, peepholes, 0, clip))
        kept = gate(_peeped(x + 2 * size, g + 2 * size, old, peepholes, 2 * size, clip)) * old
        new = kept + enter * candidate(_sum(x + 3 * size, g + 3 * size, clip))
        simd.store(cell, new)
        return gate(_peeped(x + size, g + size, new, peepholes, size, clip)) * output(new)

    return state


def _gru(gate: Inline, candidate: Inline, reset_after: bool = False) -> Inline:
    """Without `reset_after` the third gate's product is of the reset state already."""

    @inline
    def state(x, g, size, hidden, cell, peepholes, clip):
        update, product = gate(_sum(x, g, clip)), simd.load(g + 2 * size)
        if reset_after:
            product = gate(_sum(x + size, g + size, clip)) * product
        new = candidate(_limited(simd.load(x + 2 * size) + product, clip))
        return new + update * (simd.load(hidden) - new)

    return state


def _rnn(activation: Inline) -> Inline:
    return inline(lambda x, g, size, hidden, cell, peepholes, clip: activation(_sum(x, g, clip)))


_STATES = {"LSTM": _lstm, "GRU": _gru, "GRU reset after": partial(_gru, reset_after=True), "RNN": _rnn}


def _step(state: Inline) -> Inline:
    @inline
    def step(a, projection, gates, hidden, cell, target, peepholes):
        size, clip = a.blocks * VECTOR_BYTES, simd.broadcast(a.clip)
        for at in range(0, size, VECTOR_BYTES):
            peephole = peepholes + at if peepholes != 0 else 0
            value = state(projection + at, gates + at, size, hidden + at, cell + at, peephole, clip)
            simd.store(hidden + at, value)
            if target != 0:
                simd.store_first(target + at, value, _tail(a, at // VECTOR_BYTES))

    return step


@inline
def _clear(a, target):
    for j in range(a.blocks):
        simd.store_first(target + j * VECTOR_BYTES, simd.broadcast(0.0), _tail(a, j))


@inline
def _length(a, sequence):
    """The steps of a sequence."""
    if a.lengths == 0:
        return a.steps
    length = np.int64(once.load_i32(a.lengths + 4 * sequence))
    if length < 0 or length > a.steps:
        simd.store_i64(a.fault, 1)
        return 0
    return length


def _reset(gate: Inline) -> Inline:
    @inline
    def reset(a, projection, gates, hidden, state):
        size, clip = a.blocks * VECTOR_BYTES, simd.broadcast(a.clip)
        for at in range(0, size, VECTOR_BYTES):
            factor = gate(_sum(projection + size + at, gates + size + at, clip))
            simd.store(state + at, factor * simd.load(hidden + at))

    return reset


def _product(rows: int, columns: int) -> Inline:
    tile = made("cpuruntime.ops.tiles.register_tile", "make_tile", rows, columns, UNROLL, None, False)

    @inline
    def product(a, index, groups, state, weights, bias, target, target_row, vectors):
        """`vectors` vectors of state @ weights + bias for each sequence of `groups` groups.

        Every other step goes through the weights backwards, to begin with those that the cache still holds.
        """
        inner = (a.units + UNROLL - 1) // UNROLL * UNROLL
        tiles = (vectors + columns - 1) // columns
        for i in range(tiles):
            t = tiles - 1 - i if index % 2 == 1 else i
            first = min(t * columns, vectors - columns) * VECTOR_BYTES
            for group in range(groups):
                at = group * a.scratch_size
                tile(
                    state + at, a.blocks * VECTOR_BYTES, weights + t * inner * columns * VECTOR_BYTES, 0,
                    (1, 1, 1, inner // UNROLL, 0, 0, 0, 0, 0, 0, 0),
                    (target + at + first, VECTOR_BYTES, target_row, 0, 0, 0, bias + first, 0, LANES),
                )  # fmt: skip

    return product


@cache
@factory
def recurrent(cell: str, activations: tuple[CellActivation, ...], rows: int, columns: int) -> Kernel:
    """The kernel of a cell in `GATES`, for groups of `rows` sequences (at most as many as there are).

    Weights lie [tile][units, up to a multiple of UNROLL][columns][LANES] over the vectors of all gates, the last tile
    moved left until it ends with the last vector; `columns` may not exceed the vectors of any product. The third gate
    of "GRU" has `reset_weights` of its own, both moved by `weights_direction`. `bias` holds what is added to the
    products. `scratch` has `scratch_size` bytes for each group of sequences and direction.
    """
    gates, first_gates = GATES[cell]
    functions = [_activation(*chosen) for chosen in activations]
    product, step, reset = _product(rows, columns), _step(_STATES[cell](*functions)), _reset(functions[0])
    resets, has_cell = cell == "GRU", cell == "LSTM"
    spelled = "_".join(f"{name}{alpha:g}:{beta:g}" for name, alpha, beta in activations)

    lengths = rows * (2 + gates)  # vectors before the lengths, for each block

    @inline
    def locate(a, first, row):
        """The sequence of a row, the offset of its group's memory, its number in the group."""
        group, number = row // rows, row % rows
        return min((first + group) * rows, a.batch - rows) + number, group * a.scratch_size, number

    @inline
    def states(a, direction, first, groups, memory, finished):
        """Sets the states of `groups` groups from group `first` on, or writes them when they are `finished`."""
        for row in range(groups * rows):
            sequence, own, number = locate(a, first, row)
            place = direction * a.state_direction + sequence * a.state_batch
            hidden = memory + own + number * a.blocks * VECTOR_BYTES
            cells = hidden + rows * a.blocks * VECTOR_BYTES
            if not finished:
                length = _length(a, sequence)
                simd.store_i64(memory + own + lengths * a.blocks * VECTOR_BYTES + 8 * number, length)
                _start(a, a.initial_hidden + place if a.initial_hidden != 0 and length > 0 else 0, hidden)
                if has_cell:
                    _start(a, a.initial_cell + place if a.initial_cell != 0 and length > 0 else 0, cells)
            else:
                if a.last_hidden != 0:
                    _finish(a, hidden, a.last_hidden + place)
                if has_cell and a.last_cell != 0:
                    _finish(a, cells, a.last_cell + place)

    @inline
    def moment(a, index, direction, memory, number):
        """The place in time of step `index`; behind the end of a sequence that is its number."""
        length = simd.load_i64(memory + lengths * a.blocks * VECTOR_BYTES + 8 * number)
        return length - 1 - index if direction >= a.reversed and index < length else index

    @inline
    def advance(a, index, direction, first, groups, memory):
        """One step of time."""
        size = a.blocks * VECTOR_BYTES
        cells, results = memory + rows * size, memory + 2 * rows * size
        weights, bias = a.weights + direction * a.weights_direction, a.bias + direction * a.bias_direction
        product(a, index, groups, memory, weights, bias, results, gates * size, first_gates * a.blocks)
        projection = a.projection + direction * a.projection_direction
        target, peepholes = a.target + direction * a.target_direction, 0
        if a.peepholes != 0:
            peepholes = a.peepholes + direction * a.peepholes_direction
        if resets:
            for row in range(groups * rows):
                sequence, own, number = locate(a, first, row)
                time, at = moment(a, index, direction, memory + own, number), number * size
                here = projection + sequence * a.projection_batch + time * a.projection_time
                reset(a, here, results + own + gates * at, memory + own + at, cells + own + at)
            second = a.reset_weights + direction * a.weights_direction
            product(a, index, groups, cells, second, bias + 2 * size, results + 2 * size, gates * size, a.blocks)
        for row in range(groups * rows):
            sequence, own, number = locate(a, first, row)
            time, at = moment(a, index, direction, memory + own, number), number * size
            here = projection + sequence * a.projection_batch + time * a.projection_time
            place = target + sequence * a.target_batch + time * a.target_time if a.target != 0 else 0
            if index < simd.load_i64(memory + own + lengths * size + 8 * number):
                step(a, here, results + own + gates * at, memory + own + at, cells + own + at, place, peepholes)
            elif place != 0:
                _clear(a, place)

    @kernel(ARGUMENTS, name=f"recurrent_f32_{LANES}_{cell}_{spelled}_{rows}x{columns}", tile=(rows, columns))
    def run(a, thread, threads):
        each = (a.batch + rows - 1) // rows
        total = a.directions * each
        item, last = total * thread // threads, total * (thread + 1) // threads
        while item < last:
            direction, first = item // each, item % each
            groups = min(each - first, last - item)
            memory = a.scratch + item * a.scratch_size
            states(a, direction, first, groups, memory, False)
            for index in range(a.steps):
                advance(a, index, direction, first, groups, memory)
            states(a, direction, first, groups, memory, True)
            item += groups

    return run

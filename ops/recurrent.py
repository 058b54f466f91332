"""Recurrent layers: LSTM, GRU and simple ones, all steps of time in one kernel.

What the inputs contribute to the gates is a matrix product over the whole sequence, done before: `projection`. Each
step then multiplies the state by the recurrent weights, by register tiles, and applies the gates while the products are
in the first-level cache. Steps depend on each other, so threads share directions and groups of `rows` sequences.

In memory that the kernel has to itself, and in the projection, a gate's units fill whole vectors (`blocks` of them);
weights are zero for units that do not exist. Gates follow each other in ONNX's order: i, o, f, c; z, r, h.
"""

from __future__ import annotations

from functools import cache

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.kernel import Inline, Kernel, inline, kernel, lazy, made, record
from cpuruntime.ops.functions.activations import ACTIVATIONS

simd = lazy("cpuruntime.compiler.simd")

UNROLL = 4

# Sequences, directions and steps have byte strides of their own; a stride of the same kind serves all states. Addresses
# of states and results may be 0: zeros to start with, nothing to write. Directions from `reversed` on go backwards.
ARGUMENTS = record(
    projection="i8", projection_time="i8", projection_batch="i8", projection_direction="i8",
    weights="i8", weights_direction="i8", reset_weights="i8", bias="i8", bias_direction="i8",
    initial_hidden="i8", initial_cell="i8", last_hidden="i8", last_cell="i8",
    state_direction="i8", state_batch="i8",
    target="i8", target_time="i8", target_direction="i8", target_batch="i8",
    steps="i8", batch="i8", directions="i8", reversed="i8", units="i8", blocks="i8",
    scratch="i8", scratch_size="i8",
)  # fmt: skip

# By cell: gates, and those of them that the first product of a step makes.
GATES = {"LSTM": (4, 4), "GRU": (3, 2), "GRU reset after": (3, 3), "RNN": (1, 1)}

CellActivation = tuple[str, float, float]
"""An activation's name in ACTIVATIONS and its parameters."""


def scratch_bytes(cell: str, blocks: int, rows: int) -> int:
    """Memory for each group of sequences: hidden state, cell state or reset state, gates."""
    return rows * (2 + GATES[cell][0]) * blocks * VECTOR_BYTES


def items(directions: int, batch: int, rows: int) -> int:
    """Groups of sequences, each with its direction."""
    return directions * -(-batch // rows)


@inline
def _tail(a, j):
    """Units in block j."""
    return min(LANES, a.units - j * LANES)


@inline
def _start(a, given, state):
    """One sequence's state before the first step."""
    for j in range(a.blocks):
        value = simd.broadcast(0.0)
        if given != 0:
            value = simd.load_first(given + j * VECTOR_BYTES, _tail(a, j))
        simd.store(state + j * VECTOR_BYTES, value)


@inline
def _finish(a, state, target):
    for j in range(a.blocks):
        simd.store_first(target + j * VECTOR_BYTES, simd.load(state + j * VECTOR_BYTES), _tail(a, j))


def _activation(chosen: CellActivation) -> Inline:
    name, alpha, beta = chosen
    function = ACTIVATIONS[name].function

    @inline
    def apply(x):
        return function(x, simd.broadcast(alpha), simd.broadcast(beta))

    return apply


def _lstm(activations: tuple[CellActivation, ...]) -> Inline:
    gate, candidate, output = (_activation(chosen) for chosen in activations)

    @inline
    def step(a, projection, gates, hidden, cell, target):
        size = a.blocks * VECTOR_BYTES
        for j in range(a.blocks):
            x, g, at = projection + j * VECTOR_BYTES, gates + j * VECTOR_BYTES, j * VECTOR_BYTES
            enter = gate(simd.load(x) + simd.load(g))
            leave = gate(simd.load(x + size) + simd.load(g + size))
            keep = gate(simd.load(x + 2 * size) + simd.load(g + 2 * size))
            new = candidate(simd.load(x + 3 * size) + simd.load(g + 3 * size))
            state = keep * simd.load(cell + at) + enter * new
            value = leave * output(state)
            simd.store(cell + at, state)
            simd.store(hidden + at, value)
            if target != 0:
                simd.store_first(target + at, value, _tail(a, j))

    return step


def _gru_reset_after(activations: tuple[CellActivation, ...]) -> Inline:
    gate, candidate = (_activation(chosen) for chosen in activations)

    @inline
    def step(a, projection, gates, hidden, cell, target):
        size = a.blocks * VECTOR_BYTES
        for j in range(a.blocks):
            x, g, at = projection + j * VECTOR_BYTES, gates + j * VECTOR_BYTES, j * VECTOR_BYTES
            update = gate(simd.load(x) + simd.load(g))
            reset = gate(simd.load(x + size) + simd.load(g + size))
            new = candidate(simd.load(x + 2 * size) + reset * simd.load(g + 2 * size))
            value = new + update * (simd.load(hidden + at) - new)
            simd.store(hidden + at, value)
            if target != 0:
                simd.store_first(target + at, value, _tail(a, j))

    return step


def _gru(activations: tuple[CellActivation, ...]) -> Inline:
    """The second half of a step, where the third gate's product is of the reset state."""
    gate, candidate = (_activation(chosen) for chosen in activations)

    @inline
    def step(a, projection, gates, hidden, cell, target):
        size = a.blocks * VECTOR_BYTES
        for j in range(a.blocks):
            x, g, at = projection + j * VECTOR_BYTES, gates + j * VECTOR_BYTES, j * VECTOR_BYTES
            update = gate(simd.load(x) + simd.load(g))
            new = candidate(simd.load(x + 2 * size) + simd.load(g + 2 * size))
            value = new + update * (simd.load(hidden + at) - new)
            simd.store(hidden + at, value)
            if target != 0:
                simd.store_first(target + at, value, _tail(a, j))

    return step


def _reset(activations: tuple[CellActivation, ...]) -> Inline:
    gate = _activation(activations[0])

    @inline
    def reset(a, projection, gates, hidden, state):
        size = a.blocks * VECTOR_BYTES
        for at in range(0, size, VECTOR_BYTES):
            factor = gate(simd.load(projection + size + at) + simd.load(gates + size + at))
            simd.store(state + at, factor * simd.load(hidden + at))

    return reset


def _rnn(activations: tuple[CellActivation, ...]) -> Inline:
    activation = _activation(activations[0])

    @inline
    def step(a, projection, gates, hidden, cell, target):
        for j in range(a.blocks):
            at = j * VECTOR_BYTES
            value = activation(simd.load(projection + at) + simd.load(gates + at))
            simd.store(hidden + at, value)
            if target != 0:
                simd.store_first(target + at, value, _tail(a, j))

    return step


_STEPS = {"LSTM": _lstm, "GRU": _gru, "GRU reset after": _gru_reset_after, "RNN": _rnn}


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
def recurrent(cell: str, activations: tuple[CellActivation, ...], rows: int, columns: int) -> Kernel:
    """The kernel of a cell in `GATES`, for groups of `rows` sequences (at most as many as there are).

    Weights lie [tile][units, up to a multiple of UNROLL][columns][LANES] over the vectors of all gates, the last tile
    moved left until it ends with the last vector; `columns` may not exceed the vectors of any product. The third gate
    of "GRU" has `reset_weights` of its own, both moved by `weights_direction`. `bias` holds what is added to the
    products. `scratch` has `scratch_size` bytes for each group of sequences and direction.
    """
    gates, first_gates = GATES[cell]
    product, step = _product(rows, columns), _STEPS[cell](activations)
    reset, resets, has_cell = _reset(activations), cell == "GRU", cell == "LSTM"
    spelled = "_".join(f"{name}{alpha:g}:{beta:g}" for name, alpha, beta in activations)

    @inline
    def begin(a, direction, first, groups, memory):
        """The states of `groups` groups of sequences from group `first` on, before the first step."""
        for row in range(groups * rows):
            sequence = min((first + row // rows) * rows, a.batch - rows) + row % rows
            place = direction * a.state_direction + sequence * a.state_batch
            hidden = memory + row // rows * a.scratch_size + row % rows * a.blocks * VECTOR_BYTES
            _start(a, a.initial_hidden + place if a.initial_hidden != 0 else 0, hidden)
            if has_cell:
                cells = hidden + rows * a.blocks * VECTOR_BYTES
                _start(a, a.initial_cell + place if a.initial_cell != 0 else 0, cells)

    @inline
    def end(a, direction, first, groups, memory):
        for row in range(groups * rows):
            sequence = min((first + row // rows) * rows, a.batch - rows) + row % rows
            place = direction * a.state_direction + sequence * a.state_batch
            hidden = memory + row // rows * a.scratch_size + row % rows * a.blocks * VECTOR_BYTES
            if a.last_hidden != 0:
                _finish(a, hidden, a.last_hidden + place)
            if has_cell and a.last_cell != 0:
                _finish(a, hidden + rows * a.blocks * VECTOR_BYTES, a.last_cell + place)

    @inline
    def advance(a, index, direction, first, groups, memory):
        """One step of time."""
        size = a.blocks * VECTOR_BYTES
        cells, results = memory + rows * size, memory + 2 * rows * size
        weights, bias = a.weights + direction * a.weights_direction, a.bias + direction * a.bias_direction
        product(a, index, groups, memory, weights, bias, results, gates * size, first_gates * a.blocks)
        time = a.steps - 1 - index if direction >= a.reversed else index
        projection = a.projection + direction * a.projection_direction + time * a.projection_time
        target = a.target + direction * a.target_direction + time * a.target_time
        if resets:
            for row in range(groups * rows):
                sequence = min((first + row // rows) * rows, a.batch - rows) + row % rows
                own, at = row // rows * a.scratch_size, row % rows * size
                here = projection + sequence * a.projection_batch
                reset(a, here, results + own + gates * at, memory + own + at, cells + own + at)
            second = a.reset_weights + direction * a.weights_direction
            product(a, index, groups, cells, second, bias + 2 * size, results + 2 * size, gates * size, a.blocks)
        for row in range(groups * rows):
            sequence = min((first + row // rows) * rows, a.batch - rows) + row % rows
            own, at = row // rows * a.scratch_size, row % rows * size
            here = projection + sequence * a.projection_batch
            place = target + sequence * a.target_batch if a.target != 0 else 0
            step(a, here, results + own + gates * at, memory + own + at, cells + own + at, place)

    @kernel(ARGUMENTS, name=f"recurrent_f32_{LANES}_{cell}_{spelled}_{rows}x{columns}", tile=(rows, columns))
    def run(a, thread, threads):
        each = (a.batch + rows - 1) // rows
        total = a.directions * each
        item, last = total * thread // threads, total * (thread + 1) // threads
        while item < last:
            direction, first = item // each, item % each
            groups = min(each - first, last - item)
            memory = a.scratch + item * a.scratch_size
            begin(a, direction, first, groups, memory)
            for index in range(a.steps):
                advance(a, index, direction, first, groups, memory)
            end(a, direction, first, groups, memory)
            item += groups

    return run

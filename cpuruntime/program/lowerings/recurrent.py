"""LSTM, GRU and RNN: one matrix product for all inputs, then one step for all of time.

Weights that are not constant are packed by steps before these.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.errors import ModelError, printable
from cpuruntime.graph import Node, Type, Value
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.matmul import pack_columns
from cpuruntime.ops.recurrent import GATES, UNROLL, CellActivation, items, recurrent, scratch_bytes
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.convolution.panels import tile_starts
from cpuruntime.program.lowerings.from_shapes import emit_fill
from cpuruntime.program.lowerings.matmul import emit_fully_connected, fully_connected_methods, lower_matmul
from cpuruntime.program.plan.emitter import Emitter
from cpuruntime.program.plan.lowering import Methods, lowering
from cpuruntime.program.plan.packing import COPIES, copy_into
from cpuruntime.program.plan.storage import Address

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
SUPPORTED = {"Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"}
DIRECTIONS = ("forward", "reverse", "bidirectional")


def _cell(node: Node) -> str:
    """The cell's name in GATES."""
    resets_after = node.op_type == "GRU" and node.attributes.get("linear_before_reset", 0)
    return "GRU reset after" if resets_after else node.op_type


def _activations(node: Node) -> tuple[CellActivation, ...] | str:
    """The activations of one direction; a reason when there is no kernel for them."""
    names = node.attributes.get("activations") or list(DEFAULTS[node.op_type])
    names = [next((known for known in SUPPORTED if known.lower() == name.lower()), name) for name in names]
    count = len(DEFAULTS[node.op_type])
    if not set(names) <= SUPPORTED or len(names) % count:
        return f"{node.op_type} has no kernel for the activations {', '.join(names)}"
    given = [list(node.attributes.get(f"activation_{letter}") or ()) for letter in ("alpha", "beta")]
    chosen = []
    for name in names:
        defaults = list(ACTIVATIONS[name].parameters.values())
        numbers = [rest.pop(0) if rest else default for rest, default in zip(given, defaults)]
        chosen.append((name, *(*numbers, 0.0, 0.0)[:2]))
    if any(each != chosen[index % count] for index, each in enumerate(chosen)):
        return f"{node.op_type} has no kernel for other activations backwards than forwards"
    return tuple(chosen[:count])


def _check(node: Node) -> str | None:
    op, attributes = node.op_type, node.attributes
    if attributes.get("input_forget", 0):
        return f"{op} has no kernel for coupled gates"
    chosen = _activations(node)
    if isinstance(chosen, str):
        return chosen
    x = node.require(0)
    if len(x.static_shape) != 3:
        return f"{op} has kernels for inputs of rank 3, not {len(x.static_shape)}"
    if 0 in x.static_shape or attributes.get("hidden_size", 1) < 1:
        return f"{op} has no kernel for empty tensors"
    lengths = node.input(4)
    if lengths is not None and lengths.element_type != Type.i32:
        return f"{op} has kernels for lengths of i32, not {lengths.element_type.get_type_name()}"
    values = [v for i, v in enumerate(node.inputs) if i != 4]
    for value in (*values, *node.outputs):
        if value is not None and value.name and value.element_type != Type.f32:
            return f"{op} has a kernel for f32, not for {value.element_type.get_type_name()}"
    _check_shapes(node)
    return None


def _check_shapes(node: Node) -> None:
    """Raises ModelError when weights, states or results do not have the extents that hidden_size and the input give."""
    x, _, r = (v.static_shape if v is not None else () for v in node.inputs[:3])
    directions = 2 if node.attributes.get("direction", "forward") == "bidirectional" else 1
    gates = GATES[_cell(node)][0]
    units = node.attributes.get("hidden_size", r[-1] if r else 0)
    by_batch = bool(node.attributes.get("layout", 0))
    batch, steps = x[:2] if by_batch else x[1::-1]
    state = (batch, directions, units) if by_batch else (directions, batch, units)
    every = (batch, steps, directions, units) if by_batch else (steps, directions, batch, units)
    wanted = [x, (directions, gates * units, x[2]), (directions, gates * units, units), (directions, 2 * gates * units)]
    wanted += [(batch,), state, state, (directions, 3 * units)]
    for value, shape in (*zip(node.inputs, wanted), *zip(node.outputs, [every, state, state])):
        if value is not None and value.name and value.static_shape != shape:
            raise ModelError(
                f"{node.where}: '{printable(value.name)}' has the shape {list(value.static_shape)}; hidden_size "
                f"{units}, {directions} directions and an input of shape {list(x)} need {list(shape)}."
            )


class Recurrence:
    """The sizes of a recurrent node and its weights, with every gate's units in whole vectors."""

    def __init__(self, node: Node):
        x, w, r = map(node.require, range(3))
        self.node, self.cell = node, _cell(node)
        self.batch_first = bool(node.attributes.get("layout", 0))
        first, second, self.inputs = x.static_shape
        self.batch, self.steps = (first, second) if self.batch_first else (second, first)
        self.directions, _, self.units = r.static_shape
        self.blocks = -(-self.units // LANES)
        self.gates, self.first_gates = GATES[self.cell]
        self.input_weights, self.state_weights, self.bias = w, r, node.input(3)

    @property
    def width(self) -> int:
        """Floats of a gate."""
        return self.blocks * LANES

    @property
    def inner(self) -> int:
        """Rows of the recurrent weights."""
        return -(-self.units // UNROLL) * UNROLL

    def packed_size(self, gates: int, columns: int) -> int:
        """Bytes of the recurrent weights of `gates` gates of one direction."""
        return -(-gates * self.blocks // columns) * self.inner * columns * VECTOR_BYTES

    def pack(self, memory: np.ndarray, weights: np.ndarray, gates: slice, columns: int) -> None:
        """Writes the recurrent weights of some gates of one direction, tile by tile."""
        weights = weights.reshape(-1, self.units, self.units)[gates]
        inner = self.inner
        dense = np.zeros((inner, len(weights), self.width), np.float32)
        copy_into(dense[: self.units, :, : self.units], weights.transpose(2, 0, 1))
        vectors = len(weights) * self.blocks
        dense = dense.reshape(inner, vectors, LANES)
        tiles = memory.view(np.float32).reshape(-1, inner, columns, LANES)
        for tile, first in zip(tiles, tile_starts(vectors, columns)):
            tile[...] = dense[:, first : first + columns]


def _choose_tile(r: Recurrence, threads: int) -> tuple[int, int]:
    """A tile that keeps enough sums going and fits the products; several sequences share what is loaded of weights."""
    most = min(r.batch, max(1, r.batch * r.directions // threads))
    narrowest = r.blocks * (1 if r.cell == "GRU" else r.first_gates)
    shapes = [s for s in tile_shapes() if s[0] <= most and s[1] <= narrowest]
    return max(shapes, key=lambda s: (s[0] * s[1], s[0]))


def _methods(node: Node, exact: bool) -> Methods:
    """Those of the projection."""
    r = Recurrence(node)
    computed = not _are_constant(r.input_weights, r.bias)
    return fully_connected_methods(r.batch * r.steps, r.inputs, r.directions * r.gates * r.width, exact or computed)


@lowering("LSTM", "GRU", "RNN", check=_check, methods=_methods)
def lower_recurrent(emitter: Emitter, node: Node) -> None:
    """Emits the projection of all inputs and the recurrence."""
    r = Recurrence(node)
    rows, columns = _choose_tile(r, emitter.threads)
    input_bias, state_bias = _biases(emitter, r)
    projection = _project(emitter, r, input_bias)
    weights, stride, second = _pack(emitter, r, columns)
    row = r.directions * r.gates * r.width * 4
    batch, steps = r.batch, r.steps
    size = scratch_bytes(r.cell, r.blocks, rows)
    chosen = _activations(node)
    assert not isinstance(chosen, str)
    emitter.emit(
        recurrent(r.cell, chosen, rows, columns), "plain",
        flops=2 * steps * batch * r.directions * r.gates * r.units**2, notes=f"tile {rows}x{columns}",
        projection=projection, projection_direction=r.gates * r.width * 4,
        projection_time=row if r.batch_first else batch * row,
        projection_batch=steps * row if r.batch_first else row,
        weights=weights, weights_direction=stride, reset_weights=weights + second,
        bias=state_bias, bias_direction=r.gates * r.width * 4, **_states(emitter, r), **_limits(emitter, r),
        steps=steps, batch=batch, directions=r.directions, units=r.units, blocks=r.blocks,
        reversed=1 - DIRECTIONS.index(node.attributes.get("direction", "forward")) % 2,
        scratch=Address(emitter.scratch(size * items(r.directions, batch, rows))), scratch_size=size,
    )  # fmt: skip


def _are_constant(*values: Value | None) -> bool:
    return all(value is None or value.constant is not None for value in values)


def _spread(
    emitter: Emitter, r: Recurrence, value: Value, shape: Sequence[int], order: Sequence[int], target: Sequence[int]
) -> Value:
    """The numbers of a value of `shape` with their axes in another order, in zeros of the shape `target`.

    The result, a constant as the value is, has all axes but the first in one.
    """
    name, flat = f"{r.node.name}/{value.name}", (target[0], prod(target[1:]))
    if value.constant is not None:
        array = np.zeros(target, np.float32)
        part = value.data.reshape(shape).transpose(order)
        copy_into(array[tuple(slice(extent) for extent in part.shape)], part)
        return Value.of(name, array.reshape(flat))
    result = Value(name, Type.f32, flat)
    view = emitter.new_plain(result)
    emit_fill(emitter, view, np.zeros(1, np.float32))
    sources, targets = ([4 * prod(extents[axis + 1 :]) for axis in range(len(extents))] for extents in (shape, target))
    emitter.copy(
        emitter.plain(value).address, view.address, [shape[axis] for axis in order], [sources[axis] for axis in order],
        targets, 4,
    )  # fmt: skip
    return result


def _biases(emitter: Emitter, r: Recurrence) -> tuple[Value, Address]:
    """The biases of the projection, and of the products of the state, [directions, gates, width] each."""
    name, size = f"{r.node.name}/projection/bias", r.directions * r.gates * r.width
    if r.bias is None:
        zeros = np.zeros(size, np.float32)
        return Value.of(name, zeros), emitter.constant(zeros)
    both = (2, r.directions, r.gates, r.width)
    spread = _spread(emitter, r, r.bias, (r.directions, 2, r.gates, r.units), (1, 0, 2, 3), both)
    if spread.constant is None:
        first = Value(name, Type.f32, (size,))
        view = emitter.plain(spread)
        emitter.alias_plain(first, view)
        return first, view.address + size * 4
    inputs, states = spread.constant
    if r.cell != "GRU reset after":
        inputs, states = inputs + states, np.zeros_like(states)
    return Value.of(name, inputs), emitter.constant(states)


def _project(emitter: Emitter, r: Recurrence, bias: Value) -> Address:
    """The contribution of all inputs to the gates, [.., directions, gates, width] for each of them."""
    x = r.node.require(0)
    shape, target = (r.directions, r.gates, r.units, r.inputs), (r.inputs, r.directions, r.gates, r.width)
    weights = _spread(emitter, r, r.input_weights, shape, (3, 0, 1, 2), target)
    name = f"{r.node.name}/projection"
    result = Value(name, Type.f32, (*x.static_shape[:2], *bias.static_shape))
    if _are_constant(weights, bias):
        attributes: dict[str, Any] = {"activation": "", "activation_arguments": []}
        node = Node("FullyConnected", name, [x, weights, bias, None], [result], attributes, "cpuruntime", 1)
        emit_fully_connected(emitter, node, emitter.methods[r.node].choice)
    else:
        lower_matmul(emitter, Node("MatMul", name, [x, weights, bias], [result]))
    return emitter.plain(result).address


def _pack(emitter: Emitter, r: Recurrence, columns: int) -> tuple[Address, int, int]:
    """The packed recurrent weights, the bytes of one direction, and where in it those of the reset state begin."""
    first = r.packed_size(r.first_gates, columns)
    second = r.packed_size(r.gates - r.first_gates, columns)
    constant = r.state_weights.constant
    if constant is None:
        return _pack_computed(emitter, r, columns, first, second), first + second, first

    def fill(memory: np.ndarray) -> None:
        for direction, weights in enumerate(constant):
            at = direction * (first + second)
            r.pack(memory[at : at + first], weights, slice(0, r.first_gates), columns)
            if second:
                r.pack(memory[at + first : at + first + second], weights, slice(r.first_gates, None), columns)

    key = (emitter.weights.identity(constant), r.cell, columns)
    return emitter.weights.pack(key, r.directions * (first + second), fill, COPIES), first + second, first


def _pack_computed(emitter: Emitter, r: Recurrence, columns: int, first: int, second: int) -> Address:
    """The same by steps."""
    row = r.gates * r.width
    shape, target = (r.directions, r.gates, r.units, r.units), (r.directions, r.inner, r.gates, r.width)
    source = emitter.plain(_spread(emitter, r, r.state_weights, shape, (0, 3, 1, 2), target)).address
    packed = Address(emitter.scratch(r.directions * (first + second)))
    for gates, begin, offset in ((r.first_gates, 0, 0), (r.gates - r.first_gates, r.first_gates * r.width * 4, first)):
        if gates:
            emitter.emit(
                pack_columns, "plain", source=source + begin, source_batch=r.inner * row * 4, source_row=row * 4,
                source_column=4, target=packed + offset, target_batch=first + second, batch=r.directions,
                inner=r.inner, columns=gates * r.width, tile_columns=columns,
            )  # fmt: skip
    return packed


def _limits(emitter: Emitter, r: Recurrence) -> dict[str, Any]:
    """The fields of lengths, peepholes and clipping."""
    node = r.node
    fields: dict[str, Any] = {"clip": node.attributes.get("clip", 0.0) or np.inf}
    lengths, peepholes = node.input(4), node.input(7)
    if lengths is not None and not _are_whole(lengths, r.steps):
        message = f"{node.where}: a length in '{printable(lengths.name)}' is negative or above the number of steps, "
        fields |= {"lengths": emitter.plain(lengths).address, "fault": emitter.fault(message, r.steps, ".")}
    if peepholes is not None:
        shape, target = (r.directions, 3, r.units), (r.directions, 3, r.width)
        spread = _spread(emitter, r, peepholes, shape, (0, 1, 2), target)
        fields |= {"peepholes": emitter.plain(spread).address, "peepholes_direction": 3 * r.width * 4}
    return fields


def _are_whole(lengths: Value, steps: int) -> bool:
    """Whether all sequences are known to have every step."""
    return lengths.constant is not None and bool((lengths.constant == steps).all())


def _states(emitter: Emitter, r: Recurrence) -> dict[str, Any]:
    """The fields of the states before the first step and after the last, and of every step's hidden state."""
    unit, row = r.units * 4, r.directions * r.units * 4
    direction, batch = (unit, row) if r.batch_first else (r.batch * unit, unit)
    fields: dict[str, Any] = {"state_direction": direction, "state_batch": batch}
    for index, name in ((5, "hidden"), (6, "cell")):
        value = r.node.input(index)
        if value is not None:
            fields[f"initial_{name}"] = emitter.plain(value).address
    for output, name in zip(r.node.outputs, ("target", "last_hidden", "last_cell")):
        if output.name:
            fields[name] = emitter.new_plain(output).address
    if "target" in fields:
        time, batch = (row, r.steps * row) if r.batch_first else (r.batch * row, unit)
        fields |= {"target_time": time, "target_direction": direction, "target_batch": batch}
    return fields

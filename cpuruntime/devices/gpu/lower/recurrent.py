"""LSTM and GRU as compositions: one product for all inputs, then for each step a product and the gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cpuruntime.devices.gpu.kernels.recurrent import gru, lstm
from cpuruntime.devices.gpu.lower.emitter import Emitter, Place
from cpuruntime.devices.gpu.lower.product import emit_product, panels, tile_for
from cpuruntime.devices.gpu.lower.walks import Walk, copy
from cpuruntime.graph import Node

_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def check_recurrent(node: Node) -> str | None:
    """Why an LSTM or GRU has no kernel."""
    of, op = node.attributes, node.op_type
    if any(value is not None and value.constant is None for value in node.inputs[1:4]):
        return f"{op} has kernels for constant weights"
    lengths = node.input(4)
    steps = node.require(0).static_shape[0]
    if lengths is not None and (lengths.constant is None or (np.asarray(lengths.data) != steps).any()):
        return f"{op} has kernels for sequences of full length"
    directions = 2 if of.get("direction", "forward") == "bidirectional" else 1
    functions = [name.capitalize() for name in of.get("activations") or _DEFAULTS[op] * directions]
    if functions != _DEFAULTS[op] * directions or of.get("clip") or of.get("input_forget") or of.get("layout"):
        return f"{op} has kernels for the default functions and layout, without clip and input_forget"
    if node.input(7) is not None or (op == "GRU" and not of.get("linear_before_reset", 0)):
        return f"{op} has no kernel for peepholes, or for a reset before the product"
    return None


@dataclass
class _Run:
    """One direction of a node."""

    emitter: Emitter
    node: Node
    number: int
    directions: int
    gates: int
    target: Place

    def __post_init__(self) -> None:
        self.steps, self.batch, self.width = self.node.require(0).static_shape
        self.hidden = self.node.attributes["hidden_size"]
        self.backwards = self.number == 1 or self.node.attributes.get("direction", "forward") == "reverse"

    @property
    def count(self) -> int:
        """Elements of a state."""
        return self.batch * self.hidden

    def times(self) -> list[int]:
        """The steps in their order."""
        return list(range(self.steps))[:: -1 if self.backwards else 1]

    def begin(self, time: int) -> int:
        """Where the state of a step lies in the target."""
        return (time * self.directions + self.number) * self.count

    def biases(self) -> np.ndarray:
        """[2, gates * hidden]: those of the input and of the state."""
        value = self.node.input(3)
        wide = self.gates * self.hidden
        return np.zeros((2, wide), np.float32) if value is None else value.data[self.number].reshape(2, wide)

    def initial(self, index: int) -> Place:
        """The state before the first step: what an input says, or zeros; f32 or as stored."""
        value = self.node.input(index)
        shape = (self.directions, self.batch, self.hidden)
        if value is None:
            return self.emitter.constant(np.zeros(shape, np.float32), (self.node, "zeros"), "f32")
        return self.emitter.place(value)

    def product(self, a: Place, a_begin: int, weights: int, c: Place, c_begin: int, rows: int, depth: int,
                bias: np.ndarray | None, adds: bool) -> None:  # fmt: skip
        """c = a @ weights^T + bias, added to what is there with `adds`."""
        emitter, wide = self.emitter, self.gates * self.hidden
        tile = tile_for(emitter, "rows", rows, wide, depth)
        value, number = self.node.require(weights), self.number
        packed = not tile.depth

        def make() -> np.ndarray:
            array = np.asarray(value.data)[number].T
            return panels(array, tile.columns) if packed else array

        key = (value, number, "recurrent", tile.columns if packed else 0)
        b = emitter.packed(key, (), emitter.precision, make)
        place = None if bias is None else emitter.constant(bias, (self.node, number, weights, "bias"), "f32")
        sizes = {
            "M": rows, "N": wide, "K": depth, "a_row": depth, "a_step": 1, "c_row": wide, "a_begin": a_begin,
            "b_step": tile.columns if packed else wide, "b_column": 1, "c_begin": c_begin,
        }  # fmt: skip
        emit_product(
            emitter, tile, a, b, c, sizes, bias=place, bias_kind="column", residual=c if adds else None, packed_b=packed
        )  # fmt: skip

    def last(self, output: int, state: Place, begin: int) -> None:
        """Copy a final state to the node's output of that number, where there is one."""
        if len(self.node.outputs) <= output or not self.node.outputs[output].name:
            return
        value = self.node.outputs[output]
        target = self.emitter.lowered.values.get(value) or self.emitter.new(value)
        walk = Walk(target, self.number * self.count, (1,))
        copy(self.emitter, Walk(state, begin, (1,)), walk, (self.count,))


def _directions(emitter: Emitter, node: Node, gates: int, run: Callable[[_Run], None]) -> None:
    """Each direction of a node, which writes its part of all states."""
    directions = node.require(1).static_shape[0]
    steps, batch, _ = node.require(0).static_shape
    output = node.outputs[0]
    shape = (steps, directions, batch, node.attributes["hidden_size"])
    if output.name:
        target = emitter.new(output)
    else:
        target = Place(emitter.scratch(int(np.prod(shape))).buffer, emitter.precision, shape)
    for number in range(directions):
        run(_Run(emitter, node, number, directions, gates, target))


def lower_lstm(emitter: Emitter, node: Node) -> None:
    """LSTM."""
    _directions(emitter, node, 4, _lstm)


def _lstm(run: _Run) -> None:
    emitter, wide = run.emitter, 4 * run.hidden
    gates = emitter.scratch(run.steps * run.batch * wide, "f32")
    x = emitter.place(run.node.require(0))
    run.product(x, 0, 1, gates, 0, run.steps * run.batch, run.width, run.biases().sum(0), adds=False)
    cells = emitter.scratch(run.count, "f32")
    initial = run.initial(6)
    copy(emitter, Walk(initial, run.number * run.count, (1,)), Walk(cells, 0, (1,)), (run.count,))
    state, begin = run.initial(5), run.number * run.count
    kernel = lstm(run.target.element_type)
    for time in run.times():
        at = time * run.batch * wide
        run.product(state, begin, 2, gates, at, run.batch, run.hidden, None, adds=True)
        state, begin = run.target, run.begin(time)
        emitter.each(
            kernel, [gates.buffer, cells.buffer, state.buffer, run.count, run.hidden, at, begin], run.count
        )  # fmt: skip
    run.last(1, state, begin)
    run.last(2, cells, 0)


def lower_gru(emitter: Emitter, node: Node) -> None:
    """GRU whose reset gate applies after the product."""
    _directions(emitter, node, 3, _gru)


def _gru(run: _Run) -> None:
    emitter, wide = run.emitter, 3 * run.hidden
    inputs = emitter.scratch(run.steps * run.batch * wide, "f32")
    gates = emitter.scratch(run.batch * wide, "f32")
    of_input, of_state = run.biases()
    x = emitter.place(run.node.require(0))
    run.product(x, 0, 1, inputs, 0, run.steps * run.batch, run.width, of_input, adds=False)
    state, begin = run.initial(5), run.number * run.count
    for time in run.times():
        run.product(state, begin, 2, gates, 0, run.batch, run.hidden, of_state, adds=False)
        kernel = gru(state.element_type, run.target.element_type)
        after = run.begin(time)
        buffers = [inputs.buffer, gates.buffer, state.buffer, run.target.buffer]
        sizes = [run.count, run.hidden, time * run.batch * wide, begin, after]
        emitter.each(kernel, [*buffers, *sizes], run.count)
        state, begin = run.target, after
    run.last(1, state, begin)



"""The planner: conversions are made once and only where they are needed, and results go where they are wanted."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Hashable, Sequence
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import onnx
import pytest
from cases import FAMILIES, rows
from cases.case import Case
from support.graphs import Builder
from support.house import ROOT

from cpuruntime import passes
from cpuruntime.compiler.isa import LANES
from cpuruntime.errors import InternalError, UnsupportedError
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.ops.movement import copy_runs
from cpuruntime.passes import operators
from cpuruntime.program import convolution, lowerings
from cpuruntime.program.convolution import direct
from cpuruntime.program.lowerings.catalogue import find_lowering
from cpuruntime.program.plan.candidate import Candidate, Chosen, Query, T, estimated
from cpuruntime.program.plan.lowering import MODULES, TABLE, Lowering, lowering
from cpuruntime.program.plan.planner import Planner
from cpuruntime.program.plan.step import FallbackStep, Step
from cpuruntime.program.plan.storage import Address, Place
from cpuruntime.program.plan.weights import WeightStore
from cpuruntime.program.tuning.trial import TrialWeights

POOL = dict(kernel_shape=[2, 2])


def planned(b: Builder, *outputs: Value) -> Planner:
    planner = Planner(passes.run(b.graph(*outputs)), WeightStore())
    planner.plan()
    return planner


def kernels(planner: Planner) -> list[str]:
    """The steps: conversions and copies by their layouts, others by operator."""
    conversions = ("plain -> blocked", "blocked -> plain", "halo")
    names = []
    for step in planner.steps:
        assert isinstance(step, Step)
        copy = step.kernel.name.startswith("copy")
        names.append(step.layout if step.layout in conversions else "copy" if copy else step.node.op_type)
    return names


def addresses(step: Step | FallbackStep, prefix: str) -> list[Address]:
    """The memory in the arguments whose names begin so."""
    assert isinstance(step, Step)
    return [a for name, a in step.arguments.items() if name.startswith(prefix) and isinstance(a, Address)]


def test_an_input_is_blocked_once_for_all_its_readers() -> None:
    b = Builder()
    x = b.input(1, 20, 5, 5)
    planner = planned(b, b("Max", b("MaxPool", x, **POOL), b("AveragePool", x, **POOL)))
    assert kernels(planner) == ["plain -> blocked", "MaxPool", "AveragePool", "Max", "blocked -> plain"]


def test_a_blocked_value_becomes_plain_once_for_all_its_readers() -> None:
    b = Builder()
    y = b("MaxPool", b.input(1, 20, 5, 5), **POOL)
    planner = planned(b, b("Softmax", y, axis=1), b("Softmax", y, axis=2), y)
    assert kernels(planner) == ["plain -> blocked", "MaxPool", "blocked -> plain", "Softmax", "Softmax"]
    targets = [a.storage for step in planner.steps[2:] for a in addresses(step, "target")]
    assert [(s.place, s.index) for s in targets] == [(Place.OUTPUT, 2), (Place.OUTPUT, 0), (Place.OUTPUT, 1)]


def test_results_are_written_straight_to_the_outputs() -> None:
    b = Builder()
    y = b("Softmax", b.input(3, 4))
    planner = planned(b, b("Neg", y))
    assert kernels(planner) == ["Softmax", "Neg"]
    assert [addresses(step, "target")[0].storage.place for step in planner.steps] == [Place.ARENA, Place.OUTPUT]
    assert addresses(planner.steps[0], "source")[0].storage.place is Place.INPUT


def test_another_shape_of_the_same_memory_takes_no_step() -> None:
    b = Builder()
    y = b("Reshape", b("Softmax", b.input(3, 4)), b.integers(2, 6))
    planner = planned(b, b("Neg", b("Flatten", b("Unsqueeze", y, b.integers(0)))))
    assert kernels(planner) == ["Softmax", "Neg"]


def test_an_output_in_memory_of_its_own_is_copied() -> None:
    b = Builder()
    x = b.input(3, 4)
    y = b("Exp", x)
    planner = planned(b, y, b("Reshape", y, b.integers(12)), b("Identity", x))
    assert kernels(planner) == ["Exp", "copy", "copy"]


@pytest.mark.parametrize(("batch", "channels", "copied"), [(1, 20, False), (2, 2 * LANES, False), (2, LANES + 1, True)])
def test_blocks_of_single_pixels_are_rows_already(batch: int, channels: int, copied: bool) -> None:
    b = Builder()
    y = b("Flatten", b("GlobalAveragePool", b.input(batch, channels, 5, 5)))
    planner = planned(b, b("Softmax", y))
    assert ("blocked -> plain" in kernels(planner)) == copied


def test_parts_of_a_concatenation_are_not_copied() -> None:
    b = Builder()
    x, y = (b("MaxPool", b.input(1, LANES, 5, 5), **POOL) for _ in range(2))
    planner = planned(b, b("AveragePool", b("Concat", x, y, axis=1), **POOL))
    pool = ["plain -> blocked", "MaxPool"]
    assert kernels(planner) == [*pool, *pool, "AveragePool", "blocked -> plain"]
    first, second = (addresses(step, "target")[0] for step in planner.steps[1:4:2])
    assert first.storage is second.storage
    assert second.offset - first.offset == 4 * 4 * 4 * LANES


def test_a_constant_may_be_an_output() -> None:
    b = Builder()
    planner = planned(b, b.weights(2, 3), b("Neg", b.input(2)))
    assert kernels(planner) == ["Neg", "copy"]
    assert addresses(planner.steps[1], "source")[0].storage.place is Place.FIXED


def sums(outputs: int = 0) -> tuple[Graph, list[weakref.ref[np.ndarray]]]:
    """A graph that adds a constant three times, returns the first ones, too, and holds the only references to them."""
    arrays = [np.full(4, number, np.float32) for number in range(3)]
    x = value = Value("x", Type.f32, (3, 4))
    constants = [Value.of(f"c{index}", array) for index, array in enumerate(arrays)]
    nodes = []
    for constant in constants:
        total = Value(f"plus {constant.name}", Type.f32, (3, 4))
        nodes.append(Node("Add", total.name, [value, constant], [total], {}, "", 13))
        value = total
    graph = Graph("sums", [x], [value, *constants[:outputs]], nodes)
    return graph, [weakref.ref(array) for array in arrays]


class Watching(WeightStore):
    """Notes which arrays are in memory whenever one is packed."""

    def __init__(self, arrays: list[weakref.ref[np.ndarray]]) -> None:
        super().__init__()
        self.alive: list[list[bool]] = []
        self._arrays = arrays

    def constant(self, key: Hashable, array: np.ndarray) -> Address:
        self.alive.append([array() is not None for array in self._arrays])
        return super().constant(key, array)


def test_constants_of_a_graph_that_is_used_up_are_released_one_after_the_other() -> None:
    graph, arrays = sums()
    weights = Watching(arrays)
    steps = Planner(graph, weights, owned=True).plan()
    assert weights.alive == [[True, True, True], [False, True, True], [False, False, True]]
    assert [array() for array in arrays] == [None] * 3
    assert len(steps) == len(graph.nodes)


def test_constants_that_are_results_stay_in_a_graph_that_is_used_up() -> None:
    graph, arrays = sums(outputs=1)
    Planner(graph, weights := WeightStore(), owned=True).plan()
    weights.forget_sources()
    assert [array() is not None for array in arrays] == [True, False, False]


def test_planning_leaves_the_callers_graph_as_it_is() -> None:
    graph, arrays = sums()
    before = str(graph)
    first, second = (Planner(graph, WeightStore()).plan() for _ in range(2))
    assert str(graph) == before
    assert [array() is not None for array in arrays] == [True] * 3
    assert [step.node.name for step in first] == [step.node.name for step in second]


def test_steps_keep_no_constants_in_memory() -> None:
    graph, arrays = sums()
    planner = Planner(graph, WeightStore())
    planner.plan()
    del graph
    gc.collect()
    assert [array() for array in arrays] == [None] * 3


def test_a_node_without_a_kernel_falls_back_with_the_reason() -> None:
    b = Builder()
    y = b("RandomNormalLike", b("MaxPool", b.input(2, 3, 5, 5), **POOL))
    planner = planned(b, b("Neg", y))
    (fallback,) = (step for step in planner.steps if isinstance(step, FallbackStep))
    assert fallback.reason == "no kernel for RandomNormalLike"
    assert [view and view.shape for view in (*fallback.inputs, *fallback.outputs)] == [(2, 3, 4, 4)] * 2


def test_shapes_that_depend_on_data_are_refused() -> None:
    x, y = Value("x", Type.f32, (3,)), Value("y", Type.i64, (1, None))
    graph = Graph("g", [x], [y], [Node("NonZero", "find", [x], [y], {}, "", 13)])
    with pytest.raises(UnsupportedError, match=r"NonZero 'find' .*'y' depends on data"):
        Planner(graph, WeightStore()).plan()


def test_strings_are_refused() -> None:
    x, y = Value("x", Type.string, (3,)), Value("y", Type.string, (3,))
    with pytest.raises(UnsupportedError, match="'x' is a tensor of strings"):
        Planner(Graph("g", [x], [y], [Node("Identity", "same", [x], [y], {}, "", 13)]), WeightStore())


def test_an_argument_that_a_kernel_does_not_have_is_an_internal_error() -> None:
    b = Builder()
    planner = Planner(passes.run(b.graph(b("Neg", b.input(3)))), WeightStore())
    planner.plan()
    with pytest.raises(InternalError, match="copy_runs has no argument colour"):
        planner.emit(copy_runs, "plain", colour=3)


class Undecided:
    """A tuner that never answers twice alike: the next candidate each time."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def choose(
        self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: object, threads: int
    ) -> Chosen[T]:
        return estimated(candidates)

    def choose_method(self, node: Node, query: Query, candidates: Sequence[Candidate[T]], emit: object) -> Chosen[T]:
        self.methods.append(node.name)
        return Chosen(candidates[len(self.methods) % len(candidates)].choice)


def test_a_method_is_chosen_once_before_layouts_and_not_on_construction() -> None:
    b = Builder()
    y = b.input(1, 2 * LANES, 13, 13)
    for _ in range(5):
        y = b("Conv", y, b.weights(2 * LANES, 2 * LANES, 3, 3), pads=[1, 1, 1, 1])
    tuner = Undecided()
    graph = passes.run(b.graph(b("Softmax", y)))
    planner = Planner(graph, TrialWeights(), tuner=tuner, owned=True)
    assert tuner.methods == []
    planner.plan()
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    assert tuner.methods == [node.name for node in convolutions]
    chosen = [planner.methods[node].choice for node in convolutions]
    assert len(set(chosen)) > 1
    for node, method in zip(convolutions, chosen):
        (step,) = (s for s in planner.steps if isinstance(s, Step) and s.node is node and s.flops)
        assert step.kernel.name.startswith("convolution" if method is None else "winograd")
        assert planner.layouts.halos[node.require(0)] == direct.halo(node, method)


def node_of(op_type: str, domain: str = "", element_type: Type = Type.f32) -> Node:
    x, y = Value("x", element_type, (1, 4, 5, 5)), Value("y", element_type, (1, 4, 5, 5))
    return Node(op_type, "n", [x], [y], {}, domain, 13)


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, str], Lowering]:
    """All lowerings: each module that may declare some is imported."""
    for package in (convolution, lowerings):
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
    return TABLE


def test_each_lowering_is_found_in_its_module(table: dict[tuple[str, str], Lowering]) -> None:
    """A node imports the module that the catalogue names, and no other."""
    assert {key: entry.emit.__module__ for key, entry in table.items()} == MODULES


def test_a_model_of_convolutions_imports_no_lowerings_of_other_operators() -> None:
    text = "import sys; from cpuruntime.devices.cpu import compiling; names = sys.modules; "
    text += "print(*(name for name in names if name.startswith(('cpuruntime.program.lowerings.', 'cpuruntime.ops.'))))"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "cpuruntime.program.lowerings.elementwise" in found.split()
    unneeded = {"attention", "grid_sample", "indexing", "lookup", "matmul", "recurrent", "reduction", "tree_ensemble"}
    assert not [name for name in found.split() if name.rpartition(".")[2] in unneeded]


def test_every_operator_with_a_lowering_has_a_case(table: dict[tuple[str, str], Lowering]) -> None:
    """tests/kernels/test_cases.py compares each of them with ONNX Runtime, those of sizes test_new_shapes.py.

    ONNX Runtime does not know BitCast and CumProd, which ONNX's own cases judge.
    """
    tested = {case.operator for family in FAMILIES for case in rows(family) if isinstance(case, Case)}
    others = {"BitCast", "ConstantOfShape", "CumProd", "Range"}
    assert not {op_type for domain, op_type in table if not domain} - tested - others


def test_the_table_says_why_a_node_has_no_kernel() -> None:
    assert find_lowering(node_of("Multinomial")) == "no kernel for Multinomial"
    assert find_lowering(node_of("Relu", "elsewhere")) == "no kernel for Relu"
    assert find_lowering(node_of("Sigmoid", element_type=Type.bf16)) == "Sigmoid has no kernel for bf16"
    assert not isinstance(find_lowering(node_of("Relu")), str)


def test_an_operator_is_declared_once() -> None:
    before = dict(TABLE)
    with pytest.raises(AssertionError):
        lowering("Relu")(lambda planner, node: None)
    assert before == TABLE


def test_every_declared_operator_exists(table: dict[tuple[str, str], Lowering]) -> None:
    own = {line.split("|")[1].strip() for line in (operators.__doc__ or "").splitlines() if line.startswith("| ")}
    for domain, op_type in table:
        assert op_type in own if domain == operators.DOMAIN else onnx.defs.has(op_type, domain)
    assert own - {"operator"} <= {op_type for domain, op_type in table if domain == operators.DOMAIN}

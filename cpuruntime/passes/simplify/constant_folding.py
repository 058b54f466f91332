"""Computes what does not depend on the inputs of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

import numpy as np

from cpuruntime.errors import UnsupportedError
from cpuruntime.graph import Deferred, Graph, Node, Type
from cpuruntime.operators.evaluation_work import evaluation_work
from cpuruntime.operators.shape_inference import evaluate, infer_shapes
from cpuruntime.operators.traits import Folded, traits_of
from cpuruntime.passes.editor import Editor

# A result larger than this is computed at run time, unless it is no larger than its inputs.
LARGEST_RESULT = 64 << 20
# A constant of one repeated element takes no memory at any size; no more than these bytes of it are read.
LARGEST_VIEW = 1 << 30
# All results of a graph together: nanoseconds of work, estimated, and bytes; and more for each byte of its constants.
WORK, WORK_A_BYTE = 2_000_000_000, 50
RESULTS, RESULTS_A_BYTE = 256 << 20, 4


def run(graph: Graph) -> bool:
    """Replace the results of nodes that read only constants, and the shapes of values with static shapes.

    Nodes that would exceed the budget of the graph stay. What is replaced does not depend on the machine.
    """
    budget = Budget(graph)
    with np.errstate(all="ignore"):
        changed = again = _fold(graph, budget)
        while again and any(not value.is_static for node in graph.nodes for value in node.outputs if value.name):
            infer_shapes(graph)
            again = _fold(graph, budget)
    return changed


class Budget:
    """What may still be computed for a graph: it grows with the bytes of its constants."""

    def __init__(self, graph: Graph) -> None:
        held = sum(_bytes_held(value.data) for value in graph.constants())
        self.work = WORK + WORK_A_BYTE * held
        self.results = RESULTS + RESULTS_A_BYTE * held

    def allows(self, node: Node) -> bool:
        """Whether the node may be computed; if so, its estimated work is spent."""
        work = evaluation_work(node)
        made = sum(value.nbytes for value in node.outputs if value.name and value.is_static)
        if work > self.work or made > self.results:
            return False
        self.work -= work
        return True

    def spend(self, arrays: Iterable[np.ndarray]) -> None:
        """Spends the bytes of results."""
        self.results -= sum(map(_bytes_held, arrays))


def _bytes_held(array: np.ndarray) -> int:
    return array.itemsize if not isinstance(array, Deferred) and 0 in array.strides else array.nbytes


def _fold(graph: Graph, budget: Budget) -> bool:
    editor = Editor(graph)
    for node in editor.nodes():
        if all(value.sizes is not None for value in node.outputs):
            editor.remove(node)
            for value in node.outputs:
                editor.become_sizes(value)
            continue
        results = constant_results(node, budget)
        if results is not None:
            editor.fold(node, results)
    return editor.finish()


def constant_results(node: Node, budget: Budget) -> list[np.ndarray] | None:
    """What `node` always computes; None when that is not known or better left to the run."""
    if node.domain != "":
        return None
    known = _SHAPES.get(node.op_type)
    array = None if known is None else known(node)
    if array is not None:
        return [array]
    if any(value is not None and value.constant is None for value in node.inputs):
        return None
    if traits_of(node).folded is Folded.NEVER or _is_too_large(node) or node.bodies:
        return None
    arrays = [None if value is None else value.constant for value in node.inputs]
    results = _compute(node, arrays, budget)
    if results is None or len(results) != len(node.outputs):
        return None
    agree = (value.element_type.compatible(Type(array.dtype)) for value, array in zip(node.outputs, results))
    return results if all(agree) else None


def _is_too_large(node: Node) -> bool:
    if node.op_type == "ConstantOfShape":
        return False
    if any(not value.is_static for value in node.outputs if value.name):
        return traits_of(node).grows
    made = sum(value.nbytes for value in node.outputs if value.name)
    return made > LARGEST_RESULT and made > sum(value.nbytes for value in node.inputs if value is not None)


def _compute(node: Node, arrays: list[np.ndarray | None], budget: Budget) -> list[np.ndarray] | None:
    view = _VIEWS.get(node.op_type)
    array = None if view is None else view(node, arrays)
    if array is not None:
        return [array]
    repeated = any(a is not None and a.nbytes > LARGEST_VIEW and 0 in a.strides for a in arrays)
    if repeated or not budget.allows(node):
        return None
    try:
        results = [np.asarray(result) for result in evaluate(node, arrays)]
    except UnsupportedError:
        return None
    budget.spend(results)
    return results


def _shape(node: Node) -> np.ndarray | None:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    part = value.shape[slice(node.attributes.get("start"), node.attributes.get("end"))]
    return np.array(part, np.int64) if all(isinstance(extent, int) for extent in part) else None


def _size(node: Node) -> np.ndarray | None:
    value = node.inputs[0]
    if value is None or value.shape is None or not all(isinstance(extent, int) for extent in value.shape):
        return None
    return np.array(prod(value.static_shape), np.int64)


def _constant_of_shape(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    """A read-only view of one element: models without their weights fold in no time and no memory."""
    value, shape = node.attributes.get("value", np.zeros(1, np.float32)), arrays[0]
    if value.size != 1 or (shape < 0).any():
        return None
    return np.broadcast_to(value.reshape(()), tuple(shape.tolist()))


def _view(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    output = node.outputs[0]
    fits = output.is_static and prod(output.static_shape) == arrays[0].size
    return arrays[0].reshape(output.static_shape) if fits else None


def _transpose(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    perm = node.attributes.get("perm")
    fits = perm is None or sorted(perm) == list(range(arrays[0].ndim))
    return np.transpose(arrays[0], perm) if fits else None


_SHAPES: dict[str, Callable[[Node], np.ndarray | None]] = {"Shape": _shape, "Size": _size}

# Results that are views; a function gives None for nodes that it leaves to the evaluator, wrong ones among them.
_VIEWS: dict[str, Callable[[Node, list[np.ndarray | None]], np.ndarray | None]] = {
    "ConstantOfShape": _constant_of_shape,
    "Flatten": _view,
    "Reshape": _view,
    "Transpose": _transpose,
}

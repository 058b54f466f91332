"""The executed graph: the steps of a compiled model as nodes, with how each is run as notes."""

from __future__ import annotations

from typing import Any

from cpuruntime.api.model import Model
from cpuruntime.devices.explanation import Explanation, Row
from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.records import record

DOMAIN = "cpuruntime.runtime"
"""Of the operators of executed graphs."""

_Described = tuple[str, Type, "tuple[int | None, ...] | None"]


@record
class Outline:
    """The names of a graph's nodes and values, with no constants, so that it keeps no memory.

    Attributes:
        nodes: of each node its name, the names it reads, and the values it makes.
    """

    name: str
    inputs: tuple[_Described, ...]
    outputs: tuple[_Described, ...]
    nodes: tuple[tuple[str, tuple[str, ...], tuple[_Described, ...]], ...]

    @staticmethod
    def of(graph: Graph) -> Outline:
        """The outline of a graph."""
        nodes = tuple(
            (n.name, tuple(v.name for v in n.inputs if v is not None), tuple(map(_described, n.outputs)))
            for n in graph.nodes
        )
        return Outline(graph.name, tuple(map(_described, graph.inputs)), tuple(map(_described, graph.outputs)), nodes)


def _described(value: Value) -> _Described:
    return value.name, value.element_type, value.shape


def runtime_model(outline: Outline, explanation: Explanation) -> Model:
    """The steps that `explain` lists, each a node that reads and makes what the model's nodes do that it stands for."""
    by_name = {name: (read, made) for name, read, made in outline.nodes}
    values = {name: Value(name, kind, shape) for name, kind, shape in outline.inputs}
    steps: list[Node] = []
    notes: dict[str, dict[str, Any]] = {}
    readers: dict[str, set[str]] = {name: {""} for name, _, _ in outline.outputs}
    for name, read, _ in outline.nodes:
        for one in read:
            readers.setdefault(one, set()).add(name)
    for order, row in enumerate(explanation.rows):
        group = [by_name[origin] for origin in row.nodes if origin in by_name]
        made = {one[0]: one for _, outputs in group for one in outputs if one[0]}
        left = [one for name, one in made.items() if readers.get(name, set()) - set(row.nodes)]
        reads = [name for name in dict.fromkeys(one for read, _ in group for one in read) if name not in made]
        inputs = [values.setdefault(name, Value(name)) for name in reads]
        outputs = []
        for name, kind, shape in left or list(made.values()):
            earlier = values.get(name)
            if earlier is not None and earlier.producer is not None:  # an earlier step stands for the same node
                earlier.name = f"{name}/{order}"
                inputs.append(earlier)
            values[name] = Value(name, kind, shape)
            outputs.append(values[name])
        step = Node(row.op_type, _unique(row, notes, order), inputs, outputs, domain=DOMAIN, version=1)
        steps.append(step)
        notes[step.name] = _notes(row, order, outputs)
    results = [values.get(name) or Value(name, kind, shape) for name, kind, shape in outline.outputs]
    inputs = [values[name] for name, _, _ in outline.inputs]
    model = Model(Graph(outline.name, inputs, results, steps, {DOMAIN: 1}))
    for node in model.get_ordered_ops():
        node.rt_info.update(notes.get(node.friendly_name, {}))
    return model


def _unique(row: Row, taken: dict[str, Any], order: int) -> str:
    name = row.nodes[-1] if row.nodes else row.op_type
    return f"{name}/{order}" if name in taken else name


def _notes(row: Row, order: int, outputs: list[Value]) -> dict[str, str]:
    types = [value.element_type.type_name for value in outputs]
    return {
        "execOrder": str(order),
        "execTimeMcs": "not_executed" if row.microseconds is None else str(round(row.microseconds)),
        "layerType": row.op_type,
        "originalLayersNames": ",".join(row.nodes),
        "outputLayouts": row.layout,
        "outputPrecisions": ",".join(types),
        "primitiveType": row.kernel,
        "runtimePrecision": row.precision or (types[0] if types else ""),
    }

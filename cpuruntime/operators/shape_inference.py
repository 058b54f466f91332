"""Element types and shapes of all values of a graph, from those of its inputs.

ONNX's own inference does each node. What it cannot see is added here: small integers computed from shapes are followed
through the graph, so that the target of a Reshape is known wherever the shapes it is made from are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.shape_inference import infer_node_outputs

from cpuruntime.errors import (
    MESSAGE,
    Error,
    InvalidArgumentError,
    ModelError,
    UnsupportedError,
    listed,
    nearest,
    printable,
)
from cpuruntime.graph import Extent, Graph, Kind, Node, PartialShape, Size, Type, Value, typical
from cpuruntime.operators.evaluation.evaluate import evaluate
from cpuruntime.operators.evaluation.reference import input_names, output_names, to_proto
from cpuruntime.operators.reshapes import follow, follows, infer_partial, let_follow
from cpuruntime.operators.schema import (
    Operator,
    check_axes,
    check_reshape,
    check_types,
    get_operator,
    kind_of,
    output_type,
)
from cpuruntime.operators.shape_rules import result_shapes
from cpuruntime.operators.size_arithmetic import evaluate_sizes, has_sizes
from cpuruntime.operators.subgraph_types import infer_bodies
from cpuruntime.operators.tabular_shapes import set_tabular_shapes
from cpuruntime.operators.traits import DOMAIN, Folded, traits_of
from cpuruntime.operators.window_shapes import correct_shape

__all__ = ["evaluate", "infer_shapes", "reshape"]

_MOST_KNOWN = 1024
_MOST_KNOWN_FLOATS = 16
_LIMIT = 2**63 - 1
# Loops in loops are inferred several times each.
_MOST_BODIES = 10_000


def infer_shapes(graph: Graph) -> dict[Value, np.ndarray]:
    """Set `element_type` and `shape` of every value that a node makes, from the graph's inputs and constants.

    Returns the small values that are known already although a node makes them, such as the shape of a value with
    static shape. Raises ModelError, naming the node, when types or shapes contradict each other, and
    UnsupportedError for an unknown operator and for outputs that are no tensors.
    """
    return _Inference(graph).run()


def with_inputs(graph: Graph, names: Collection[str]) -> Graph:
    """A copy in which the defaults of these names are inputs, behind the others, of the same types and shapes."""
    result = graph.clone()
    for value in result.defaults:
        if value.name in names:
            value.constant = None
            result.inputs.append(value)
    result.defaults = []
    infer_shapes(result)
    return result


def with_shapes(
    graph: Graph, shapes: Sequence[Sequence[Extent]], contents: Mapping[int, Sequence[Extent]] | None = None
) -> Graph:
    """`reshape` for the shapes of all inputs, in which extents may be `Size`s, as may the `contents` of some inputs."""
    result = graph.clone()
    for value, shape in zip(result.inputs, shapes, strict=True):
        value.shape = tuple(shape)
    for index, numbers in (contents or {}).items():
        port, dtype = result.inputs[index], result.inputs[index].element_type.to_dtype()
        is_plain = all(isinstance(number, int) for number in numbers)
        array = np.array([*numbers], dtype if is_plain else object).reshape(port.static_shape)
        known = Value.of(port.name, array) if is_plain else Value(port.name, port.element_type, port.shape)
        known.sizes = None if is_plain else array
        result.replace(port, known)
    _infer_reshaped(graph, result)
    return result


def reshape(graph: Graph, shapes: Mapping[str, Any]) -> Graph:
    """A copy of the graph for other shapes of some of its inputs, by name, with everything inferred again.

    A shape is a PartialShape or what PartialShape takes. Constant targets of Reshape nodes follow the new shapes where
    the old ones do not fit them. Raises InvalidArgumentError for an unknown name and for shapes that the model cannot
    take.
    """
    result = graph.clone()
    inputs = {value.name: value for value in result.inputs}
    for name, given in shapes.items():
        if name not in inputs:
            raise InvalidArgumentError(
                f"the model has no input '{printable(name)}'.{nearest(name, inputs)} Inputs: "
                f"{listed(inputs) or 'none'}."
            )
        shape = PartialShape(given)
        result.input_bounds[name] = shape
        dims = None if shape.rank.is_dynamic else [d.get_length() if d.is_static else None for d in shape]
        inputs[name].shape = None if dims is None else tuple(dims)
    try:
        _infer_reshaped(graph, result)
    except ModelError as error:
        wanted = ", ".join(f"'{printable(name)}' with shape {PartialShape(shape)}" for name, shape in shapes.items())
        raise InvalidArgumentError(f"the model does not take {wanted}: {error}") from error
    return result


def _infer_reshaped(graph: Graph, result: Graph) -> None:
    """Infer a copy of a graph after its inputs were given other shapes; Reshapes follow where they have to."""
    opened = any(before.is_static and not after.is_static for before, after in zip(graph.inputs, result.inputs))
    if not opened:
        try:
            infer_shapes(result)
            return
        except ModelError:
            pass
    for old, new in zip(graph.nodes, result.nodes):
        let_follow(old, new)
    infer_shapes(result)


class _Inference:
    """One walk through a graph. `bodies` counts those walked through."""

    def __init__(
        self, graph: Graph, known: dict[Value, np.ndarray] | None = None, bodies: list[int] | None = None
    ) -> None:
        self._graph = graph
        self._known: dict[Value, np.ndarray] = {} if known is None else known
        self._bodies = [0] if bodies is None else bodies

    def run(self) -> dict[Value, np.ndarray]:
        for node in self._graph.nodes:
            if node.domain != DOMAIN:  # passes make outputs with types and shapes
                self._infer(node)
        return {value: array for value, array in self._known.items() if array.dtype != object}

    def _find(self, value: Value | None) -> np.ndarray | None:
        """The value's data when they are known and few; an array of objects when only some are."""
        if value is None:
            return None
        array = value.constant
        if array is None:
            return self._known.get(value, value.sizes)
        return array if array.size <= _MOST_KNOWN else None

    def _infer(self, node: Node) -> None:
        operator = get_operator(node.op_type, node.domain, node.version, node.where)
        check_types(node, operator)
        if node.bodies:
            infer_bodies(node, self._infer_body)
            return
        check_axes(node)
        rule = traits_of(node).inputs
        if rule is not None:
            rule(node)
        known = [self._find(value) for value in node.inputs]
        if node.op_type == "ConstantOfShape" and not node.domain and _is_whole(known[0]):
            _infer_constant_of_shape(node, known[0])
        elif not (follows(node) and follow(node)) and not self._infer_sizes(node, operator, known):
            self._infer_by_onnx(node, operator, known)
            correct_shape(node, known)
            set_tabular_shapes(node)
        if node.op_type == "Reshape" and not node.domain:
            if not node.outputs[0].is_static and not follows(node):
                infer_partial(node, self._find(node.input(1)))
            check_reshape(node)
        for value in node.outputs:
            _check_extents(node, value)
        self._remember(node, known)

    def _infer_body(self, body: Graph, given: Sequence[Value]) -> None:
        self._bodies[0] += 1
        if self._bodies[0] > _MOST_BODIES:
            raise ModelError(f"the shapes in nested subgraphs are not known after {_MOST_BODIES} walks through them.")
        known: dict[Value, np.ndarray] = {}
        for inner, outer in zip(body.inputs, given, strict=True):
            inner.element_type, inner.shape, inner.kind = outer.element_type, outer.shape, outer.kind
            array = self._find(outer)
            if array is not None:
                known[inner] = array
        _Inference(body, known, self._bodies).run()

    def _infer_sizes(self, node: Node, operator: Operator, known: list[np.ndarray | None]) -> bool:
        """Infer a node with a `Size` among the extents or elements of its inputs; false for other nodes, and for those
        without a rule, whose sizes ONNX's inference takes as plain numbers."""
        values = [value for value in node.inputs if value is not None]
        extents = (extent for value in values for extent in value.shape or ())
        if not any(isinstance(extent, Size) for extent in extents) and not any(map(has_sizes, known)):
            return False
        if node.domain or not all(value.is_static for value in values):
            return False
        shapes = result_shapes(node, known)
        if shapes is None:
            return False
        before = [value.shape for value in node.inputs if value is not None]
        for value in values:
            value.shape = None
        try:
            self._infer_by_onnx(node, operator, [None] * len(known))
        finally:
            for value, shape in zip(values, before):
                value.shape = shape
        for value, shape in zip(node.outputs, shapes):
            value.shape = shape
        return True

    def _infer_by_onnx(self, node: Node, operator: Operator, known: list[np.ndarray | None]) -> None:
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        names = input_names(node)
        complete = True
        late = any(node.input(i) is not None and known[i] is None for i in traits_of(node).parameters)
        pins = not late and all(value is None or value.is_static for value in node.inputs)
        for name, value, array in zip(names, node.inputs, known):
            if value is None:
                continue
            complete = complete and value.element_type.is_static()
            types[name] = _to_type(value, pins)
            if has_sizes(array):
                array = array.astype(value.element_type.to_dtype()) if pins else None
            if _is_whole(array) and array is not None:
                is_number = node.op_type == "Range" and array.size == 1  # ONNX Runtime takes [1], too
                data[name] = onnx.numpy_helper.from_array(array.reshape(()) if is_number else array)
        found: dict[str, onnx.TypeProto] = {}
        versions = {**self._graph.opsets, node.domain: node.version}
        opsets = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in versions.items()]
        if operator.schema.has_type_and_shape_inference_function and complete:
            try:
                found = infer_node_outputs(operator.schema, to_proto(node), types, data, None, opsets)
            except (Exception, MemoryError) as error:  # ONNX's inference raises many types for wrong nodes
                raise ModelError(f"{node.where}: {_clean(str(error))} Inputs: {_inputs(node)}.") from None
        for index, (name, value) in enumerate(zip(output_names(node), node.outputs)):
            _set_type(node, value, found.get(name))
            if value.element_type.is_dynamic():
                value.element_type = output_type(node, operator, index)
            if value.shape is None and traits_of(node).shape_of_first and node.inputs[0] is not None:
                value.shape = node.inputs[0].shape

    def _remember(self, node: Node, known: list[np.ndarray | None]) -> None:
        """Compute the node's value when it is a small one whose inputs are known."""
        if len(node.outputs) != 1 or node.domain:
            return
        output = node.outputs[0]
        if node.op_type == "Shape" and node.inputs[0] is not None:
            shape = node.inputs[0].shape
            if shape is not None:
                part = np.array(shape, object)[node.attributes.get("start", 0) : node.attributes.get("end")]
                plain = all(isinstance(extent, int) for extent in part.tolist())
                self._know(output, part.astype(np.int64) if plain else part)
            return
        if node.op_type == "Size" and node.inputs[0] is not None and node.inputs[0].is_static:
            count = math.prod(node.inputs[0].static_shape)
            self._know(output, np.array(count, np.int64 if isinstance(count, int) else object))
            return
        arrays, folded, result = [array for array in known if array is not None], traits_of(node).folded, None
        all_known = arrays and len(arrays) == sum(value is not None for value in node.inputs)
        if all_known and any(map(has_sizes, arrays)) and _is_small(output):
            result = _try_sizes(node, known)
            if result is not None and result.shape == output.shape:
                self._know(output, result)
            return
        if folded < Folded.SHAPES or not all_known or not _is_small(output):
            return
        if all(map(_is_whole, arrays)):
            result = _try_evaluate(node, known)
        elif folded is Folded.PARTLY:
            result = _try_move(node, known)
        if result is not None and result.shape == output.shape:
            self._known[output] = result


    def _know(self, value: Value, array: np.ndarray) -> None:
        self._known[value] = array
        if array.dtype != object or None not in array.reshape(-1).tolist():
            value.sizes = array


def _is_whole(array: np.ndarray | None) -> bool:
    return array is not None and array.dtype != object


def _is_small(value: Value) -> bool:
    if value.shape is None or not all(isinstance(extent, int) for extent in value.shape):
        return False
    limit = _MOST_KNOWN if value.element_type.is_integral() else _MOST_KNOWN_FLOATS
    return math.prod(value.static_shape) <= limit and value.element_type is not Type.string


def _try_evaluate(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    try:
        result = evaluate(node, arrays)[0]
    except Error:
        return None  # an error that matters is raised again when the model runs
    return result if result.dtype == node.outputs[0].element_type.to_dtype() else None


def _try_sizes(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    try:
        return evaluate_sizes(node, arrays)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return None


def _try_move(node: Node, arrays: list[np.ndarray | None]) -> np.ndarray | None:
    from cpuruntime.operators.evaluation.families import RULES

    try:
        result = np.array(RULES[node.op_type](node, arrays), object)
    except (ValueError, IndexError, TypeError):
        return None
    return result if None in result.ravel().tolist() else result.astype(node.outputs[0].element_type.to_dtype())


def _infer_constant_of_shape(node: Node, shape: np.ndarray | None) -> None:
    if shape.ndim != 1 or np.any(shape < 0):
        raise ModelError(f"{node.where}: the shape {shape.tolist()} must be a list of extents >= 0.")
    value = node.attributes.get("value")
    output = node.outputs[0]
    output.element_type = Type.f32 if value is None else Type(value.dtype)
    output.shape = tuple(map(int, shape))


def _to_type(value: Value, pins: bool) -> onnx.TypeProto:
    """The type for ONNX's inference, to which a `Size` is a plain number, or without `pins` not known."""
    proto = element = onnx.TypeProto()
    if value.kind in (Kind.OPTIONAL, Kind.OPTIONAL_SEQUENCE):
        element = element.optional_type.elem_type
    if value.kind in (Kind.SEQUENCE, Kind.OPTIONAL_SEQUENCE):
        element = element.sequence_type.elem_type
    tensor = element.tensor_type
    tensor.elem_type = value.element_type.to_onnx()
    if value.shape is not None:
        dims = tensor.shape.dim
        for extent in value.shape:
            dim = dims.add()
            if extent is not None and (pins or not isinstance(extent, Size)):
                dim.dim_value = extent
        if not value.shape:
            tensor.shape.SetInParent()
    return proto


def _set_type(node: Node, value: Value, proto: onnx.TypeProto | None) -> None:
    value.element_type, value.shape, value.kind = Type.dynamic, None, Kind.TENSOR
    if proto is None or proto.WhichOneof("value") is None:
        return
    found = kind_of(proto)
    if found is None:
        kind = proto.WhichOneof("value").removesuffix("_type")
        raise UnsupportedError(f"{node.where}: it gives a {kind}; only tensors, sequences and optionals are supported.")
    value.kind, tensor = found
    value.element_type = Type.from_onnx(tensor.elem_type)
    if tensor.HasField("shape") and value.kind is Kind.TENSOR:
        value.shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)


def _check_extents(node: Node, value: Value) -> None:
    extents = [typical(extent) for extent in value.shape or () if extent is not None]
    if any(extent < 0 for extent in value.shape or () if extent is not None):
        shape = list(value.shape or ())
        raise ModelError(f"{node.where}: its output would have the shape {shape}. Inputs: {_inputs(node)}.")
    if math.prod(extent or 1 for extent in extents) * max(value.element_type.size, 1) > _LIMIT:
        raise ModelError(f"{node.where}: its output of shape {list(value.shape or ())} overflows 64 bits.")


def _inputs(node: Node) -> str:
    return ", ".join(str(value) for value in node.inputs if value is not None)


def _clean(message: str) -> str:
    """The message of ONNX's inference without its own prefixes."""
    for mark in ("[ShapeInferenceError]", "[TypeInferenceError]"):
        message = message.replace(mark, "")
    return printable(" ".join(message.split()).rstrip("."), MESSAGE) + "."

"""The rules of ONNX operators: which there are, and what their inputs, outputs and attributes may be."""

from __future__ import annotations

import math
import reprlib
from functools import lru_cache
from typing import Any

import onnx
from onnx import defs

from cpuruntime.errors import ModelError, UnsupportedError, nearest, printable
from cpuruntime.graph import Kind, Node, Type, Value
from cpuruntime.operators.traits import REFUSED, TRAITS, AxisRange, traits_of
from cpuruntime.records import record

FIRST_OPSET = 1
_INT32_LIMIT = 2**31 - 1
_KIND_NAMES = {int(kind): name.lower() for name, kind in onnx.AttributeProto.AttributeType.items()}


@record
class Parameter:
    """One formal input or output: `types` are ONNX's names of the types it may have ("tensor(float)").

    `one_type` is False where several actual ones may differ in type.
    """

    name: str
    types: frozenset[str]
    type_name: str
    required: bool
    one_type: bool


@record
class Operator:
    """One version of one operator."""

    schema: defs.OpSchema
    inputs: tuple[Parameter, ...]
    outputs: tuple[Parameter, ...]
    attributes: dict[str, tuple[int, bool]]

    def input(self, index: int) -> Parameter:
        """The formal input for the actual input at `index`."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def output(self, index: int) -> Parameter:
        """The formal output for the actual output at `index`."""
        return self.outputs[min(index, len(self.outputs) - 1)]


def _parameter(formal: defs.OpSchema.FormalParameter) -> Parameter:
    kind, kinds = formal.option, defs.OpSchema.FormalParameterOption
    one_type = kind != kinds.Variadic or formal.is_homogeneous
    return Parameter(formal.name, frozenset(formal.types), formal.type_str, kind == kinds.Single, one_type)


@lru_cache(maxsize=4096)
def find_operator(op_type: str, domain: str, version: int) -> Operator | None:
    """The operator as of an opset version; None when there is none."""
    if not defs.has(op_type, version, domain):
        return None
    schema = defs.get_schema(op_type, version, domain)
    return Operator(
        schema,
        tuple(map(_parameter, schema.inputs)),
        tuple(map(_parameter, schema.outputs)),
        {name: (int(attribute.type), attribute.required) for name, attribute in schema.attributes.items()},
    )


def get_operator(op_type: str, domain: str, version: int, where: str) -> Operator:
    """The operator; UnsupportedError, with the nearest name, when it is not known or has no row of traits."""
    found = find_operator(op_type, domain, version)
    if found is not None and op_type in TRAITS.get(domain, ()):
        return found
    if found is not None:
        reason = REFUSED.get(op_type, "there is no implementation. Remove it from the model.")
        raise UnsupportedError(f"{where}: {op_type} is not supported: {reason}")
    names = {schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == domain}
    if op_type in names:
        raise UnsupportedError(f"{where}: {op_type} is not part of opset {version}; it came later or was removed.")
    place = f"domain '{printable(domain)}'" if domain else "ONNX"
    raise UnsupportedError(
        f"{where}: {place} has no operator '{printable(op_type)}' in opset {version}.{nearest(op_type, names)}"
    )


def check_opset(domain: str, version: int) -> None:
    """UnsupportedError when the version of ONNX's own operator set is out of range."""
    newest = defs.onnx_opset_version()
    if domain == "" and not FIRST_OPSET <= version <= newest:
        raise UnsupportedError(
            f"the model uses opset {version}; supported are {FIRST_OPSET} to {newest}. "
            "Convert it with onnx.version_converter, or export it again."
        )


def check_attribute(operator: Operator, attribute: onnx.AttributeProto, where: str) -> None:
    """ModelError when the operator has no such attribute or it has another type."""
    rule = operator.attributes.get(attribute.name)
    if rule is None:
        hint = nearest(attribute.name, operator.attributes)
        raise ModelError(f"{where}: there is no attribute '{printable(attribute.name)}'.{hint}")
    if attribute.type != rule[0]:
        raise ModelError(
            f"{where}: attribute '{printable(attribute.name)}' has type "
            f"{_KIND_NAMES.get(attribute.type, attribute.type)}, "
            f"not {_KIND_NAMES[rule[0]]}."
        )


def check_node(node: Node, operator: Operator, captures: int = 0) -> None:
    """ModelError when the counts of inputs or outputs, or the attributes, break the operator's rules.

    The last `captures` inputs are those that subgraphs read; they are not counted.
    """
    inputs = node.inputs[: len(node.inputs) - captures]
    while inputs and inputs[-1] is None:
        inputs.pop()
    schema = operator.schema
    _check_count(node, f"{len(inputs)} inputs, the operator takes", len(inputs), schema.min_input, schema.max_input)
    count = len(node.outputs)
    _check_count(node, f"{count} outputs, the operator gives", count, schema.min_output, schema.max_output)
    for index, value in enumerate(inputs):
        if value is None and operator.input(index).required:
            raise ModelError(f"{node.where}: input {index} ('{operator.input(index).name}') is missing.")
    for name, (_, required) in operator.attributes.items():
        if required and name not in node.attributes:
            raise ModelError(f"{node.where}: the attribute '{printable(name)}' is missing; the operator requires it.")
    for name, data in node.attributes.items():
        _check_numbers(node, name, data)
    if "kernel_shape" in node.attributes:
        _check_window(node)
    auto_pad = node.attributes.get("auto_pad", "")
    if auto_pad not in _AUTO_PADS:
        raise ModelError(f"{node.where}: auto_pad is '{printable(auto_pad)}', not one of {', '.join(_AUTO_PADS[1:])}.")
    for name, choices in _CHOICES.get(node.op_type, {}).items():
        given = node.attributes.get(name, choices[0])
        if given not in choices:
            raise ModelError(
                f"{node.where}: attribute '{name}' is '{printable(given)}', not one of {', '.join(choices)}."
            )
    parts = node.attributes.get("num_outputs", len(node.outputs))
    if node.op_type == "Split" and parts != len(node.outputs):
        raise ModelError(
            f"{node.where}: attribute 'num_outputs' is {parts}, and there are {len(node.outputs)} outputs."
        )


def _check_count(node: Node, what: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        limits = f"at least {least}" if most > 1 << 20 else str(least) if least == most else f"{least} to {most}"
        raise ModelError(f"{node.where}: {what} {limits}.")


# The least value of each attribute. The greatest is 2^31 - 1: sums and products of a few fit 64 bits.
_POSITIVE = (
    "kernel_shape", "strides", "dilations", "group", "blocksize", "size", "hidden_size", "num_groups", "num_outputs",
    "output_height", "output_width", "pooled_shape",
)  # fmt: skip
_RANGES = dict.fromkeys(_POSITIVE, 1) | dict.fromkeys(("pads", "output_padding", "batch_dims"), 0)
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "Normalizer": {"norm": ("MAX", "L1", "L2")},
    "Pad": {"mode": ("constant", "reflect", "edge", "wrap")},
    **{op: {"direction": ("forward", "reverse", "bidirectional")} for op in ("GRU", "LSTM", "RNN")},
    **{op: {"reduction": ("none", "add", "mul", "max", "min")} for op in ("ScatterElements", "ScatterND")},
}
_AUTO_PADS = ("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def _check_numbers(node: Node, name: str, data: Any) -> None:
    least = None if name == "pads" and traits_of(node).crops else _RANGES.get(name)
    what = f"{node.where}: attribute '{printable(name)}' is"
    for number in data if isinstance(data, list) else [data]:
        if least is not None and not (isinstance(number, int) and least <= number <= _INT32_LIMIT):
            raise ModelError(f"{what} {shorten(data)}; every value must be between {least} and {_INT32_LIMIT}.")
        if name != "value" and node.domain != "ai.onnx.ml" and isinstance(number, float) and math.isnan(number):
            raise ModelError(f"{what} {shorten(data)}; it must be a number.")


def _check_window(node: Node) -> None:
    kernel = node.attributes["kernel_shape"]
    for name, factor in (("strides", 1), ("dilations", 1), ("pads", 2)):
        data = node.attributes.get(name)
        if data is not None and len(data) != factor * len(kernel):
            raise ModelError(
                f"{node.where}: attribute '{printable(name)}' is {shorten(data)}; kernel_shape {shorten(kernel)} needs "
                f"{factor * len(kernel)} values."
            )


def check_axes(node: Node) -> None:
    """ModelError when an axis lies outside the first input: ONNX's own inference does not always look."""
    first = node.input(0)
    if first is None or first.shape is None:
        return
    rank, axis_range = len(first.shape), traits_of(node).axis
    for name in ("axis", "axes") if axis_range is not AxisRange.ELSEWHERE else ():
        data = node.attributes.get(name, [])
        for axis in data if isinstance(data, list) else [data]:
            last = rank if axis_range is AxisRange.BEHIND else rank - 1
            if not -last - 1 <= axis <= last:
                raise ModelError(
                    f"{node.where}: attribute '{printable(name)}' is {shorten(data)}; the input "
                    f"'{printable(first.name)}' has {rank} "
                    f"dimensions, so it must be between {-last - 1} and {last}."
                )


def check_types(node: Node, operator: Operator) -> None:
    """ModelError when the types of inputs are not among the operator's, or disagree with each other."""
    bound: dict[str, tuple[str, Type]] = {}
    for index, value in enumerate(node.inputs[: len(node.inputs) - node.captures]):
        if value is None or value.element_type.is_dynamic():
            continue
        formal = operator.input(index)
        if _type_name(value) not in formal.types:
            allowed = ", ".join(sorted(_short(name) for name in formal.types))
            kind = "" if value.kind is Kind.TENSOR else f"a {value.kind.value} of "
            raise ModelError(
                f"{node.where}: input '{printable(value.name)}' is {kind}{value.element_type.get_type_name()}; "
                f"'{formal.name}' must be one of: {allowed}."
            )
        if not formal.one_type:
            continue
        first = bound.setdefault(formal.type_name, (value.name, value.element_type))
        if first[1] is not value.element_type:
            raise ModelError(
                f"{node.where}: input '{printable(value.name)}' is {value.element_type.get_type_name()} and input "
                f"'{printable(first[0])}' is "
                f"{first[1].get_type_name()}; they must have one type."
            )


def output_type(node: Node, operator: Operator, index: int) -> Type:
    """The element type of an output as the operator's type constraints give it; dynamic when they do not."""
    formal = operator.output(index)
    if len(formal.types) == 1:
        return _BY_NAME.get(next(iter(formal.types)), Type.dynamic)
    for position, value in enumerate(node.inputs):
        if value is not None and operator.input(position).type_name == formal.type_name:
            return value.element_type
    return Type.dynamic


_NAMES: dict[Type, str] = {
    element_type: f"tensor({onnx.helper.tensor_dtype_to_string(element_type.to_onnx()).split('.')[-1].lower()})"
    for element_type in Type.members()
    if element_type.is_static()
}
_BY_NAME = {name: element_type for element_type, name in _NAMES.items()}


def type_name(element_type: Type) -> str:
    """ONNX's name of a tensor of this type, such as "tensor(float)"."""
    return _NAMES[element_type]


_AROUND = {
    Kind.TENSOR: "{}",
    Kind.SEQUENCE: "seq({})",
    Kind.OPTIONAL: "optional({})",
    Kind.OPTIONAL_SEQUENCE: "optional(seq({}))",
}


def _type_name(value: Value) -> str:
    return _AROUND[value.kind].format(type_name(value.element_type))


def kind_of(proto: onnx.TypeProto) -> tuple[Kind, onnx.TypeProto.Tensor] | None:
    """What ONNX's type stands for, and the type of the tensors in it; None for other kinds of values."""
    names = []
    while proto.WhichOneof("value") in ("sequence_type", "optional_type"):
        names.append(proto.WhichOneof("value"))
        proto = getattr(proto, names[-1]).elem_type
    found = _KINDS.get(tuple(names))
    return (found, proto.tensor_type) if found and proto.WhichOneof("value") == "tensor_type" else None


_KINDS = {
    (): Kind.TENSOR,
    ("sequence_type",): Kind.SEQUENCE,
    ("optional_type",): Kind.OPTIONAL,
    ("optional_type", "sequence_type"): Kind.OPTIONAL_SEQUENCE,
}


def _short(name: str) -> str:
    return _BY_NAME[name].get_type_name() if name in _BY_NAME else name


def check_reshape(node: Node) -> None:
    """ModelError when a Reshape would change the number of elements."""
    data, output = node.inputs[0], node.outputs[0]
    if data is None or not data.is_static or not output.is_static:
        return
    if math.prod(data.static_shape) != math.prod(output.static_shape):
        raise ModelError(f"{node.where}: {data} cannot take the shape {list(output.static_shape)}: the sizes differ.")


def shorten(data: Any) -> str:
    """The data as text, cut when long."""
    return reprlib.repr(data)

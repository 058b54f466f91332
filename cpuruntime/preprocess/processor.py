"""Puts steps before a model's inputs and behind its outputs, as nodes of the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cpuruntime.api.layout import Layout
from cpuruntime.api.model import Model
from cpuruntime.api.node import Facts
from cpuruntime.api.ports import ConstOutput, keys, position
from cpuruntime.errors import Error, InvalidArgumentError, ModelError, printable
from cpuruntime.graph import Graph, Kind, PartialShape, Type, Value
from cpuruntime.operators.shape_inference import infer_shapes
from cpuruntime.preprocess import steps
from cpuruntime.preprocess.colors import plane_shapes
from cpuruntime.preprocess.flow import Flow, Step, described, run
from cpuruntime.preprocess.input_info import InputInfo
from cpuruntime.preprocess.output_info import OutputInfo
from cpuruntime.preprocess.tensor_shape import describe_input
from cpuruntime.preprocess.words import ColorFormat
from cpuruntime.preprocess.writer import StepWriter, partial_shape

_FINAL = (ColorFormat.UNDEFINED, ColorFormat.RGB, ColorFormat.BGR, ColorFormat.GRAY)


@dataclass
class _Built:
    """The graph with its steps, the facts of its ports, and lines that describe the steps."""

    graph: Graph
    inputs: list[Facts]
    outputs: list[Facts]
    lines: list[str]


class PrePostProcessor:
    """Says what the tensors of users are like, and which steps lead to those of the model, or from them.

    Not safe to use from two threads.
    """

    def __init__(self, model: Model) -> None:
        """Steps for a model. Raises WrongTypeError where it is none."""
        self._model = Model.checked(model)
        self._inputs = [InputInfo() for _ in model.inputs]
        self._outputs = [OutputInfo() for _ in model.outputs]

    def input(self, input_index: int | str | None = None, *, tensor_name: str | None = None) -> InputInfo:
        """The input of this index or name; without one, the only input."""
        key = input_index if tensor_name is None else tensor_name
        return self._inputs[position(key, keys(self._model.inputs), "input", default=True)]

    def output(self, output_index: int | str | None = None, *, tensor_name: str | None = None) -> OutputInfo:
        """The output of this index or name; without one, the only output."""
        key = output_index if tensor_name is None else tensor_name
        return self._outputs[position(key, keys(self._model.outputs), "output", default=True)]

    def build(self) -> Model:
        """Put the steps into the model, and return it. Once for a PrePostProcessor.

        Raises:
            InvalidArgumentError: a step does not fit; the model stays as it was.
        """
        built = self._build()
        self._model.become(built.graph, built.inputs, built.outputs)
        return self._model

    def __str__(self) -> str:
        try:
            return "\n".join(self._build().lines)
        except Error as error:
            return f"Error: {error}"

    def _build(self) -> _Built:
        graph = self._model.graph.clone()
        names = [value.name for value in graph.values()] + [node.name for node in graph.nodes]
        writer = StepWriter(names, graph.opsets.get("", 0))
        built = _Built(graph, [], [port.facts.copy() for port in self._model.outputs], [])
        inputs = []
        for old, port, info in zip(graph.inputs, self._model.inputs, self._inputs):
            inputs += _put_before(built, writer, old, port, info)
        changed = [value.shape for value in inputs] != [value.shape for value in graph.inputs]
        graph.inputs, graph.nodes, writer.nodes = inputs, writer.nodes + graph.nodes, []
        if changed or len(writer.nodes):
            try:
                infer_shapes(graph)
            except ModelError as error:
                raise InvalidArgumentError(f"the model does not take what the steps make: {error}") from error
        for index, (port, info) in enumerate(zip(self._model.outputs, self._outputs)):
            _put_behind(built, writer, index, port, info)
        graph.nodes += writer.nodes
        return built


def _put_before(built: _Built, writer: StepWriter, old: Value, port: ConstOutput, info: InputInfo) -> list[Value]:
    """The values of users' tensors for an input, which is replaced by what steps make of them."""
    of = f"Input '{printable(old.name)}'"
    if old.kind is not Kind.TENSOR:
        built.inputs.append(port.facts.copy())
        return [old]
    shape, tensor_layout, model_layout = describe_input(info, port, of)
    tensor, name = info.tensor(), old.name
    element_type = tensor.element_type or old.element_type
    channels = None
    if shape is not None and tensor.color is not ColorFormat.UNDEFINED:
        names = tensor_layout.names(len(shape), of)
        channels = names.index("C") if "C" in names else None
    extents = None if shape is None else [d.get_length() if d.is_static else None for d in shape]
    planes = []
    for sub_name, plane in zip(tensor.sub_names, plane_shapes(tensor.color, extents, channels, of)):
        suffix = f"/{sub_name}" if sub_name else ""
        planes.append(Value(writer.unique(name + suffix) if suffix else name, element_type, plane))
        built.inputs.append(_facts(port, suffix, tensor_layout, tensor.memory_type))
    flow = Flow(writer, planes, tensor_layout, model_layout, old.element_type, old.shape, of, tensor.color)
    old.name = writer.unique(f"{name}/model")
    color = "" if tensor.color is ColorFormat.UNDEFINED else f" (color {tensor.color.name})"
    lines = [
        f'Input "{printable(name)}"{color}:',
        *(f"    User's input tensor: {described(plane, tensor_layout)}" for plane in planes),
        f"    Model's expected tensor: {described(old, model_layout)}",
        *_titled("Pre-processing steps", run(flow, info.preprocess().steps, of, name)),
    ]
    flow.where = of
    if flow.color not in _FINAL:
        raise InvalidArgumentError(f"{of}: the model takes no image of {flow.color.name}: add convert_color.")
    lines += _titled("Implicit pre-processing steps", run(flow, _implicit(flow), of, name))
    final = flow.value
    if not partial_shape(final).compatible(port.partial_shape):
        raise InvalidArgumentError(
            f"{of}: the steps make the shape {partial_shape(final)}, which is not aligned with original parameter's "
            f"shape {port.partial_shape}."
        )
    built.graph.input_bounds.pop(name, None)
    if len(planes) == 1 and shape is not None and tensor.color is ColorFormat.UNDEFINED:
        built.graph.input_bounds[name] = PartialShape(shape)
    built.graph.replace(old, final)
    said = tensor.layout or info.model().layout or info.preprocess().steps
    if said or final not in planes:
        built.lines += lines
    return planes


def _titled(title: str, lines: list[str]) -> list[str]:
    """Lines below a title with their number, if there are any."""
    return [f"    {title} ({len(lines)}):", *lines] if lines else []


def _facts(port: ConstOutput, suffix: str, layout: Layout, memory_type: str) -> Facts:
    facts = port.facts.copy()
    facts.friendly_name += suffix
    facts.names = [name + suffix for name in facts.names]
    facts.layout = layout
    if memory_type:
        facts.rt_info["memory_type"] = memory_type
    return facts


def _implicit(flow: Flow) -> list[Step]:
    """What is to be done where no step was given: the wanted element type and layout."""
    found = []
    if flow.values[0].element_type is not flow.target_type and flow.target_type.is_static():
        convert = partial(steps.convert_element_type, element_type=flow.target_type)
        name = flow.target_type.type_name
        found.append(Step(f"convert_element_type({name})", f"convert type ({name})", convert))
    if not flow.target_layout.empty and flow.target_layout != flow.layout:
        convert = partial(steps.convert_layout, layout=flow.target_layout)
        found.append(Step(f"convert_layout({flow.target_layout})", f"convert layout {flow.target_layout}", convert))
    return found


def _put_behind(built: _Built, writer: StepWriter, index: int, port: ConstOutput, info: OutputInfo) -> None:
    """The steps behind an output, whose name goes to what they make."""
    old, facts, tensor = built.graph.outputs[index], built.outputs[index], info.tensor()
    name = port.info.name
    of = f"Output '{printable(name)}'"
    if old.kind is not Kind.TENSOR:
        return
    layout = info.model().layout or facts.layout
    if old.shape is not None:
        layout.check_fits(partial_shape(old), name)
    wanted = tensor.element_type or Type.dynamic
    flow = Flow(writer, [old], layout, tensor.layout, wanted, old.shape, of)
    lines = [
        f'Output "{printable(name)}":',
        f"    Model's data tensor: {described(old, layout)}",
        *_titled("Post-processing steps", run(flow, info.postprocess().steps, of, name)),
        *_titled("Post-processing implicit steps", run(flow, _implicit(flow), of, name)),
    ]
    facts.layout = flow.layout
    final = flow.value
    lines.append(f"    User's output tensor: {described(final, flow.layout)}")
    if final is not old:
        built.graph.outputs[index] = final
        if old not in built.graph.inputs and old.constant is None:
            old.name, final.name = writer.unique(f"{name}/model"), old.name
    if final.name != name:
        facts.names = facts.names or [name]
    if final is not old or info.model().layout is not None:
        built.lines += lines

"""Models: what is read from a file, looked at, reshaped, and compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from cpuruntime.api.node import Facts, Input, Node, WithOutputs
from cpuruntime.api.notes import Notes
from cpuruntime.api.ports import ConstOutput, Output, PortFacts, describe_all, keys, position
from cpuruntime.api.refusals import EDITED, not_pickled, refused
from cpuruntime.api.tensor import Tensor
from cpuruntime.devices.host import Devices
from cpuruntime.devices.ports import PortInfo
from cpuruntime.errors import InvalidArgumentError, WrongTypeError, nearest, printable
from cpuruntime.graph import Graph, PartialShape, Value
from cpuruntime.graph import Node as GraphNode


class Model(Notes, WithOutputs):
    """A model. Made by `Core.read_model`. Not safe to change from two threads; compiling does not change it."""

    __slots__ = ("__weakref__", "_friendly_name", "_graph", "_inputs", "_nodes", "_outputs", "_ports", "_values")

    def __init__(self, graph: Graph, friendly_name: str | None = None) -> None:
        super().__init__()
        self._friendly_name = graph.name if friendly_name is None else friendly_name
        self._hold(graph)
        self._inputs = tuple(self._port("input", index) for index in range(len(graph.inputs)))
        self._outputs = tuple(self._port("output", index) for index in range(len(graph.outputs)))
        self._values: dict[str, Output] = {}
        self._nodes: dict[str, Node] = {}

    def _hold(self, graph: Graph) -> None:
        self._graph = graph
        self._ports = {"input": PortInfo.inputs_of(graph), "output": PortInfo.outputs_of(graph)}

    def become(self, graph: Graph, inputs: Sequence[Facts], outputs: Sequence[Facts]) -> None:
        """Be another graph from now on, with these facts about its ports, which are others unless as many as before."""
        self._hold(graph)
        if len(inputs) != len(self._inputs):
            self._inputs = tuple(self._port("input", index) for index in range(len(inputs)))
        for port, facts in zip((*self._inputs, *self._outputs), (*inputs, *outputs), strict=True):
            port.keep(facts)

    def _port(self, side: str, index: int) -> Output:
        kind = "Parameter" if side == "input" else "Result"
        return Output(self, index, kind, lambda: self._ports[side][index])

    @classmethod
    def checked(cls, model: Any) -> Model:
        """The model. Raises WrongTypeError for anything else."""
        if not isinstance(model, Model):
            raise WrongTypeError(f"{model!r:.60} is no Model: give what Core.read_model returns.")
        return model

    @property
    def graph(self) -> Graph:
        """The nodes and values; not to be changed. Another object after `reshape`."""
        return self._graph

    def port_facts(self) -> PortFacts:
        """Copies of what users noted about inputs and outputs."""
        return [port.facts.copy() for port in self._inputs], [port.facts.copy() for port in self._outputs]

    @property
    def inputs(self) -> list[Output]:
        """The inputs, in the model's order."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[Output]:
        """The outputs, in the model's order."""
        return list(self._outputs)

    def input(self, index: int | str | None = None, *, tensor_name: str | None = None) -> Output:
        """The input with this index or name; without one, the only input."""
        key = index if tensor_name is None else tensor_name
        return self._inputs[position(key, keys(self._inputs), "input", default=True)]

    def output(self, index: int | str | None = None, *, tensor_name: str | None = None) -> Output:
        """The output with this index or name; without one, the only output."""
        key = index if tensor_name is None else tensor_name
        return self._outputs[position(key, keys(self._outputs), "output", default=True)]

    @property
    def friendly_name(self) -> str:
        """The model's name."""
        return self._friendly_name

    @friendly_name.setter
    def friendly_name(self, name: str) -> None:
        self._friendly_name = str(name)

    def get_friendly_name(self) -> str:
        """The same as `friendly_name`."""
        return self._friendly_name

    def set_friendly_name(self, name: str) -> None:
        """The same as assigning `friendly_name`."""
        self.friendly_name = name

    def get_name(self) -> str:
        """The same as `friendly_name`: there is no other name."""
        return self._friendly_name

    name = property(get_name)

    def is_dynamic(self) -> bool:
        """Whether the shape of an input or output, or of any value between, is not known."""
        return any(value.name and not value.is_static for value in self._graph.values())

    dynamic = property(is_dynamic)

    def reshape(
        self,
        partial_shape: Any = None,
        variables_shapes: Mapping[str, Any] | None = None,
        *,
        partial_shapes: Any = None,
    ) -> None:
        """Give inputs other shapes; all other shapes follow.

        Args:
            partial_shape: a dict of shape by input index, name or port; or one shape for the only input. A shape is a
                PartialShape, a Shape, a list or tuple of dimensions (int, -1, Dimension, (low, high), "1..8", "?"), or
                a string such as "1,3,224..448,?".
            variables_shapes: None or empty: there are no variables.
            partial_shapes: another name of `partial_shape`.

        Raises:
            InvalidArgumentError: there is no such input, or the model does not take the shape; it stays as it was.
        """
        if variables_shapes:
            raise InvalidArgumentError(f"The model has no variables; shapes are given for {sorted(variables_shapes)}.")
        partial_shape = partial_shape if partial_shapes is None else partial_shapes
        positions = keys(self._inputs)
        items = partial_shape if isinstance(partial_shape, Mapping) else {None: partial_shape}
        shapes = {}
        for key, shape in items.items():
            if key is not None and not isinstance(key, (ConstOutput, str, int)):
                expected = "expected keys as openvino.Output, int or str."
                raise WrongTypeError(f"Incorrect key type {type(key)} to reshape a model, {expected}")
            if not isinstance(shape, (PartialShape, str, list, tuple)):
                expected = "expected values as openvino.PartialShape, str, list or tuple."
                raise WrongTypeError(f"Incorrect value type {type(shape)} to reshape a model, {expected}")
            name = self._inputs[position(key, positions, "input", default=True)].info.name
            if name in shapes:
                raise InvalidArgumentError(f"Input '{printable(name)}' is given two shapes.")
            shapes[name] = PartialShape(shape)
        from cpuruntime.operators.shape_inference import reshape  # not above: stored models do without

        self._hold(reshape(self._graph, shapes))

    def add_outputs(self, outputs: Any) -> list[Output]:
        """Make values inside the model outputs, too, and return their ports; of a value that is one already its port.

        Args:
            outputs: a tensor's name, an (operator's name, index) pair, or a port of a node; or a list of these.

        Raises:
            InvalidArgumentError: there is no such value; the model stays as it was.
        """
        given = outputs if isinstance(outputs, list) else [outputs]
        for place, one in enumerate(given):
            if not isinstance(one, (str, tuple, ConstOutput)):
                where = f" at index {place}: " if given is outputs else ". It is "
                raise WrongTypeError(f"Incorrect type of a value to add as output{where}{one!r:.60}")
        names = [self._value_of(one).name for one in given]
        known = [port.info.name for port in self._outputs]
        graph = self._graph.clone()
        values = {value.name: value for value in graph.values()}
        for name in dict.fromkeys(names):
            if name not in known:
                graph.outputs.append(values[name])
                known.append(name)
        self._hold(graph)
        self._outputs += tuple(self._port("output", index) for index in range(len(self._outputs), len(known)))
        return [self._outputs[known.index(name)] for name in names]

    def _value_of(self, key: Any) -> Value:
        """The value that `add_outputs` is given."""
        if isinstance(key, ConstOutput):
            key = key.info.name
        if isinstance(key, str):
            values = {value.name: value for value in self._graph.values()}
            if key not in values:
                hint = nearest(key, values)
                raise InvalidArgumentError(f"No tensor of the model is called '{printable(key)}'.{hint}")
            return values[key]
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and isinstance(key[1], int)):
            raise WrongTypeError(f"{key!r:.60} is no output: give a tensor's name, (operator's name, index) or a port.")
        node = next((node for node in self._graph.nodes if node.name == key[0]), None)
        if node is None or not 0 <= key[1] < len(node.outputs):
            raise InvalidArgumentError(f"No node '{printable(key[0])}' with an output {key[1]} is in the model.")
        return node.outputs[key[1]]

    def remove_result(self, result: Node) -> None:
        """Make an output of the model, given by its `Result`, an output no longer."""
        index = self.get_result_index(result)
        graph = self._graph.clone()
        del graph.outputs[index]
        kept = [port.facts for port in self._outputs]
        del kept[index]
        self._hold(graph)
        self._outputs = tuple(self._port("output", place) for place in range(len(kept)))
        for port, facts in zip(self._outputs, kept):
            port.keep(facts)

    def get_parameters(self) -> list[Node]:
        """The nodes of the inputs."""
        return [port.node for port in self._inputs]

    def get_results(self) -> list[Node]:
        """The nodes of the outputs."""
        return [port.node for port in self._outputs]

    parameters, results = property(get_parameters), property(get_results)

    def get_result(self) -> Node:
        """The node of the only output."""
        return self.output().node

    result = property(get_result)

    def get_parameter_index(self, parameter: Node) -> int:
        """The position of an input's node; -1 where it is none of the model's."""
        found = self.get_parameters()
        return found.index(parameter) if parameter in found else -1

    def get_result_index(self, value: Node | ConstOutput) -> int:
        """The position of an output, or of its node; -1 where it is none of the model's."""
        found: list[Any] = list(self._outputs) if isinstance(value, ConstOutput) else self.get_results()
        return found.index(value) if value in found else -1

    def get_ordered_ops(self) -> list[Node]:
        """All nodes, each after those that it reads."""
        constants = [self.port_of(value).node for value in self._graph.constants()]
        operators = [self._operator(node) for node in self._graph.nodes]
        return [*self.get_parameters(), *constants, *operators, *self.get_results()]

    get_ops = get_ordered_ops

    def get_output_size(self) -> int:
        """The number of outputs."""
        return len(self._outputs)

    def get_output_op(self, index: int) -> Node:
        """The node of an output."""
        return self.output(index).node

    def validate_nodes_and_infer_types(self) -> None:
        """Nothing: types and shapes are always up to date."""

    def node_of(self, port: Output) -> Node:
        """The node of a port."""
        if port.type_name == "Parameter":
            return Node("Parameter", port.facts, lambda: [port])
        if port.type_name == "Result":
            return Node("Result", port.facts, lambda: [port], lambda: [self.port_of(self._graph.outputs[port.index])])
        value = self._value_of(port.info.name)
        if value.producer is None:
            return Node("Constant", Facts(value.name), lambda: [port])
        return self._operator(value.producer)

    def _operator(self, node: GraphNode) -> Node:
        name = node.name

        def current() -> GraphNode:
            return next(one for one in self._graph.nodes if one.name == name)

        def outputs() -> list[Output]:
            return [self.port_of(value) for value in current().outputs if value.name]

        def sources() -> list[Output]:
            return [self.port_of(value) for value in current().inputs if value is not None]

        if name not in self._nodes:
            self._nodes[name] = Node(node.op_type, Facts(name), outputs, sources, node.attributes)
        return self._nodes[name]

    def node_notes(self) -> dict[str, dict[str, Any]]:
        """The notes about nodes that have an operator, by the operator's name."""
        return {name: node.rt_info for name, node in self._nodes.items() if node.rt_info}

    def port_of(self, value: Value) -> Output:
        """The port of a value; of an input the model's."""
        for index, one in enumerate(self._graph.inputs):
            if one.name == value.name:
                return self._inputs[index]
        name = value.name
        if name not in self._values:
            index = 0 if value.producer is None else [one.name for one in value.producer.outputs].index(name)
            self._values[name] = Output(self, index, "", lambda: PortInfo.of(self._value_of(name)))
        return self._values[name]

    def readers(self, name: str) -> set[Input]:
        """The inputs of nodes that read the value of this name."""
        nodes = [self._operator(node) for node in self._graph.nodes] + self.get_results()
        return {one for node in nodes for one in node.inputs() if one.get_source_output().info.name == name}

    def evaluate(
        self, output_tensors: Sequence[Tensor], input_tensors: Sequence[Tensor], evaluation_context: Any = None
    ) -> bool:
        """Compute the outputs slowly, by the device REFERENCE; output tensors take on their shapes. Returns True."""
        from cpuruntime.operators.shape_inference import reshape

        graph = reshape(self._graph, {p.info.name: PartialShape(t.shape) for p, t in zip(self._inputs, input_tensors)})
        model = Devices().compile(graph, "REFERENCE")
        try:
            request = model.create_request()
            for index, tensor in enumerate(input_tensors):
                request.set_input(index, tensor.elements)
            request.run()
            for index, tensor in enumerate(output_tensors):
                tensor.copy_from(Tensor(request.output_array(index)))
        finally:
            model.close()
        return True

    def clone(self) -> Model:
        """A model of its own; the arrays of constants are shared."""
        model = Model(self._graph.clone(), self._friendly_name)
        for port, own in zip((*model.inputs, *model.outputs), (*self._inputs, *self._outputs)):
            port.keep(own.facts.copy())
        model.keep_notes(self)
        return model

    __reduce__ = not_pickled("A Model", "send its file or bytes, and read them in the other process")

    def __copy__(self) -> Model:
        raise TypeError("Cannot copy a Model shallowly; use clone() or copy.deepcopy.")

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self.clone()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hold(Graph(self._graph.name, [], [], []))
        self._inputs = self._outputs = ()

    def __repr__(self) -> str:
        return describe_all(f"Model: '{printable(self._friendly_name)}'", self._inputs, self._outputs)


for _name in (
    "add_parameters", "add_results", "add_sinks", "add_variables", "get_sink_index", "remove_parameter", "remove_sink",
    "remove_variable", "replace_parameter",
):  # fmt: skip
    setattr(Model, _name, refused(f"Model.{_name}", EDITED))

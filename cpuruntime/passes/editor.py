"""How passes change a graph: an index of uses that stays right while nodes come and go."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import cached_property, wraps

import numpy as np

from cpuruntime.graph import Graph, Node, Type, Value
from cpuruntime.passes.simplify import dead_code


class Editor:
    """One sweep over a graph. Changes to its list of nodes take effect in `finish`.

    The graph's outputs stay, under their names.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.changed = False
        self._outputs = set(graph.outputs)
        self._instead: dict[Node, list[Node]] = {}
        self._names: set[str] | None = None
        self._numbers: dict[str, int] = {}

    @cached_property
    def _uses(self) -> dict[Value, dict[tuple[Node, int], None]]:
        """Made when a pass first asks: most find nothing in most graphs. One value may have thousands of uses."""
        return {value: dict.fromkeys(uses) for value, uses in self.graph.uses().items()}

    def nodes(self) -> Iterator[Node]:
        """The nodes that the graph had at the start and still has, in topological order."""
        return (node for node in self.graph.nodes if node not in self._instead)

    def users(self, value: Value) -> list[Node]:
        """The nodes that read `value`, once for each time they do."""
        return [node for node, _ in self._uses.get(value, ())]

    def is_read_by(self, value: Value, nodes: Container[Node]) -> bool:
        """Whether only some of these nodes read `value`."""
        return all(node in nodes for node, _ in self._uses.get(value, ()))

    def is_output(self, value: Value) -> bool:
        """Whether `value` is an output of the graph, which stays even if no node reads it."""
        return value in self._outputs

    def sole_user(self, value: Value) -> Node | None:
        """The only reader of `value`, if it reads it once and `value` is no output of the graph; else None."""
        uses = self._uses.get(value, ())
        return next(iter(uses))[0] if len(uses) == 1 and value not in self._outputs else None

    def value(self, name: str, element_type: Type, shape: Iterable[int | None] | None) -> Value:
        """A new value; its name is `name`, with a number when that is taken."""
        return Value(self._unique(name), element_type, shape)

    def constant(self, name: str, array: np.ndarray) -> Value:
        """A new constant; its name is `name`, with a number when that is taken."""
        return Value.of(self._unique(name), array)

    def set_input(self, node: Node, index: int, value: Value | None) -> None:
        """Let `node` read `value` at `index`, past the end of its inputs if need be."""
        node.inputs += [None] * (index + 1 - len(node.inputs))
        old = node.inputs[index]
        if old is not None:
            del self._uses[old][node, index]
        if value is not None:
            self._uses.setdefault(value, {})[node, index] = None
        node.inputs[index] = value
        self.changed = True

    def replace(self, node: Node, *nodes: Node) -> None:
        """Put `nodes`, in this order, where `node` stood. They must make those outputs of `node` that others read."""
        for index, value in enumerate(node.inputs):
            if value is not None:
                del self._uses[value][node, index]
        self._instead[node] = list(nodes)
        for new in nodes:
            for index, value in enumerate(new.inputs):
                if value is not None:
                    self._uses.setdefault(value, {})[new, index] = None
        self.changed = True

    def remove(self, node: Node) -> None:
        """Take `node` out, whose outputs are not read any more, or are made by another node."""
        self.replace(node)

    def take_output(self, node: Node, user: Node) -> None:
        """Take `user` out; the first output of `node` becomes that of `user`."""
        self.remove(user)
        node.outputs[0] = user.outputs[0]
        node.outputs[0].producer = node
        node.origins = list(dict.fromkeys((*node.origins, *user.origins)))

    def bypass(self, node: Node, value: Value) -> bool:
        """Take `node` out, whose first output always equals `value`. False, and no change, where that cannot be:
        between an input (or a constant or another output) of the graph and an output."""
        output = node.outputs[0]
        if output not in self._outputs:
            self.remove(node)
            self._redirect(output, value)
            return True
        maker = value.producer
        if maker is None or value in self._outputs:
            return False
        self.remove(node)
        maker.outputs[maker.outputs.index(value)] = output
        output.producer = maker
        self._redirect(value, output)
        return True

    def become_constant(self, value: Value, array: np.ndarray) -> None:
        """Turn `value` into a constant; the node that made it must go, or lose that output."""
        value.constant, value.producer = array, None
        value.shape, value.element_type = array.shape, Type(array.dtype)
        self.changed = True

    def fold(self, node: Node, results: Iterable[np.ndarray]) -> None:
        """Take `node` out, whose outputs are constants from now on."""
        self.remove(node)
        for value, array in zip(node.outputs, results):
            self.become_constant(value, array)

    def become_sizes(self, value: Value) -> None:
        """Turn `value`, whose `sizes` are known, into one that no node makes: a constant where they are numbers."""
        assert value.sizes is not None
        value.producer = None
        if value.sizes.dtype != object:
            value.constant, value.sizes = value.sizes, None
        self.changed = True

    def finish(self) -> bool:
        """Apply the changes and remove nodes without readers. Whether anything changed."""
        if self.changed:
            self.graph.nodes = [new for node in self.graph.nodes for new in self._now(node)]
            dead_code.run(self.graph)
        return self.changed

    def _now(self, node: Node) -> Iterator[Node]:
        if node not in self._instead:
            yield node
        for new in self._instead.get(node, ()):
            yield from self._now(new)

    def _redirect(self, old: Value, new: Value) -> None:
        for node, index in self._uses.pop(old, ()):
            node.inputs[index] = new
            self._uses.setdefault(new, {})[node, index] = None

    def _unique(self, name: str) -> str:
        if self._names is None:
            self._names = {value.name for value in self.graph.values()}
        unique, number = name, self._numbers.get(name, 1)
        while unique in self._names:
            number += 1
            unique = f"{name}/{number}"
        self._numbers[name] = number
        self._names.add(unique)
        return unique


def sweep(visit: Callable[[Editor, Node], object]) -> Callable[[Graph], bool]:
    """The pass that calls `visit` for each node of a graph in one sweep."""

    @wraps(visit)
    def run(graph: Graph) -> bool:
        editor = Editor(graph)
        for node in editor.nodes():
            visit(editor, node)
        return editor.finish()

    return run

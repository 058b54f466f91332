"""What 8 bits change in the model's outputs: by each layer alone, by the first layers together, by any choice of them.

One model has each layer twice, in float32 and with 8 bits, and an input says which of the two counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log10, sqrt

import numpy as np
import onnx
from onnx import TensorProto, helper

from cpuruntime.quantize.calibration import Feeds, Progress, Runner
from cpuruntime.quantize.editor import Editor, copied
from cpuruntime.quantize.form import Layer, float_outputs, layers
from cpuruntime.quantize.weights import bias_of
from cpuruntime.quantize.writer import Writer, pair

GATES = "cpuruntime/gates"


@dataclass
class Difference:
    """How far outputs are from those in float32, over all samples added."""

    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
        """Count in a sample's outputs."""
        for name, reference in wanted.items():
            ours, theirs = (array.astype(np.float64).ravel() for array in (found[name], reference))
            products = np.array([((ours - theirs) ** 2).sum(), ours @ ours, theirs @ theirs, ours @ theirs])
            self.sums[name] = self.sums.get(name, np.zeros(4)) + products

    @property
    def error(self) -> float:
        """The length of the difference as a share of the length of the float32 output; of the worst output."""
        return max(sqrt(d / theirs) if theirs else (inf if d else 0.0) for d, _, theirs, _ in self.sums.values())

    @property
    def cosine(self) -> float:
        """That of the worst output."""
        return min(both / sqrt(a * b) if a and b else float(a == b) for _, a, b, both in self.sums.values())


class Gated:
    """The model with each of the layers twice. Not thread-safe."""

    def __init__(self, writer: Writer, samples: Sequence[Feeds]) -> None:
        self.layers = [layer.name for layer in writer.layers]
        self._samples = samples
        self._model, self._sums = _gated(writer)
        self._names = float_outputs(self._model)
        self._run: Runner | None = None
        self._wanted: list[dict[str, np.ndarray]] = []

    def noise(self, progress: Progress) -> dict[str, float]:
        """The ratio of signal to noise of each layer's results, its inputs in float32, in decibels."""
        model = copied(self._model)
        model.graph.output.extend(helper.make_empty_tensor_value_info(n) for pair in self._sums.values() for n in pair)
        run = Runner(model)
        found = {name: np.zeros(2) for name in self.layers}
        for number, feeds in enumerate(self._samples):
            progress("signal to noise of each layer: samples", number, len(self._samples))
            results = run({**feeds, GATES: self._gates(())})
            for name, (signal, noise) in self._sums.items():
                found[name] += float(results[signal]), float(results[noise])
        run.close()
        return {name: 10 * log10(s / n) if s and n else inf if s or not n else -inf for name, (s, n) in found.items()}

    def difference(self, chosen: Collection[str]) -> Difference:
        """What these layers with 8 bits change, the others in float32."""
        if self._run is None:
            self._run = Runner(self._model)
            self._wanted = [self._outputs(feeds, ()) for feeds in self._samples]
        found = Difference()
        for feeds, wanted in zip(self._samples, self._wanted):
            found.add(self._outputs(feeds, chosen), wanted)
        return found

    def close(self) -> None:
        """Free the compiled model."""
        if self._run is not None:
            self._run.close()
            self._run = None

    def _outputs(self, feeds: Feeds, chosen: Collection[str]) -> dict[str, np.ndarray]:
        assert self._run is not None
        results = self._run({**feeds, GATES: self._gates(chosen)})
        return {name: np.array(results[name]) for name in self._names}

    def _gates(self, chosen: Collection[str]) -> np.ndarray:
        return np.array([name in chosen for name in self.layers], np.bool_)


def _gated(writer: Writer) -> tuple[onnx.ModelProto, dict[str, tuple[str, str]]]:
    """The model, and by layer the names of the sums of squares of its results, and of their errors."""
    editor = Editor(copied(writer.model))
    found = layers(editor)
    ends = {(layer.after or layer.node).name: layer for layer in found}
    read = {name for layer in found for name in layer.inputs}
    order = {layer.name: index for index, layer in enumerate(found)}
    nodes: list[onnx.NodeProto] = []
    sums = {}
    for value in editor.graph.input:
        nodes += pair(editor, value.name, writer.all, read)
    for node in list(editor.graph.node):
        outputs = list(node.output)
        nodes.append(node)
        if node.name in ends:
            layer = ends[node.name]
            nodes += _twin(editor, writer, layer, node, order[layer.name])
            sums[layer.name] = f"{layer.name}/signal", f"{layer.name}/noise"
        for name in outputs:
            nodes += pair(editor, name, writer.all, read)
    editor.replace(nodes)
    editor.graph.input.append(helper.make_tensor_value_info(GATES, TensorProto.BOOL, [len(found)]))
    return editor.finish(), sums


def _twin(
    editor: Editor, writer: Writer, layer: Layer, last: onnx.NodeProto, number: int
) -> list[onnx.NodeProto]:
    """The layer with 8 bits, a choice between both that has the layer's output's name, and the sums of squares."""
    name, output = layer.name, last.output[0]
    last.output[0] = plain = f"{name}/plain"
    twin = onnx.NodeProto.FromString(layer.node.SerializeToString())
    twin.name, result = f"{name}/twin", f"{name}/twin_output"
    twin.output[0] = result
    twin.input[: len(layer.inputs)] = [f"{one}/dequantised" for one in layer.inputs]
    nodes = [twin]
    if layer.weight:
        weight = writer.weights[name]
        twin.input[1] = editor.add(f"{name}/twin_weight", weight.dequantised())
        if layer.after is not None:
            bias = weight.bias if weight.bias is not None else bias_of(editor, layer)
            result = f"{name}/twin_sum"
            nodes.append(helper.make_node("Add", [twin.output[0], editor.add(f"{name}/twin_bias", bias)], [result],
                                          result))  # fmt: skip
        elif weight.bias is not None:
            twin.input[2:] = [editor.add(f"{name}/twin_bias", writer.bias(layer))]
    gate, difference = f"{name}/gate", f"{name}/difference"
    place = editor.add(f"{name}/place", np.array(number, np.int64))
    return [
        *nodes,
        helper.make_node("Gather", [GATES, place], [gate], gate),
        helper.make_node("Where", [gate, result, plain], [output], f"{name}/choice"),
        helper.make_node("Sub", [result, plain], [difference], difference),
        helper.make_node("ReduceSumSquare", [plain], [f"{name}/signal"], f"{name}/signal", keepdims=0),
        helper.make_node("ReduceSumSquare", [difference], [f"{name}/noise"], f"{name}/noise", keepdims=0),
    ]

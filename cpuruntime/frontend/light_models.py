"""The image models that the onnx package ships without weights, with random ones.

Their files make most weights by ConstantOfShape: all elements equal, which hides every error of layout and channel
order. Here each weight gets seeded random data for its role, scaled so that activations keep their size through the
net; also the few small ones that the files hold, which make no sense without the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import onnx
from onnx import numpy_helper

from cpuruntime.errors import InvalidArgumentError, ModelNotFoundError, nearest

LIGHT_MODELS = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)

_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_SMALL = 0.1  # standard deviation of biases and means
_FIRST_IR_WITHOUT_WEIGHT_INPUTS = 4
_SCALED = 13 / 12  # mean square of U(0.5, 1.5)
_DIVIDED = math.log(3)  # mean of 1 / U(0.5, 1.5)
_KEPT_OF_SUM = 0.8  # by the Relu after the Sum of a branch and a shortcut, which is mostly positive
# about how much an operator changes the mean square of activations that are roughly normal
_FACTORS = {"Relu": 0.5, "MaxPool": 2.0, "AveragePool": 0.5, "GlobalAveragePool": 0.4}

_Fill = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def light_model(name: str = "resnet50", seed: int = 0) -> onnx.ModelProto:
    """A light model with random weights; the same for the same name and seed on every machine.

    `name` is one of LIGHT_MODELS. Input and output are those of the file:
    float32 [1,3,224,224] to [1,1000] (for densenet121 and squeezenet [1,1000,1,1]). vgg19 takes 575 MB.
    Raises InvalidArgumentError for an unknown name.
    """
    path = _FOLDER / f"light_{full_name(name)}.onnx"
    if not path.is_file():
        raise ModelNotFoundError(f"the onnx package has no {path.name}: {_FOLDER} is incomplete.")
    model = onnx.load(path)
    _Weights(model.graph).replace(seed)
    model.ir_version = max(model.ir_version, _FIRST_IR_WITHOUT_WEIGHT_INPUTS)
    return model


def full_name(name: str) -> str:
    """The light model of this name, which may be written as its file; InvalidArgumentError when there is none."""
    wanted = name.casefold().removesuffix(".onnx").removeprefix("light_")
    if wanted not in LIGHT_MODELS:
        alike = [full for full in LIGHT_MODELS if wanted and wanted in full]
        hint = f" Did you mean '{alike[0]}'?" if len(alike) == 1 else nearest(name, LIGHT_MODELS)
        raise InvalidArgumentError(f"there is no light model '{name}'.{hint} There are: {', '.join(LIGHT_MODELS)}.")
    return wanted


class _Weights:
    """Replaces the weights of one graph.

    Walks through the nodes in order with an estimate of the mean square of each activation, so that convolutions and
    matrix products can be scaled to give a mean square of one.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._shapes: dict[str, tuple[int, ...]] = {}  # of weights, also after Unsqueeze and Reshape
        self._origin: dict[str, str] = {}  # the weight that was reshaped
        self._made: dict[str, tuple[int, ...]] = {}
        self._fills: dict[str, _Fill] = {}
        self._squares: dict[str, float] = {}
        for name, array in self._constants.items():
            if array.dtype == np.float32:
                self._add(name, array.shape)

    def replace(self, seed: int) -> None:
        """Give every weight random data, as an initializer that is no input of the graph."""
        others = [node for node in self._graph.node if not self._is_weight(node)]
        read = {name for node in others for name in node.input}
        initializers = [
            tensor for tensor in self._graph.initializer if tensor.name in read and tensor.name not in self._made
        ]
        inputs = [info for info in self._graph.input if info.name not in self._constants]
        for field, items in (("node", others), ("initializer", initializers), ("input", inputs)):
            self._graph.ClearField(field)
            getattr(self._graph, field).extend(items)
        for name, shape in self._made.items():
            if name not in read:
                continue
            random = np.random.default_rng([seed, crc32(name.encode())])
            fill = self._fills.get(name, _normal(_SMALL))
            self._graph.initializer.add(
                name=name, data_type=onnx.TensorProto.FLOAT, dims=shape, raw_data=fill(random, shape).tobytes()
            )

    def _is_weight(self, node: onnx.NodeProto) -> bool:
        """Learn from the node; true when it makes a weight."""
        source, result = node.input[0], node.output[0]
        if node.op_type == "ConstantOfShape":
            self._add(result, tuple(map(int, self._constants[source])))
            return True
        if source not in self._origin:
            self._visit(node)
            return False
        self._origin[result] = self._origin[source]
        reshaped = node.op_type == "Reshape"
        self._shapes[result] = tuple(map(int, self._constants[node.input[1]])) if reshaped else self._shapes[source]
        return False

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        self._origin[name] = name
        self._made[name] = self._shapes[name] = shape

    def _visit(self, node: onnx.NodeProto) -> None:
        squares = [self._squares.get(name, 1.0) for name in node.input if name not in self._origin]
        square = squares[0]
        weights = [name for name in node.input[1:] if name in self._origin]
        if node.op_type in ("Conv", "Gemm"):
            shape = self._shapes[weights[0]]
            by_rows = node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute)
            terms = math.prod(shape[1:]) if by_rows else shape[0]
            self._fill(weights[0], _normal(1 / math.sqrt(terms * square)))
            square = 1.0
        elif node.op_type == "BatchNormalization":
            for name, fill in zip(weights, (_around_one, _normal(_SMALL), _normal(_SMALL), _around_one)):
                self._fill(name, fill)
            square *= _SCALED * _DIVIDED
        elif node.op_type == "Mul" and weights:
            self._fill(weights[0], _around_one)
            square *= _SCALED
        elif node.op_type == "Sum":
            square = sum(squares) * _KEPT_OF_SUM / _FACTORS["Relu"]
        elif node.op_type == "Concat":
            square = sum(squares) / len(squares)
        self._squares[node.output[0]] = square * _FACTORS.get(node.op_type, 1.0)

    def _fill(self, name: str, fill: _Fill) -> None:
        self._fills[self._origin[name]] = fill


def _normal(deviation: float) -> _Fill:
    def fill(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        array = random.standard_normal(shape, np.float32)
        array *= np.float32(deviation)
        return array

    return fill


def _around_one(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.random(shape, np.float32) + np.float32(0.5)

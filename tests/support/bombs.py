"""Small models that ask for much time or memory; each builder returns the bytes of a file.

`python bombs.py NAME DEVICE` compiles one and prints how that ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


def _model(nodes: list, constants: dict, outputs: list[str], functions: list = (), shape=(2,), kind: int = F) -> bytes:
    """A model whose input `x` goes straight to the output `z` unless a node makes that."""
    if "z" not in outputs:
        nodes, outputs = [*nodes, helper.make_node("Identity", ["x"], ["z"])], [*outputs, "z"]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes, "bomb", [helper.make_tensor_value_info("x", F, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs], held,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid("f", 1) for _ in functions[:1])]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10).SerializeToString()


def _small(*nodes: onnx.NodeProto, **constants: object) -> bytes:
    """Nodes whose large value `y` is reduced to one number, added to the input."""
    end = [
        helper.make_node("Cast", ["y"], ["yf"], to=F),
        helper.make_node("ReduceMax", ["yf"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["z"]),
    ]
    return _model([*nodes, *end], constants, ["z"])


def _node(op_type: str, inputs: str, outputs: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def _i(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _f(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _range() -> bytes:
    scalars = {name: np.array(n, np.int64) for name, n in (("a", 0), ("b", 2_000_000_000), ("c", 1))}
    return _small(_node("Range", "a b c"), **scalars)


def _doublings(count: int, first: str) -> bytes:
    nodes, name = [], first
    for index in range(count):
        nodes.append(helper.make_node("Concat", [name, name], [f"d{index}"], axis=0))
        name = f"d{index}"
    nodes += [_node("ReduceMax", name, "m", keepdims=0), _node("Add", "x m", "z")]
    return _model(nodes, {"a": _f(2)} if first == "a" else {}, ["z"])


def _chain(count: int, *op_types: str, constants: bool = False) -> bytes:
    nodes, held, name = [], {}, "x"
    for index in range(count):
        inputs = [name]
        if constants:
            held[f"c{index}"] = np.array([index, 1], np.float32)
            inputs.append(f"c{index}")
        name = "z" if index == count - 1 else f"v{index}"
        nodes.append(helper.make_node(op_types[index % len(op_types)], inputs, [name]))
    return _model(nodes, held, ["z"])


def _products(count: int) -> bytes:
    nodes, held, name = [], {}, "x"
    for index in range(count):
        held[f"c{index}"] = np.eye(2, dtype=np.float32)
        nodes.append(helper.make_node("MatMul", [name, f"c{index}"], [f"v{index}"]))
        name = f"v{index}"
    nodes.append(_node("Identity", name, "z"))
    return _model(nodes, held, ["z"])


def _split(count: int) -> bytes:
    names = [f"s{index}" for index in range(count)]
    nodes = [helper.make_node("Split", ["x"], names, axis=0, num_outputs=count), _node("Add", "s0 s1", "z")]
    return _model(nodes, {}, ["z", *names[2:]], shape=(count,))


def _concat(count: int) -> bytes:
    return _model([helper.make_node("Concat", ["x"] * count, ["z"], axis=0)], {}, ["z"])


def _functions(levels: int, calls: int) -> bytes:
    """`calls` ** `levels` nodes."""
    made = []
    for level in range(levels):
        domain, inner = ("", "Relu") if level == 0 else ("f", f"f{level - 1}")
        names = ["x", *(f"v{index}" for index in range(calls - 1)), "y"]
        nodes = [helper.make_node(inner, [a], [b], domain=domain) for a, b in pairwise(names)]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
        made.append(helper.make_function("f", f"f{level}", ["x"], ["y"], nodes, opsets))
    return _model([helper.make_node(f"f{levels - 1}", ["x"], ["z"], domain="f")], {}, ["z"], made)


def _recurrent() -> bytes:
    return _small(
        _node("LSTM", "a w r", "y", hidden_size=1),
        a=_f(300_000, 1, 1), w=_f(1, 4, 1), r=_f(1, 4, 1),
    )  # fmt: skip


def _einsum() -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyz"
    nodes = [_node("Einsum", "a b", equation=f"{letters[:13]},{letters[13:]}->{letters}")]
    return _small(*nodes, a=_f(*[2] * 13), b=_f(*[2] * 13))


def _nested(depth: int) -> bytes:
    graph = helper.make_graph([_node("Identity", "x", "b")], "inner", [], [helper.make_tensor_value_info("b", F, [2])])
    for level in range(depth):
        nodes = [helper.make_node("If", ["t"], [f"o{level}"], then_branch=graph, else_branch=graph)]
        name = f"o{level}"
        if level < depth - 1:
            graph = helper.make_graph(nodes, "inner", [], [helper.make_tensor_value_info(name, F, [2])])
    return _model([*nodes, _node("Identity", name, "z")], {"t": np.array(True)}, ["z"])


def _nested_once(depth: int) -> bytes:
    """If within If, in one branch only."""
    other = helper.make_graph([_node("Identity", "x", "e")], "other", [], [helper.make_tensor_value_info("e", F, [2])])
    graph = other
    for level in range(depth):
        node = helper.make_node("If", ["t"], [f"o{level}"], then_branch=graph, else_branch=other)
        graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info(f"o{level}", F, [2])])
    return _model([node, _node("Identity", f"o{depth - 1}", "z")], {"t": np.array(True)}, ["z"])


def _endless(inside: bool) -> bytes:
    def port(name: str, kind: int = TensorProto.BOOL, shape: tuple[int, ...] = ()) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    body = helper.make_graph(
        [_node("Identity", "cond", "cond_out"), _node("Identity", "v", "v_out")],
        "body",
        [port("i", TensorProto.INT64), port("cond"), port("v", F, (2,))],
        [port("cond_out"), port("v_out", F, (2,))],
    )
    loop = helper.make_node("Loop", ["", "t", "x"], ["y"], body=body)
    if not inside:
        return _model([loop, _node("Identity", "y", "z")], {"t": np.array(True)}, ["z"])
    branch = helper.make_graph([loop], "then", [], [helper.make_tensor_value_info("y", F, [2])])
    other = helper.make_graph([_node("Identity", "x", "e")], "else", [], [helper.make_tensor_value_info("e", F, [2])])
    node = helper.make_node("If", ["t"], ["z"], then_branch=branch, else_branch=other)
    return _model([node], {"t": np.array(True)}, ["z"])


def _kernels(count: int) -> bytes:
    """Chains of 30 elementwise operators, no two alike."""
    op_types = ["Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Relu", "Sqrt", "Softplus", "Erf", "Sin", "Cos", "Softsign"]
    random = np.random.default_rng(0)
    nodes, names = [], []
    for chain in range(count):
        name = "x"
        for index in range(30):
            nodes.append(helper.make_node(op_types[random.integers(len(op_types))], [name], [f"k{chain}_{index}"]))
            name = f"k{chain}_{index}"
        names.append(name)
    nodes.append(helper.make_node("Sum", names, ["z"]))
    return _model(nodes, {}, ["z"])


BOMBS: dict[str, Callable[[], bytes]] = {
    "range": _range,
    "constant_of_shape_16g": lambda: _small(_node("ConstantOfShape", "s"), s=_i(4_000_000_000)),
    "constant_of_shape_400g": lambda: _small(_node("ConstantOfShape", "s"), s=_i(100_000_000_000)),
    "expand": lambda: _small(_node("Expand", "a s"), a=_f(1), s=_i(2_000_000_000)),
    "expand_input": lambda: _small(_node("Unsqueeze", "x u", "w"), _node("Expand", "w s"), u=_i(0), s=_i(10**9, 2)),
    "tile": lambda: _small(_node("Tile", "a s"), a=_f(2), s=_i(1_000_000_000)),
    "pad": lambda: _small(_node("Pad", "a s"), a=_f(2), s=_i(0, 2_000_000_000)),
    "one_hot": lambda: _small(
        _node("OneHot", "a d v"), a=_i(1, 2), d=_i(1_000_000_000), v=np.array([0, 1], np.float32)
    ),
    "resize": lambda: _small(
        helper.make_node("Resize", ["a", "", "", "s"], ["y"]), a=_f(1, 1, 2, 2), s=_i(1, 1, 40000, 40000)
    ),
    "transposed_convolution": lambda: _small(
        _node("ConvTranspose", "a w", strides=[2**20, 2**10]), a=_f(1, 1, 2, 2), w=_f(1, 1, 3, 3)
    ),
    "transposed_convolution_of_input": lambda: _small(
        _node("Reshape", "x s", "r"), _node("ConvTranspose", "r w", strides=[2**20]), s=_i(1, 1, 2), w=_f(1, 1, 3)
    ),
    "doublings_of_constant": lambda: _doublings(32, "a"),
    "doublings_of_input": lambda: _doublings(40, "x"),
    "relu_neg": lambda: _chain(20_000, "Relu", "Neg"),
    "adds": lambda: _chain(20_000, "Add", constants=True),
    "products": lambda: _products(3000),
    "split": lambda: _split(20_000),
    "concat": lambda: _concat(20_000),
    "functions_32768": lambda: _functions(15, 2),
    "functions_500000": lambda: _functions(19, 2),
    "functions_2_40": lambda: _functions(40, 2),
    "random": lambda: _small(_node("RandomNormal", "", shape=[1_000_000_000])),
    "recurrent": _recurrent,
    "product_of_integers": lambda: _small(
        _node("MatMul", "a b"), a=np.ones((1500, 1500), np.int64), b=np.ones((1500, 1500), np.int64)
    ),
    "einsum": _einsum,
    "nested_if": lambda: _nested(12),
    "deep_if": lambda: _nested_once(25),
    "endless_loop": lambda: _endless(inside=False),
    "endless_loop_in_if": lambda: _endless(inside=True),
    "regular_expression": lambda: _model(
        [_node("RegexFullMatch", "a", "y", pattern="(a+)+$")], {"a": np.array(["a" * 34 + "!"], object)}, ["y"]
    ),
    "kernels": lambda: _kernels(200),
}
"""Builders by name."""


RUN = frozenset(
    (
        "transposed_convolution_of_input", "relu_neg", "adds", "products", "split", "concat", "recurrent",
        "nested_if", "deep_if", "kernels",
    )
)  # fmt: skip
"""Those that are inferred, too: what the others ask for at run time takes long or much."""


def main(name: str, device: str) -> None:
    """Compiles a bomb; prints a line with the ending, the seconds of processor time and the MB it took."""
    import resource
    import time

    import cpuruntime as ov

    data = BOMBS[name]()
    start = time.process_time()
    try:
        model = ov.Core().compile_model(data, device, {"TUNING_BUDGET_MS": 0} if device == "CPU" else {})
        ending = "compiled"
        if name in RUN:
            x = np.ones(model.inputs[0].shape, np.float32)
            ending = f"inferred {model.create_infer_request().infer({'x': x})['z'].ravel()[:2].tolist()}"
    except Exception as error:
        ending = f"{type(error).__name__}: {error}"
    taken, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{ending}; {len(data)} bytes of model, {taken:.2f} s, {peak} MB", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

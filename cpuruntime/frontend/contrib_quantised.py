"""Definitions of ONNX Runtime's quantised operators: dequantise, compute in float32, quantise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cpuruntime.frontend.contrib_call import Call


def _real(call: Call, name: str, data: int, scale: int, zero: int, axis: int = 1) -> str:
    """`name` is the number that the input at `data` stands for."""
    inputs = f"i{data}, i{scale}" + (f", i{zero}" if call.has(zero) else "")
    return f"{name} = DequantizeLinear<axis = {axis}>({inputs})"


def _rounded(call: Call, name: str, scale: int, zero: int) -> str:
    if not call.has(zero):
        return f"o0 = QuantizeLinear({name}, i{scale})"
    return f"o0 = QuantizeLinear({name}, i{scale}, i{zero})"


def _binary(op_type: str, call: Call) -> str:
    sides = f"{_real(call, 'a', 0, 1, 2)} {_real(call, 'b', 3, 4, 5)}"
    return f"{sides} y = {op_type}(a, b) {_rounded(call, 'y', 6, 7)}"


def _unary(op_type: str, call: Call, *names: str) -> str:
    return f"{_real(call, 'a', 0, 1, 2)} y = {op_type}{call.text(*names)}(a) {_rounded(call, 'y', 3, 4)}"


def _leaky_relu(call: Call) -> str:
    return _unary("LeakyRelu", call, "alpha")


def _softmax(call: Call) -> str:
    if call.take("opset", 13) < 13:
        raise call.refuse("the softmax of an opset before 13")
    return _unary("Softmax", call, "axis")


def _pool(op_type: str, call: Call) -> str:
    if call.take("channels_last", 0):
        raise call.refuse("channels_last")
    return _unary(op_type, call, "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")


def _concat(call: Call) -> str:
    places = range(2, call.inputs - 2, 3)
    parts = [_real(call, f"a{index}", index, index + 1, index + 2) for index in places]
    names = ", ".join(f"a{index}" for index in places)
    axis = call.take("axis", 1)
    return f"{' '.join(parts)} y = Concat<axis = {axis}>({names}) {_rounded(call, 'y', 0, 1)}"


def _gemm(call: Call) -> str:
    """The bias has the scale of the product of both sides; without an output scale the result is a number."""
    swapped = call.take("transB", 0)
    lines = [_real(call, "a", 0, 1, 2), _real(call, "b", 3, 4, 5, 0 if swapped else 1)]
    more = f"transA = {call.take('transA', 0)}, transB = {swapped}, alpha = {call.take('alpha', 1.0)!r}"
    bias = ""
    if call.has(6):
        lines += ["s = Mul(i1, i4)", "f = Cast<to = 1>(i6)", "c = Mul(f, s)"]
        bias = ", c"
    lines.append(f"y = Gemm<{more}>(a, b{bias})")
    lines.append(_rounded(call, "y", 7, 8) if call.has(7) else "o0 = Identity(y)")
    return " ".join(lines)


def _product(call: Call, left: str, scale: int, zero: int, bias: int) -> str:
    """The product of `left` and the second input, whose scale may be one for each column."""
    added = f"p = MatMul({left}, b) o0 = Add(p, i{bias})" if call.has(bias) else f"o0 = MatMul({left}, b)"
    return f"{_real(call, 'b', 1, scale, zero)} {added}"


def _to_float(call: Call) -> str:
    return f"{_real(call, 'a', 0, 2, 4)} {_product(call, 'a', 3, 5, 6)}"


def _dynamic(call: Call) -> str:
    """The first input is quantised to the range that it has."""
    return f"x, s, z = DynamicQuantizeLinear(i0) a = DequantizeLinear(x, s, z) {_product(call, 'a', 2, 3, 4)}"


_RECURRENT = ("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget")


def _dynamic_lstm(call: Call) -> str:
    """Weights are [directions, inputs, 4 units], with a scale for each direction or each of its columns.

    ONNX Runtime quantises the states between two steps, too; here they stay as they are.
    """
    lines = ["x, s, z = DynamicQuantizeLinear(i0)", "a = DequantizeLinear(x, s, z)"]
    lines.append("each = Constant<value_ints = [0, 1, -1]>()")
    for name, data, scale in (("w", 1, 8), ("r", 2, 10)):
        lines += [f"{name}0 = Cast<to = 1>(i{data})", f"{name}s = Reshape(i{scale}, each)"]
        lines += [f"{name}z = Cast<to = 1>(i{scale + 1})", f"{name}1 = Reshape({name}z, each)"]
        lines += [f"{name}2 = Sub({name}0, {name}1)", f"{name}3 = Mul({name}2, {name}s)"]
        lines.append(f"{name} = Transpose<perm = [0, 2, 1]>({name}3)")
    rest = ", ".join(f"i{index}" if call.has(index) else '""' for index in range(3, 8))
    results = ", ".join(f"o{index}" for index in range(3) if index < call.outputs)
    return f"{' '.join(lines)} {results} = LSTM{call.text(*_RECURRENT)}(a, w, r, {rest})"


QUANTISED: dict[str, Callable[[Call], str]] = {
    "DynamicQuantizeLSTM": _dynamic_lstm,
    "DynamicQuantizeMatMul": _dynamic,
    "MatMulIntegerToFloat": _to_float,
    "QGemm": _gemm,
    "QLinearAdd": partial(_binary, "Add"),
    "QLinearAveragePool": partial(_pool, "AveragePool"),
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": partial(_pool, "GlobalAveragePool"),
    "QLinearLeakyRelu": _leaky_relu,
    "QLinearMul": partial(_binary, "Mul"),
    "QLinearSigmoid": partial(_unary, "Sigmoid"),
    "QLinearSoftmax": _softmax,
}
"""The body of each definition, as text."""

"""Operators of ONNX Runtime that optimised models have, defined by those of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import onnx

from cpuruntime.errors import UnsupportedError, nearest, printable
from cpuruntime.frontend.contrib_call import Call
from cpuruntime.frontend.contrib_compressed import COMPRESSED
from cpuruntime.frontend.contrib_quantised import QUANTISED

DOMAIN = "com.microsoft"
_VERSION = 23
_NORMALISED = 17
"""The set of ONNX with LayerNormalization; ONNX Runtime writes it into models of any set."""


def definition(node: onnx.NodeProto, domain: str, version: int) -> onnx.FunctionProto | None:
    """The function that a call of one of these operators stands for; None for other nodes.

    It fits this call only: its attributes are written into it. Raises UnsupportedError and ModelError, naming the
    node, for attributes and inputs that have no definition here.
    """
    simplified = node.op_type == "SimplifiedLayerNormalization"
    early = simplified or (node.op_type == "LayerNormalization" and version < _NORMALISED)
    if domain != DOMAIN and not (domain == "" and early):
        return None
    if node.op_type not in BODIES:
        name, where = printable(node.op_type), printable(node.name)
        raise UnsupportedError(
            f"{name} '{where}': {name} of ONNX Runtime is not supported. Export the model without it."
            f"{nearest(node.op_type, BODIES)}"
        )
    call = Call(node)
    body = BODIES[node.op_type](call)
    inputs, outputs = (", ".join(f"{kind}{index}" for index in range(count)) for kind, count in (
        ("i", len(node.input)), ("o", len(node.output))))  # fmt: skip
    call.check()
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {_VERSION}]>'
    function = onnx.FunctionProto()
    function.CopyFrom(_parsed(f"{header} {node.op_type} ({inputs}) => ({outputs}) {{ {body} }}"))
    function.attribute.extend(attribute.name for attribute in node.attribute)
    return function


@lru_cache(maxsize=256)
def _parsed(text: str) -> onnx.FunctionProto:
    return onnx.parser.parse_function(text)


def _gelu(call: Call) -> str:
    return "o0 = Gelu(i0)"


def _bias_gelu(call: Call) -> str:
    return "t = Add(i0, i1) o0 = Gelu(t)"


def _fast_gelu(call: Call) -> str:
    t = "t = Add(i0, i1)" if call.has(1) else "t = Identity(i0)"
    return f'{t} o0 = Gelu<approximate = "tanh">(t)'


def _quick_gelu(call: Call) -> str:
    alpha = call.take("alpha", 1.702)
    return f"a = Constant<value_float = {alpha!r}>() b = CastLike(a, i0) t = Mul(i0, b) s = Sigmoid(t) o0 = Mul(i0, s)"


def _fused_matmul(call: Call) -> str:
    if call.take("transBatchA", 0) or call.take("transBatchB", 0):
        raise call.refuse("a transposed batch")
    swap = 'Einsum<equation = "...ij->...ji">'
    lines = [
        f"t{index} = {swap if call.take(name, 0) else 'Identity'}(i{index})"
        for index, name in enumerate(("transA", "transB"))
    ]
    lines += ["p = MatMul(t0, t1)", f"a = Constant<value_float = {call.take('alpha', 1.0)!r}>()"]
    return " ".join([*lines, "b = CastLike(a, p)", "o0 = Mul(p, b)"])


def _activated(call: Call, name: str, data: list[float]) -> str:
    """The node that makes `o0` of `p` by an activation with these parameters."""
    rows = {"Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",)}
    if name in ("Relu", "Sigmoid", "Tanh") and not data:
        return f"o0 = {name}(p)"
    if name not in rows or len(data) != len(rows[name]):
        raise call.refuse(f"the activation '{printable(name)}' with {len(data)} parameters")
    if name == "Clip":
        return f"a = Constant<value_float = {data[0]!r}>() b = Constant<value_float = {data[1]!r}>() o0 = Clip(p, a, b)"
    return f"o0 = {name}<{', '.join(f'{key} = {number!r}' for key, number in zip(rows[name], data))}>(p)"


_WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _fused_conv(call: Call) -> str:
    """The fourth input is added before the activation."""
    last = _activated(call, call.take("activation", ""), call.take("activation_params", []))
    bias = ", i2" if call.has(2) else ""
    added = "p = Add(c, i3)" if call.has(3) else "p = Identity(c)"
    return f"c = Conv{call.text(*_WINDOW)}(i0, i1{bias}) {added} {last}"


def _fused_gemm(call: Call) -> str:
    name, slope = call.take("activation", ""), call.take("activation_alpha", 0.01)
    last = _activated(call, name, [slope] if name == "LeakyRelu" else [])
    bias = ", i2" if call.has(2) else ""
    return f"p = Gemm{call.text('alpha', 'beta', 'transA', 'transB')}(i0, i1{bias}) {last}"


def _layer_norm(call: Call) -> str:
    inputs = "i0, i1, i2" if call.has(2) else "i0, i1"
    outputs = ", ".join(f"o{index}" for index in range(3) if call.gives(index) or not index)
    attributes = call.text("epsilon", "stash_type", more=f"axis = {call.take('axis', -1)}")
    return f"{outputs} = LayerNormalization{attributes}({inputs})"


def _simplified_norm(call: Call) -> str:
    if call.gives(1):
        raise call.refuse("the output 'inv_std_var'")
    attributes = call.text("epsilon", "stash_type", more=f"axis = {call.take('axis', -1)}")
    return f"o0 = RMSNormalization{attributes}(i0, i1)"


def _skip_norm(call: Call) -> str:
    """`epsilon` is 1e-12 where it is not given."""
    total = "s = Add(i0, i1)" + (" t = Add(s, i4)" if call.has(4) else " t = Identity(s)")
    beta = ", i3" if call.has(3) else ""
    if call.gives(1) or call.gives(2):
        raise call.refuse("the outputs 'mean' and 'inv_std_var'")
    epsilon = call.take("epsilon", 1e-12)
    return f"{total} o3 = Identity(t) o0 = LayerNormalization<axis = -1, epsilon = {epsilon!r}>(t, i2{beta})"


def _skip_simplified_norm(call: Call) -> str:
    total = "s = Add(i0, i1)" + (" t = Add(s, i3)" if call.has(3) else " t = Identity(s)")
    if call.gives(1) or call.gives(2):
        raise call.refuse("the outputs 'mean' and 'inv_std_var'")
    epsilon = call.take("epsilon", 1e-12)
    return f"{total} o3 = Identity(t) o0 = RMSNormalization<axis = -1, epsilon = {epsilon!r}>(t, i2)"


def _embed_norm(call: Call) -> str:
    """The second output counts the ones of each row of the mask."""
    lines = ["w = Gather(i2, i0)", "zero = Constant<value_ints = [0]>()", "one = Constant<value_ints = [1]>()"]
    if call.has(8):
        lines.append("p = Gather(i3, i8)")
    else:
        lines += ["n = Shape<start = 1, end = 2>(i0)", "p = Slice(i3, zero, n, zero)"]
    lines.append("e = Add(w, p)")
    if call.has(1) and call.has(4):
        lines += ["g = Gather(i4, i1)", "t = Add(e, g)"]
    else:
        lines.append("t = Identity(e)")
    if call.has(7):
        lines += ["c = CastLike(one, i7)", "q = Equal(i7, c)", "r = Cast<to = 6>(q)"]
    else:
        lines += ["z = CastLike(zero, i0)", "d = Mul(i0, z)", "r = Cast<to = 6>(d)"]
    lines += ["o1 = ReduceSum<keepdims = 0>(r, one)", "o2 = Identity(t)"]
    lines.append(f"o0 = LayerNormalization<axis = -1, epsilon = {call.take('epsilon', 1e-12)!r}>(t, i5, i6)")
    return " ".join(lines)


def _masks(call: Call, padding: int, bias: int, query: str, total: str) -> tuple[list[str], str]:
    """Nodes that make one mask to add, and its name; `total` is the length of all keys, a tensor of one number.

    Padding is given by the lengths of rows, [batch] or [batch, 1], or by flags, [batch, keys].
    """
    filler, causal = call.take("mask_filter_value", -10000.0), call.take("unidirectional", 0)
    names = []
    lines = [
        "zero = Constant<value_int = 0>()", "one = Constant<value_int = 1>()", "ones = Constant<value_ints = [1]>()",
        f"keys = Squeeze({total})", "place = Range(zero, keys, one)",
        f"no = Constant<value_float = {filler!r}>()", "yes = Constant<value_float = 0.0>()",
    ]  # fmt: skip
    if call.has(padding):
        lines += [
            f"batch = Shape<start = 0, end = 1>({query})", "rest = Constant<value_ints = [-1]>()",
            "rows = Concat<axis = 0>(batch, rest)", f"m64 = Cast<to = 7>(i{padding})", "m2 = Reshape(m64, rows)",
            "width = Shape<start = 1, end = 2>(m2)", "single = Equal(width, ones)", "factor = Cast<to = 7>(single)",
            "limit = Mul(place, factor)", "seen = Less(limit, m2)", "pads = Where(seen, yes, no)",
            "around = Constant<value_ints = [1, 2]>()", "pad4 = Unsqueeze(pads, around)",
            f"padding = CastLike(pad4, {query})",
        ]  # fmt: skip
        names.append("padding")
    if causal:
        lines += [
            f"length = Shape<start = 1, end = 2>({query})", "long = Squeeze(length)", "past = Sub(keys, long)",
            "late = Range(past, keys, one)", "late2 = Unsqueeze(late, ones)", "before = LessOrEqual(place, late2)",
            "causal32 = Where(before, yes, no)", f"causal = CastLike(causal32, {query})",
        ]  # fmt: skip
        names.append("causal")
    if call.has(bias):
        names.append(f"i{bias}")
    mask = names[0] if names else ""
    for index, name in enumerate(names[1:]):
        lines.append(f"mask{index} = Add({mask}, {name})")
        mask = f"mask{index}"
    return lines if names else [], mask


def _attend(call: Call, mask: str, past: str, present: str) -> str:
    heads = call.take("num_heads", 0)
    scale = call.take("scale", 0.0)
    factor = f", scale = {scale!r}" if scale else ""
    inputs = f"q, k, v, {mask}{past}" if past else ", ".join(filter(None, ("q, k, v", mask)))
    if past and not mask:
        inputs = f'q, k, v, ""{past}'
    return f"o0{present} = Attention<q_num_heads = {heads}, kv_num_heads = {heads}{factor}>({inputs})"


def _attention(call: Call) -> str:
    """Queries, keys and values by one product."""
    sizes = call.take("qkv_hidden_sizes", [])
    if call.has(6) or call.take("do_rotary", 0) or call.take("past_present_share_buffer", 0):
        raise call.refuse("a shared buffer or a rotary embedding")
    lines = ["p = MatMul(i0, i1)", "x = Add(p, i2)" if call.has(2) else "x = Identity(p)"]
    if sizes:
        lines.append(f"sizes = Constant<value_ints = {[int(size) for size in sizes]}>()")
        lines.append("q, k, v = Split<axis = -1>(x, sizes)")
    else:
        lines.append("q, k, v = Split<axis = -1, num_outputs = 3>(x)")
    lines.append("own = Shape<start = 1, end = 2>(i0)")
    past = present = ""
    if call.has(4):
        lines += [
            "cut = Constant<value_ints = [0]>()", "pk5, pv5 = Split<axis = 0, num_outputs = 2>(i4)",
            "pk = Squeeze(pk5, cut)", "pv = Squeeze(pv5, cut)", "old = Shape<start = 3, end = 4>(i4)",
            "total = Add(old, own)",
        ]  # fmt: skip
        past = ", pk, pv"
    else:
        lines.append("total = Identity(own)")
    if call.gives(1):
        if not past:
            raise call.refuse("the output 'present' without the input 'past'")
        present = ", nk, nv"
    more, mask = _masks(call, 3, 5, "i0", "total")
    lines += [*more, _attend(call, mask, past, present)]
    if present:
        lines += ["nk5 = Unsqueeze(nk, cut)", "nv5 = Unsqueeze(nv, cut)", "o1 = Concat<axis = 0>(nk5, nv5)"]
    return " ".join(lines)


def _multi_head_attention(call: Call) -> str:
    if not (call.has(1) and call.has(2)) or call.has(8) or call.has(9) or call.gives(3):
        raise call.refuse("a packed input or a shared buffer")
    if call.has(3):
        lines = ["bq, bk, bv = Split<axis = 0, num_outputs = 3>(i3)"]
        lines += [f"{name} = Add(i{index}, b{name})" for index, name in enumerate("qkv")]
    else:
        lines = [f"{name} = Identity(i{index})" for index, name in enumerate("qkv")]
    lines.append("own = Shape<start = 1, end = 2>(i1)")
    past = ", i6, i7" if call.has(6) and call.has(7) else ""
    lines += ["old = Shape<start = 2, end = 3>(i6)", "total = Add(old, own)"] if past else ["total = Identity(own)"]
    more, mask = _masks(call, 4, 5, "i0", "total")
    present = ", o1, o2" if call.gives(1) or call.gives(2) else ""
    if present and not past:
        raise call.refuse("the output 'present_key' without the input 'past_key'")
    return " ".join([*lines, *more, _attend(call, mask, past, present)])


def _rotary(call: Call) -> str:
    """The positions are given one by one, or by the first of them."""
    if call.take("is_packed_batching", 0) or call.take("scale", 1.0) != 1.0:
        raise call.refuse("a packed batch or a scale")
    heads, interleaved = call.take("num_heads", 0), call.take("interleaved", 0)
    more = f"interleaved = {interleaved}" + (f", num_heads = {heads}" if heads else "")
    return (
        "one = Constant<value_int = 1>() zero = Constant<value_int = 0>() count = Size(i1) single = Equal(count, one) "
        "factor = Cast<to = 7>(single) length = Shape<start = -2, end = -1>(i0) long = Squeeze(length) "
        "place = Range(zero, long, one) step = Mul(place, factor) ids = Add(i1, step) "
        "batch = Shape<start = 0, end = 1>(i0) shape = Concat<axis = 0>(batch, length) all = Expand(ids, shape) "
        f"o0 = RotaryEmbedding{call.text('rotary_embedding_dim', more=more)}(i0, i2, i3, all)"
    )


BODIES: dict[str, Callable[[Call], str]] = {
    "Attention": _attention,
    "BiasGelu": _bias_gelu,
    "EmbedLayerNormalization": _embed_norm,
    "FastGelu": _fast_gelu,
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
    "MultiHeadAttention": _multi_head_attention,
    "QuickGelu": _quick_gelu,
    "RotaryEmbedding": _rotary,
    "SimplifiedLayerNormalization": _simplified_norm,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_simplified_norm,
    **COMPRESSED,
    **QUANTISED,
}
"""What each operator is defined by, as text made for one call."""

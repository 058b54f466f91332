"""Definitions of ONNX Runtime's operators with weights of few bits, by DequantizeLinear in blocks."""

from __future__ import annotations

from collections.abc import Callable

from cpuruntime.frontend.contrib_call import Call

_TYPES = {4: 21, 8: 2}
"""ONNX's numbers of uint4 and uint8, by bits."""


def _unpacked(name: str, source: str, bits: int, rows: int, count: int) -> list[str]:
    """Nodes that make `name` [rows, count] of packed bytes, the lower half of a byte first."""
    lines = [f"{name}s = Constant<value_ints = [{rows}, -1]>()", f"{name}b = Reshape({source}, {name}s)"]
    if bits == 4:
        lines += [
            f"{name}m = Constant<value_int = 15>()", f"{name}m8 = Cast<to = 2>({name}m)",
            f"{name}f = Constant<value_int = 4>()", f"{name}f8 = Cast<to = 2>({name}f)",
            f"{name}l = BitwiseAnd({name}b, {name}m8)",
            f'{name}h = BitShift<direction = "RIGHT">({name}b, {name}f8)', f"{name}e = Constant<value_ints = [2]>()",
            f"{name}l3 = Unsqueeze({name}l, {name}e)", f"{name}h3 = Unsqueeze({name}h, {name}e)",
            f"{name}p = Concat<axis = 2>({name}l3, {name}h3)", f"{name}u = Reshape({name}p, {name}s)",
        ]  # fmt: skip
    else:
        lines.append(f"{name}u = Identity({name}b)")
    return [
        *lines, f"{name}z = Constant<value_ints = [0]>()", f"{name}n = Constant<value_ints = [{count}]>()",
        f"{name}a = Constant<value_ints = [1]>()", f"{name}c = Slice({name}u, {name}z, {name}n, {name}a)",
        f"{name} = Cast<to = {_TYPES[bits]}>({name}c)",
    ]  # fmt: skip


def _product(call: Call) -> str:
    """Weights are [N, blocks, bytes]; without zero points these are half of the range."""
    inner, columns, bits = call.take("K", 0), call.take("N", 0), call.take("bits", 4)
    block = call.take("block_size", 0)
    call.take("accuracy_level", 0)
    if bits not in _TYPES or inner < 1 or columns < 1 or block < 16 or block & (block - 1):
        raise call.refuse(f"{bits} bits, blocks of {block}, {inner} rows and {columns} columns: the bits are 4 or 8, a "
                          "block is a power of 2 of at least 16; this")  # fmt: skip
    if call.has(4):
        raise call.refuse("g_idx, which orders rows by their group,")
    if call.take("weight_prepacked", 0):
        raise call.refuse("weights packed for one processor")
    blocks = -(-inner // block)
    lines = _unpacked("q", "i1", bits, columns, inner)
    if call.has(3):
        lines += _unpacked("z", "i3", bits, columns, blocks)
    else:
        lines += [
            f"zh = Constant<value_int = {1 << bits - 1}>()", "z8 = Cast<to = 2>(zh)",
            f"zs = Constant<value_ints = [{columns}, {blocks}]>()", "ze = Expand(z8, zs)",
            f"z = Cast<to = {_TYPES[bits]}>(ze)",
        ]  # fmt: skip
    lines += [
        f"shape = Constant<value_ints = [{columns}, {blocks}]>()", "s = Reshape(i2, shape)",
        f"w = DequantizeLinear<axis = 1, block_size = {block}>(q, s, z)", "t = Transpose<perm = [1, 0]>(w)",
    ]  # fmt: skip
    return " ".join([*lines, "p = MatMul(i0, t) o0 = Add(p, i5)" if call.has(5) else "o0 = MatMul(i0, t)"])


def _gather(call: Call) -> str:
    """Rows of a table of two axes: of bytes, or of a type of 4 bits. Zero points that are absent are 128, or 0."""
    bits, block, axis = call.take("bits", 4), call.take("block_size", 128), call.take("quantize_axis", 1)
    if call.take("gather_axis", 0) != 0 or axis not in (1, -1):
        raise call.refuse("another gather_axis than 0, or another quantize_axis than 1,")
    if bits not in _TYPES or block < 16 or block & (block - 1):
        raise call.refuse(f"{bits} bits in blocks of {block}: the bits are 4 or 8, a block is a power of 2 of at least "
                          "16; this")  # fmt: skip
    byte = 3 if bits == 4 else 2  # int8 holds both types of 4 bits
    lines = [f"t = Cast<to = {byte}>(i0)", "q = Gather(t, i1)", "s = Gather(i2, i1)"]
    if call.has(3):
        lines += [f"zt = Cast<to = {byte}>(i3)", "z = Gather(zt, i1)"]
    elif bits == 8:
        lines += ["zh = Constant<value_int = 128>()", "z8 = Cast<to = 2>(zh)", "zs = Shape(s)", "z = Expand(z8, zs)"]
    zero = ", z" if call.has(3) or bits == 8 else ""
    return " ".join([*lines, f"o0 = DequantizeLinear<axis = -1, block_size = {block}>(q, s{zero})"])


COMPRESSED: dict[str, Callable[[Call], str]] = {"MatMulNBits": _product, "GatherBlockQuantized": _gather}
"""The body of each definition, as text."""

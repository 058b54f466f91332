"""Elementwise operators that follow each other as one kernel, generated from an expression: one pass over memory.

An `Expression` is a sequence of instructions `(operator, operands)`. Operands are inputs in memory ("a" to "h"),
numbers from the argument block ("p0", "p1", ...) and results of earlier instructions ("t0", "t1", ...); the last
instruction's result is the kernel's. Inputs and results are float32, bool, or bytes, which are read by "RealU8" and
"RealI8" (of the byte, its zero point, its scale) and made by "ToU8" and "ToI8" (of a number, the zero point, and the
limits less the zero point). As text: `t0 = Mul(a, p0); Silu(t0)`.

The functions are those of `activations` and `elementwise`, so results are what the operators give one by one, but for
roundings that fused multiply-add leaves out. A byte's scale is applied by a product that is rounded by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from cpuruntime.compiler.build import generate
from cpuruntime.compiler.kernel import Kernel, factory, kernel, record
from cpuruntime.ops.elementwise import VECTOR_BINARY
from cpuruntime.ops.functions.activations import ACTIVATIONS
from cpuruntime.ops.tiles.loops import DIMENSIONS

Instruction = tuple[str, tuple[str, ...]]
Expression = tuple[Instruction, ...]

INPUTS = "abcdefgh"
NUMBERS = 12
FLOAT, BOOL, UNSIGNED, SIGNED = "f", "b", "u", "i"

# One type for all expressions, so that helpers are compiled for it once; kernels ignore what they do not have.
FUSED = record(
    *(f"{name}{d}" for name in ("size", "target", *INPUTS) for d in range(DIMENSIONS)), "target", *INPUTS,
    **{f"p{index}": "f4" for index in range(NUMBERS)},
)  # fmt: skip


class Function(NamedTuple):
    """Types of the operands and of the result; how it is written, with `{0}`, `{1}` and so on for the operands."""

    takes: str
    gives: str
    text: str


def _activation(op: str) -> Function:
    count = len(ACTIVATIONS[op].parameters)
    arguments = ["{0}", "{1}", "{2}"][: 1 + count] + ["zero"] * (2 - count)
    return Function(FLOAT * (1 + count), FLOAT, f"{op}({', '.join(arguments)})")


ARITHMETIC = {"Add": "+", "Div": "/", "Mul": "*", "Sub": "-"}
COMPARISONS = {"Equal": "==", "Greater": ">", "GreaterOrEqual": ">=", "Less": "<", "LessOrEqual": "<="}
_REAL = "simd.times(simd.to_floats({0}) - {1}, {2})"
# Adding 1.5 * 2^23 leaves no place for a fraction: what is limited to a few hundred is rounded to even.
_ROUNDED = "simd.to_words(simd.minimum(simd.maximum({0}, {2}), {3}) + 12582912.0 - 12582912.0 + {1})"
FUNCTIONS: dict[str, Function] = {
    **{op: _activation(op) for op in ACTIVATIONS},
    **{op: Function("ff", FLOAT, f"{op}({{0}}, {{1}})") for op in VECTOR_BINARY},
    **{op: Function("ff", FLOAT, f"{{0}} {sign} {{1}}") for op, sign in ARITHMETIC.items()},
    **{op: Function("ff", BOOL, f"{{0}} {sign} {{1}}") for op, sign in COMPARISONS.items()},
    "IsNaN": Function("f", BOOL, "{0} != {0}"),
    "And": Function("bb", BOOL, "{0} & {1}"),
    "Or": Function("bb", BOOL, "{0} | {1}"),
    "Xor": Function("bb", BOOL, "{0} ^ {1}"),
    "Not": Function("b", BOOL, "{0} ^ every"),
    "Where": Function("bff", FLOAT, "simd.select({0}, {1}, {2})"),
    "ToBool": Function("f", BOOL, "{0} != zero"),
    "ToFloat": Function("b", FLOAT, "simd.select({0}, one, zero)"),
    "RealU8": Function("uff", FLOAT, _REAL),
    "RealI8": Function("iff", FLOAT, _REAL),
    "ToU8": Function("ffff", UNSIGNED, _ROUNDED),
    "ToI8": Function("ffff", SIGNED, _ROUNDED),
}


def result_type(expression: Expression) -> str:
    """`FLOAT`, `BOOL`, `UNSIGNED` or `SIGNED`."""
    return FUNCTIONS[expression[-1][0]].gives


def input_types(expression: Expression) -> str:
    """The type of each input, as `result_type`, in order of their letters."""
    found: dict[str, str] = {}
    for op, operands in expression:
        for operand, kind in zip(operands, FUNCTIONS[op].takes):
            if operand in INPUTS:
                found[operand] = kind
    return "".join(kind for _, kind in sorted(found.items()))


def number_count(expression: Expression) -> int:
    """How many numbers the expression takes from the argument block."""
    return len({operand for _, operands in expression for operand in operands if operand[0] == "p"})


def text(expression: Expression) -> str:
    """The expression for people; a result that is used once is written where it is used."""
    names = [operand for _, operands in expression for operand in operands]
    written: dict[str, str] = {}
    lines: list[str] = []
    for index, (op, operands) in enumerate(expression):
        name = f"t{index}"
        call = f"{op}({', '.join(written.get(operand, operand) for operand in operands)})"
        if names.count(name) == 1 or index == len(expression) - 1:
            written[name] = call
        else:
            lines.append(f"{name} = {call}")
    return "; ".join([*lines, written[f"t{len(expression) - 1}"]])


@lru_cache(maxsize=1024)
@factory
def fused_kernel(expression: Expression, still: str) -> Kernel:
    """target = the expression of the inputs, elementwise, on the loop nest of `loops`.

    The inputs in `still` have stride 0 or `REPEAT` in dimension 5, the others follow each other in memory there, as the
    target's elements do. Fields of the argument block: the sizes; `target`, `a`, `b`, ... with their strides; the
    numbers `p0`, `p1`, ... The kernel's name is the expression's text, and its source lies in the kernel cache.
    Sources stay in memory for the 1024 kernels used last; machine code, once loaded, for the life of the process.
    """
    source = _source(expression, still)
    name = f"fused_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    described = text(expression) + (f" [one {', '.join(still)} for each row]" if still else "")
    return kernel(FUSED, name=described, family="fused")(generate(name, source).run)


def _source(expression: Expression, still: str) -> str:
    """The module of a kernel."""
    types = input_types(expression)
    inputs, operators = INPUTS[: len(types)], sorted({op for op, _ in expression})
    moving = [(name, kind) for name, kind in zip(inputs, types) if name not in still]
    lines = [
        f'"""{text(expression)}',
        "",
        "A kernel of cpuruntime, generated for a chain of elementwise operators. This copy is for reading only.",
        '"""',
        "",
        "from cpuruntime.compiler.isa import LANES",
        "from cpuruntime.compiler.kernel import lazy",
        "from cpuruntime.ops.elementwise import VECTOR_BINARY, same_everywhere",
        "from cpuruntime.ops.functions.activations import ACTIVATIONS",
        "from cpuruntime.ops.tiles.loops import piece, place, share",
        "",
        'byte_lanes = lazy("cpuruntime.compiler.byte_lanes")',
        'simd = lazy("cpuruntime.compiler.simd")',
        *(f'{op} = ACTIVATIONS["{op}"].function' for op in operators if op in ACTIVATIONS),
        *(f'{op} = VECTOR_BINARY["{op}"]' for op in operators if op in VECTOR_BINARY),
        "",
        "",
        "def run(block, thread, threads):",
        "    zero, one = simd.broadcast(0.0), simd.broadcast(1.0)",
        "    every = one == one",
        *(f"    p{index} = simd.broadcast(block.p{index})" for index in range(number_count(expression))),
        "    item, end = share(block, thread, threads)",
        "    while item < end:",
        "        rows, count, group, y, begin, item = piece(block, item, end)",
        *(f"        {_place(name)}" for name in ("target", *inputs)),
        "        whole = count - count % LANES",
        "        for _ in range(rows):",
        *(f"            {name} = {_still(name, kind)}" for name, kind in zip(inputs, types) if name in still),
        "            for i in range(0, whole, LANES):",
        *(f"                {name} = {_load(name, kind)}" for name, kind in moving),
        *(f"                {line}" for line in _calls(expression)),
        f"                {_store(result_type(expression), f't{len(expression) - 1}')}",
        "            if whole < count:",
        "                i, lanes = whole, count - whole",
        *(f"                {name} = {_load(name, kind, '_first')}" for name, kind in moving),
        *(f"                {line}" for line in _calls(expression)),
        f"                {_store(result_type(expression), f't{len(expression) - 1}', '_first')}",
        *(f"            {name}_at += block.{name}4" for name in ("target", *inputs)),
    ]
    return "\n".join(lines) + "\n"


def _place(name: str) -> str:
    strides = ", ".join(f"block.{name}{d}" for d in range(DIMENSIONS))
    return f"{name}_at = place(block, group, y, begin, block.{name}, {strides})"


_LOADS = {
    FLOAT: "simd.load{first}({place})",
    BOOL: "simd.load{first}_flags({place})",
    UNSIGNED: "byte_lanes.load{first}_words({place})",
    SIGNED: "byte_lanes.load{first}_signed({place})",
}
_STORES = {
    FLOAT: "simd.store{first}({place})",
    BOOL: "simd.store{first}_flags({place})",
    UNSIGNED: "byte_lanes.store{first}_words({place})",
    SIGNED: "byte_lanes.store{first}_words({place})",
}
_REPEATED = {
    FLOAT: "same_everywhere({name}_at, block.{name}5)",
    BOOL: "simd.broadcast(simd.load_u8({name}_at)) != zero",
    UNSIGNED: "byte_lanes.load_same_words({name}_at)",
    SIGNED: "byte_lanes.load_same_signed({name}_at)",
}


def _still(name: str, kind: str) -> str:
    return _REPEATED[kind].format(name=name)


def _load(name: str, kind: str, first: str = "") -> str:
    place = f"{name}_at + {_step(kind)}{', lanes' if first else ''}"
    return _LOADS[kind].format(first=first, place=place)


def _store(kind: str, value: str, first: str = "") -> str:
    place = f"target_at + {_step(kind)}, {value}{', lanes' if first else ''}"
    return _STORES[kind].format(first=first, place=place)


def _step(kind: str) -> str:
    return "4 * i" if kind == FLOAT else "i"


def _calls(expression: Expression) -> Sequence[str]:
    return [f"t{index} = {FUNCTIONS[op].text.format(*operands)}" for index, (op, operands) in enumerate(expression)]

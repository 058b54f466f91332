"""One pass over memory: what each element of the result is, of elements of inputs that lie at strides of their own.

A work item computes an element. Chains of operators, broadcast operators, casts, and everything that moves elements
(transposes, slices, concatenations) are kernels of this template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.functions import FUNCTIONS, WHOLE, call
from cpuruntime.devices.gpu.kernels.prelude import MEMORY, REGISTER, cast, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

ENTRY = "elementwise"
Instruction = tuple[str, tuple[str, ...]]

FLAT, STILL, WALK = "flat", "still", "walk"
"""How an operand is read: at the element's own number, at one place, or by strides."""


@dataclass(frozen=True)
class Elementwise:
    """What the text depends on: `walks` are of the target and then of the inputs a, b, c and so on.

    Attributes:
        expression: instructions as in `ops.fused`; numbers are p0, p1 and so on. Empty where a is only copied.
        types: element types of the target and of the inputs, in memory.
        rank: the extents of the walk.
        numbers: how many float arguments.
    """

    expression: tuple[Instruction, ...]
    types: tuple[str, ...]
    walks: tuple[str, ...]
    rank: int
    numbers: int = 0

    @property
    def source(self) -> KernelSource:
        """The kernel. Its arguments: target and inputs; the count of elements; all extents but the first; for each
        operand where it begins and, where it walks, its strides; the numbers."""
        return _source(self)


def names(count: int) -> tuple[str, ...]:
    """The names of the target and of its inputs, `count` in all."""
    return ("target", *"abcdefghijklmnopqrstuvw"[: count - 1])


@lru_cache(maxsize=4096)
def _source(kernel: Elementwise) -> KernelSource:
    operands = names(len(kernel.types))
    arguments = [
        f"GLOBAL {'const ' if name != 'target' else ''}{MEMORY[kind]} *{name}"
        for name, kind in zip(operands, kernel.types)
    ]
    arguments += ["int count", *(f"int size{d}" for d in range(1, kernel.rank))]
    for name, walk in zip(operands, kernel.walks):
        arguments.append(f"int {name}_begin")
        if walk == WALK:
            arguments += [f"int {name}{d}" for d in range(kernel.rank)]
    arguments += [f"float p{index}" for index in range(kernel.numbers)]
    text = f"KERNEL void {ENTRY}({', '.join(arguments)}) {{\n  int i = WORK_ITEM;\n  if (i >= count) return;\n"
    if WALK in kernel.walks:
        text += "  int rest = i;\n"
        for d in range(kernel.rank - 1, 0, -1):
            text += f"  int i{d} = rest % size{d}; rest /= size{d};\n"
        text += "  int i0 = rest;\n"
    for name, walk in zip(operands, kernel.walks):
        place = {FLAT: " + i", STILL: ""}.get(walk)
        if place is None:
            place = "".join(f" + i{d} * {name}{d}" for d in range(kernel.rank))
        text += f"  int {name}_at = {name}_begin{place};\n"
    return KernelSource(ENTRY, text + _compute(kernel) + "}\n")


def _compute(kernel: Elementwise) -> str:
    """Loads, instructions and the store."""
    target, *inputs = kernel.types
    held: dict[str, str] = {}
    text = ""
    for name, kind in zip(names(len(kernel.types))[1:], inputs):
        held[name] = kind
        text += f"  {REGISTER[kind]} v_{name} = {load(kind, name, f'{name}_at')};\n"
    last = "a"
    for index, (op, operands) in enumerate(kernel.expression):
        kinds = [held.get(operand, "f32") for operand in operands]
        written = [operand if operand[0] == "p" else f"v_{operand}" for operand in operands]
        result, value = _instruction(op, kinds, written)
        last = f"t{index}"
        held[last] = result
        text += f"  {REGISTER[result]} v_{last} = {value};\n"
    value = f"v_{last}" if _same(held[last], target) else cast(held[last], target, f"v_{last}")
    return text + f"  {store(target, 'target', 'target_at', value)}\n"


def _same(held: str, target: str) -> bool:
    return (REGISTER[held] == REGISTER[target] and "boolean" not in (held, target)) or held == target


FLAGS = {"Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "ToBool"}
"""Functions that give flags."""


def _instruction(op: str, kinds: list[str], written: list[str]) -> tuple[str, str]:
    """The type of the result, and the expression."""
    if op.startswith("Cast "):
        target = op.partition(" ")[2]
        return target, cast(kinds[0], target, written[0])
    value_kind = kinds[1] if op == "Where" else kinds[0]
    whole = value_kind not in ("f32", "f16", "boolean")
    text = call(op, written, WHOLE if whole else FUNCTIONS)
    return ("boolean" if op in FLAGS else "f32" if op == "ToFloat" or value_kind == "f16" else value_kind), text

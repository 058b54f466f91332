"""Attention in one kernel: scores, softmax and the sum of values, without the scores in memory.

Keys are taken block by block. When a block has a greater score than those before, what was summed shrinks by the
exponential of the difference. Element (r, c) of an operand's head lies at `r * row + c * column`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.prelude import MEMORY, VECTOR, load
from cpuruntime.devices.gpu.kernels.prelude import store as stored
from cpuruntime.gpu_runtime.interface import KernelSource

ENTRY = "attention"
SIDE = 16
"""Queries and keys of a block of a work group, which has a work item for each pair."""
LOCAL_MEMORY = 15 * 1024
"""Bytes that the tiles of a work group may take."""

_STRIDES = ("outer", "inner", "row", "column")
ARGUMENTS = (
    "queries", "keys", "heads",
    *(f"{operand}_{name}" for operand in "qkvt" for name in ("begin", *_STRIDES)),
    "m_begin", "m_outer", "m_inner", "m_row", "m_step", "offset",
)  # fmt: skip
"""The ints that follow the buffers query, key, value, target and, where there is one, mask; then comes the scale."""


@dataclass(frozen=True)
class Attention:
    """What the text depends on: element types, `depth` of a key and `width` of a value; `mask` is "" without one.

    With `is_causal` a query r sees the keys up to `r + offset`. `is_local` is the form for GPUs.
    """

    query: str
    key: str
    value: str
    target: str
    depth: int
    width: int
    is_local: bool
    mask: str = ""
    is_causal: bool = False

    @property
    def is_possible(self) -> bool:
        """Whether tiles fit in local memory, or, in the form for processors, rows are whole vectors."""
        if self.is_local:
            return (2 * SIDE * (self.depth + 1) + 2 * SIDE * (SIDE + 1)) * 4 <= LOCAL_MEMORY and self.width <= 8 * SIDE
        return self.depth % VECTOR == 0 and self.width % VECTOR == 0 and max(self.depth, self.width) <= 128

    @property
    def source(self) -> KernelSource:
        """The kernel."""
        return _source(self)


@lru_cache(maxsize=64)
def _source(kernel: Attention) -> KernelSource:
    pointers = [f"GLOBAL const {MEMORY[getattr(kernel, name)]} *{name}" for name in ("query", "key", "value")]
    pointers += [f"GLOBAL {MEMORY[kernel.target]} *target"]
    pointers += [f"GLOBAL const {MEMORY[kernel.mask]} *mask"] if kernel.mask else []
    side = SIDE if kernel.is_local else 1
    text = f"KERNEL GROUP({side}, {side}) void {ENTRY}({', '.join(pointers)},\n    "
    text += ", ".join(f"int {name}" for name in ARGUMENTS) + ", float scale) {\n"
    text += "  int head = GZ % heads, batch = GZ / heads;\n"
    for name in "qkvtm" if kernel.mask else "qkvt":
        text += f"  int {name}_at = {name}_begin + batch * {name}_outer + head * {name}_inner;\n"
    return KernelSource(ENTRY, text + (_local(kernel) if kernel.is_local else _register(kernel)) + "}\n")


def _end(kernel: Attention, row: str) -> str:
    """Statements that declare `end`, behind the last key that a query sees."""
    text = "  int end = keys;\n"
    if kernel.is_causal:
        text += f"  end = {row} + offset + 1 < end ? {row} + offset + 1 : end;\n"
    return text


def _factor(kernel: Attention) -> str:
    """Statements that declare `factor`; a query that sees no key gives zeros."""
    return f"  float factor = {'sum == 0.0f ? 0.0f : ' if kernel.is_causal else ''}1.0f / sum;\n"


def _local(kernel: Attention) -> str:
    """A work group takes a block of queries, and one block of keys after the other."""
    parts = [(f"o{w}", f"(LX + {w * SIDE})") for w in range(-(-kernel.width // SIDE))]
    pitch = kernel.depth + 1
    seen = "k < keys && k <= row + offset" if kernel.is_causal else "k < keys"
    mask = load(kernel.mask, "mask", "m_at + row * m_row + k * m_step") if kernel.mask else ""
    added = f"    if (row < queries && k < keys) s += {mask};\n" if kernel.mask else ""
    text = f"""  LOCAL float q_tile[{SIDE}][{pitch}], k_tile[{SIDE}][{pitch}];
  LOCAL float scores[{SIDE}][{SIDE + 1}], weights[{SIDE}][{SIDE + 1}];
  int row = GX * {SIDE} + LY;
  for (int d = LX; d < {kernel.depth}; d += {SIDE})
    q_tile[LY][d] = row < queries ? {load(kernel.query, "query", "q_at + row * q_row + d * q_column")} * scale : 0.0f;
  float most = -INFINITY, sum = 0.0f, {", ".join(f"{name} = 0.0f" for name, _ in parts)};
{_end(kernel, f"GX * {SIDE} + {SIDE - 1}")}  for (int k0 = 0; k0 < end; k0 += {SIDE}) {{
    int k = k0 + LX, own = k0 + LY;
    for (int d = LX; d < {kernel.depth}; d += {SIDE})
      k_tile[LY][d] = own < keys ? {load(kernel.key, "key", "k_at + own * k_row + d * k_column")} : 0.0f;
    BARRIER;
    float s = 0.0f;
    for (int d = 0; d < {kernel.depth}; d++) s = q_tile[LY][d] * k_tile[LX][d] + s;
{added}    s = {seen} ? s : -INFINITY;
    scores[LY][LX] = s;
    BARRIER;
    float best = most;
    for (int j = 0; j < {SIDE}; j++) best = fmax(best, scores[LY][j]);
    float base = best == -INFINITY ? 0.0f : best, shrink = exp(most - base);
    weights[LY][LX] = exp(s - base);
    BARRIER;
    most = best;
    sum *= shrink;
"""
    text += "".join(f"    {name} *= shrink;\n" for name, _ in parts)
    text += f"    for (int j = 0; j < {SIDE} && k0 + j < keys; j++) {{\n"
    text += "      float weight = weights[LY][j];\n      int at = v_at + (k0 + j) * v_row;\n      sum += weight;\n"
    for name, column in parts:
        safe = f"({column} < {kernel.width} ? {column} : 0)"
        text += f"      {name} = weight * {load(kernel.value, 'value', f'at + {safe} * v_column')} + {name};\n"
    text += f"    }}\n  }}\n{_factor(kernel)}"
    for name, column in parts:
        place = f"t_at + row * t_row + {column} * t_column"
        text += f"  if (row < queries && {column} < {kernel.width}) "
        text += stored(kernel.target, "target", place, f"{name} * factor") + "\n"
    return text


def _register(kernel: Attention) -> str:
    """A work item takes a query, and eight keys after eight."""
    depths, widths = range(kernel.depth // VECTOR), range(kernel.width // VECTOR)
    text = f"  int row = GX;\n{_end(kernel, 'row')}"
    for d in depths:
        text += f"  float8 q{d} = VLOAD_{kernel.query}(query, q_at + row * q_row + {d * VECTOR}) * scale;\n"
    text += "  float8 " + ", ".join(f"o{w} = 0.0f" for w in widths) + ";\n"
    text += "  float most = -INFINITY, sum = 0.0f;\n  for (int k0 = 0; k0 < end; k0 += 8) {\n    float8 s, t;\n"
    for j in range(VECTOR):
        text += f"    int r{j} = k0 + {j} < keys ? k0 + {j} : keys - 1;\n"
        for d in depths:
            found = f"VLOAD_{kernel.key}(key, k_at + r{j} * k_row + {d * VECTOR})"
            text += f"    t = q{d} * {found}{' + t' if d else ''};\n"
        text += f"    s.s{j} = ((t.s0 + t.s1) + (t.s2 + t.s3)) + ((t.s4 + t.s5) + (t.s6 + t.s7));\n"
        if kernel.mask:
            text += f"    s.s{j} += {load(kernel.mask, 'mask', f'm_at + row * m_row + r{j} * m_step')};\n"
        text += f"    if (k0 + {j} >= end) s.s{j} = -INFINITY;\n"
    pairs = "fmax(fmax(fmax(s.s0, s.s1), fmax(s.s2, s.s3)), fmax(fmax(s.s4, s.s5), fmax(s.s6, s.s7)))"
    text += f"""    float best = fmax(most, {pairs});
    float base = best == -INFINITY ? 0.0f : best, shrink = exp(most - base);
    s = exp(s - base);
    most = best;
    sum = sum * shrink + (((s.s0 + s.s1) + (s.s2 + s.s3)) + ((s.s4 + s.s5) + (s.s6 + s.s7)));
"""
    for w in widths:
        text += f"    o{w} *= shrink;\n"
        for j in range(VECTOR):
            found = f"VLOAD_{kernel.value}(value, v_at + r{j} * v_row + {w * VECTOR})"
            text += f"    o{w} = s.s{j} * {found} + o{w};\n"
    text += f"  }}\n{_factor(kernel)}"
    for w in widths:
        text += f"  VSTORE_{kernel.target}(target, t_at + row * t_row + {w * VECTOR}, o{w} * factor);\n"
    return text

"""Rows: softmax, norms and reductions. A work group, or on a processor one work item, takes a row.

Element k of row r lies at `r / inner * length * inner + r % inner + k * inner`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.functions import FUNCTIONS, call, number
from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

SOFTMAX, NORM, REDUCE, ARGMAX = "softmax", "normalise", "reduce", "argmax"

# How a reduction begins, adds x to `sum`, joins two partial results, and ends; {n} is the length.
REDUCTIONS: dict[str, tuple[str, str, str, str]] = {
    "ReduceSum": ("0.0f", "{0} + {1}", "{0} + {1}", "sum"),
    "ReduceMean": ("0.0f", "{0} + {1}", "{0} + {1}", "sum / (float)length"),
    "ReduceSumSquare": ("0.0f", "{0} + {1} * {1}", "{0} + {1}", "sum"),
    "ReduceL1": ("0.0f", "{0} + fabs({1})", "{0} + {1}", "sum"),
    "ReduceL2": ("0.0f", "{0} + {1} * {1}", "{0} + {1}", "sqrt(sum)"),
    "ReduceLogSum": ("0.0f", "{0} + {1}", "{0} + {1}", "log(sum)"),
    "ReduceProd": ("1.0f", "{0} * {1}", "{0} * {1}", "sum"),
    "ReduceMax": ("(-INFINITY)", "fmax({0}, {1})", "fmax({0}, {1})", "sum"),
    "ReduceMin": ("INFINITY", "fmin({0}, {1})", "fmin({0}, {1})", "sum"),
}

LANES = 4
"""Partial results of a work item: additions do not wait for each other."""


def _accumulate(group: int, name: str, start: str, add: str, join: str, element: str) -> str:
    """Statements that declare `name` and reduce `element`, an expression of k, over the row; all work items get it.

    {0} and {1} in `add` and `join` are the partial result and what is added.
    """
    lanes = [f"{name}{lane}" for lane in range(LANES)]
    text = f"  float {', '.join(f'{lane} = {start}' for lane in lanes)};\n  {{ int k = LX;\n"
    text += f"  for (; k + {(LANES - 1) * group} < length; k += {LANES * group}) {{\n"
    for lane, partial in enumerate(lanes):
        x = element.replace("@k", f"(k + {lane * group})")
        text += f"    {{ float x = {x}; {partial} = {add.format(partial, 'x')}; }}\n"
    x = element.replace("@k", "k")
    text += f"  }}\n  for (; k < length; k += {group}) {{\n"
    text += f"    float x = {x}; {lanes[0]} = {add.format(lanes[0], 'x')};\n  }} }}\n"
    pairs = join.format(join.format(lanes[0], lanes[1]), "(" + join.format(lanes[2], lanes[3]) + ")")
    text += f"  float {name} = {pairs};\n"
    if group > 1:
        text += f"  part[LX] = {name};\n  BARRIER;\n"
        text += f"  for (int step = {group // 2}; step > 0; step /= 2) {{\n"
        text += f"    if (LX < step) part[LX] = {join.format('part[LX]', 'part[LX + step]')};\n    BARRIER;\n  }}\n"
        text += f"  {name} = part[0];\n  BARRIER;\n"
    return text


def _begin(group: int) -> str:
    """Where a row begins."""
    part = f"  LOCAL float part[{group}];\n" if group > 1 else ""
    return part + "  int row = GX, first = row / inner * length * inner + row % inner;\n"


@dataclass(frozen=True)
class Softmax:
    """exp(x * scale + mask - max) / sum; `logarithm` of it for LogSoftmax.

    A mask has an element for each of the row; it begins at a place that follows from the row's number by strides of
    three levels, `row = (outer * middle_size + middle) * last_size + last`. With `is_causal` element k of a row counts
    only up to `last + offset`.
    """

    source_type: str
    target_type: str
    group: int
    mask: str = ""
    is_causal: bool = False
    logarithm: bool = False

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target, mask; length, inner, middle_size, last_size, four strides and the begin of the
        mask where there is one, offset where causal; scale."""
        return _softmax(self)


@lru_cache(maxsize=256)
def _softmax(kernel: Softmax) -> KernelSource:
    group = kernel.group
    source, target = MEMORY[kernel.source_type], MEMORY[kernel.target_type]
    mask = f", GLOBAL const {MEMORY[kernel.mask]} *mask" if kernel.mask else ""
    value = f"{load(kernel.source_type, 'source', 'first + @k * inner')} * scale"
    begin = "  int last = row % last_size, middle = row / last_size % middle_size;\n"
    begin += "  int outer = row / last_size / middle_size, whole = length;\n"
    if kernel.mask:
        begin += "  int mask_at = mask_begin + outer * mask_outer + middle * mask_middle + last * mask_last;\n"
        value += f" + {load(kernel.mask, 'mask', 'mask_at + @k * mask_step')}"
    if kernel.is_causal:
        begin += "  length = last + offset + 1 < length ? last + offset + 1 : length;\n"
    text = f"""KERNEL GROUP({group}, 1) void {SOFTMAX}(GLOBAL const {source} *source, GLOBAL {target} *target{mask},
    int length, int inner, int middle_size, int last_size, int mask_begin, int mask_outer, int mask_middle,
    int mask_last, int mask_step, int offset, float scale) {{
{_begin(group)}{begin}"""
    text += _accumulate(group, "most", "(-INFINITY)", "fmax({0}, {1})", "fmax({0}, {1})", value)
    text += "  most = most == -INFINITY ? 0.0f : most;\n"
    text += _accumulate(group, "sum", "0.0f", "{0} + {1}", "{0} + {1}", f"exp({value} - most)")
    shown = value.replace("@k", "k")
    result = f"{shown} - most - shift" if kernel.logarithm else f"exp({shown} - most) * factor"
    text += "  float factor = 1.0f / sum;\n" if not kernel.logarithm else "  float shift = log(sum);\n"
    text += f"  for (int k = LX; k < length; k += {group}) {{ float v = {result}; "
    text += store(kernel.target_type, "target", "first + k * inner", "v") + " }\n"
    if kernel.is_causal:
        text += f"  for (int k = length + LX; k < whole; k += {group}) "
        text += store(kernel.target_type, "target", "first + k * inner", "0.0f") + "\n"
    return KernelSource(SOFTMAX, text + "}\n")


@dataclass(frozen=True)
class Norm:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift, then an activation; without mean where `is_rms`.

    Scale and shift, of f32, are those of `k` ("each"), or of channel `row % rows_of * channels + k / spatial`
    ("channel"); or there are none ("").
    """

    source_type: str
    target_type: str
    group: int
    is_rms: bool = False
    scale: str = ""
    shift: str = ""
    activation: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target, scale, shift; length, inner, rows_of, channels, spatial; epsilon."""
        return _norm(self)


@lru_cache(maxsize=256)
def _norm(kernel: Norm) -> KernelSource:
    group = kernel.group
    factors = [name for name in ("scale", "shift") if getattr(kernel, name)]
    pointers = "".join(f", GLOBAL const float *{name}" for name in factors)
    value = load(kernel.source_type, "source", "first + @k * inner")
    text = f"""KERNEL GROUP({group}, 1) void {NORM}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target{pointers}, int length, int inner, int rows_of, int channels,
    int spatial, float epsilon) {{
{_begin(group)}"""
    if kernel.is_rms:
        text += "  float mean = 0.0f;\n"
    else:
        text += _accumulate(group, "mean", "0.0f", "{0} + {1}", "{0} + {1}", value) + "  mean /= (float)length;\n"
    square = "{0} + ({1} - mean) * ({1} - mean)"
    text += _accumulate(group, "square", "0.0f", square, "{0} + {1}", value)
    text += "  float factor = 1.0f / sqrt(square / (float)length + epsilon);\n"
    text += f"  for (int k = LX; k < length; k += {group}) {{\n"
    text += f"    float v = ({value.replace('@k', 'k')} - mean) * factor;\n"
    places = {"each": "k", "channel": "row % rows_of * channels + k / spatial"}
    if kernel.scale:
        text += f"    v *= scale[{places[kernel.scale]}];\n"
    if kernel.shift:
        text += f"    v += shift[{places[kernel.shift]}];\n"
    text += f"    v = {call(kernel.activation, ['v', *map(number, kernel.numbers)], FUNCTIONS)};\n    "
    return KernelSource(NORM, text + store(kernel.target_type, "target", "first + k * inner", "v") + "\n  }\n}\n")


@dataclass(frozen=True)
class Reduce:
    """Each row to one element."""

    op: str
    source_type: str
    target_type: str
    group: int

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target; length, inner."""
        return _reduce(self)


@lru_cache(maxsize=256)
def _reduce(kernel: Reduce) -> KernelSource:
    start, add, join, end = REDUCTIONS[kernel.op]
    text = f"""KERNEL GROUP({kernel.group}, 1) void {REDUCE}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target, int length, int inner) {{
{_begin(kernel.group)}"""
    text += _accumulate(kernel.group, "sum", start, add, join, load(kernel.source_type, "source", "first + @k * inner"))
    return KernelSource(REDUCE, text + f"  if (LX == 0) {store(kernel.target_type, 'target', 'row', end)}\n}}\n")


@dataclass(frozen=True)
class Argmax:
    """Where in each row the greatest element lies, or the least; of equal ones the first, or the last. A work item
    takes a row."""

    source_type: str
    is_least: bool = False
    is_last: bool = False

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target of i64; count, length, inner."""
        return _argmax(self)


@lru_cache(maxsize=16)
def _argmax(kernel: Argmax) -> KernelSource:
    better = ("<" if kernel.is_least else ">") + ("=" if kernel.is_last else "")
    found = load(kernel.source_type, "source", "first + k * inner")
    return KernelSource(
        ARGMAX,
        f"""KERNEL void {ARGMAX}(GLOBAL const {MEMORY[kernel.source_type]} *source, GLOBAL long *target,
    int count, int length, int inner) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int first = i / inner * length * inner + i % inner, k = 0, place = 0;
  float best = {found};
  for (k = 1; k < length; k++) {{
    float v = {found};
    if (v {better} best) {{ best = v; place = k; }}
  }}
  target[i] = place;
}}
""",
    )

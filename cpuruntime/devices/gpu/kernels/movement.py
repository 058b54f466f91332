"""Elements in other places: padding, gathering by indices, and sums of a few weighted elements along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

PAD, GATHER, TAPS = "pad", "gather", "taps"


@dataclass(frozen=True)
class Pad:
    """A tensor with a border along its last three of four axes, or with elements between its own.

    Work items go over the target of extents [planes, height, width]; target row y is source row
    `(y + y_begin) / y_step` where that is whole and inside, else `value`. With `phases` the target is
    [planes, phases, phases, height, width], and row y of phase p is `y * phases + p` of a target without phases.
    `mode` is "constant", "edge" or "reflect".
    """

    source_type: str
    target_type: str
    mode: str = "constant"

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target; count, planes are what is left; height, width, y_phases, x_phases of the target;
        rows, columns of the source; y_begin, x_begin; y_step, x_step; the value."""
        return _pad(self)


_WRAP = {
    "edge": "  {0} = {0} < 0 ? 0 : {0} >= {1} ? {1} - 1 : {0};\n",
    "reflect": (
        "  {{ int period = {1} > 1 ? 2 * {1} - 2 : 1; {0} = ({0} % period + period) % period;\n"
        "  {0} = {0} >= {1} ? period - {0} : {0}; }}\n"
    ),
    "constant": "",
}


@lru_cache(maxsize=256)
def _pad(kernel: Pad) -> KernelSource:
    found = load(kernel.source_type, "source", "(plane * rows + y) * columns + x")
    wrap = _WRAP[kernel.mode].format("y", "rows") + _WRAP[kernel.mode].format("x", "columns")
    return KernelSource(
        PAD,
        f"""KERNEL void {PAD}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target,
    int count, int height, int width, int y_phases, int x_phases, int rows, int columns, int y_begin, int x_begin,
    int y_step, int x_step, float value) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int x = i % width, rest = i / width;
  int y = rest % height; rest /= height;
  int x_phase = rest % x_phases; rest /= x_phases;
  int y_phase = rest % y_phases, plane = rest / y_phases;
  x = x * x_phases + x_phase + x_begin;
  y = y * y_phases + y_phase + y_begin;
  int whole = x % x_step == 0 && y % y_step == 0;
  x /= x_step; y /= y_step;
{wrap}  float v = value;
  if (whole && x >= 0 && x < columns && y >= 0 && y < rows) v = {found};
  {store(kernel.target_type, "target", "i", "v")}
}}
""",
    )


@dataclass(frozen=True)
class PadRows:
    """The same of a constant border and whole steps, a row of the target a work item: for processors."""

    source_type: str
    target_type: str

    @property
    def source(self) -> KernelSource:
        """The kernel: as `Pad`, but `count` are rows."""
        return _pad_rows(self)


@lru_cache(maxsize=256)
def _pad_rows(kernel: PadRows) -> KernelSource:
    found = load(kernel.source_type, "source", "from + x * x_phases")
    fill = store(kernel.target_type, "target", "to + x", "value")
    return KernelSource(
        PAD,
        f"""KERNEL void {PAD}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target,
    int count, int height, int width, int y_phases, int x_phases, int rows, int columns, int y_begin, int x_begin,
    int y_step, int x_step, float value) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int y = i % height, rest = i / height, x_phase = rest % x_phases; rest /= x_phases;
  int y_phase = rest % y_phases, plane = rest / y_phases, to = i * width, x = 0;
  y = y * y_phases + y_phase + y_begin;
  int begin = x_phase + x_begin, from = (plane * rows + y) * columns + begin;
  int first = begin < 0 ? (x_phases - 1 - begin) / x_phases : 0;
  int last = begin < columns ? (columns - begin + x_phases - 1) / x_phases : 0;
  first = y < 0 || y >= rows || first > width ? width : first;
  last = last > width ? width : last;
  for (; x < first; x++) {fill}
  for (; x < last; x++) {store(kernel.target_type, "target", "to + x", found)}
  for (; x < width; x++) {fill}
}}
""",
    )


@dataclass(frozen=True)
class Gather:
    """Slices along an axis by indices, which count from the end where they are negative and stay inside."""

    data_type: str
    index_type: str
    target_type: str

    @property
    def source(self) -> KernelSource:
        """The kernel: data, indices, target; count, indices in a row, length of the axis, inner elements. Of
        GatherElements indices are read element by element where `each` is 1."""
        return _gather(self)


@lru_cache(maxsize=256)
def _gather(kernel: Gather) -> KernelSource:
    data, index, target = (MEMORY[kind] for kind in (kernel.data_type, kernel.index_type, kernel.target_type))
    return KernelSource(
        GATHER,
        f"""KERNEL void {GATHER}(GLOBAL const {data} *data, GLOBAL const {index} *indices, GLOBAL {target} *target,
    int count, int many, int length, int inner, int each) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int r = i % inner, rest = i / inner, j = rest % many, outer = rest / many;
  {index} found = indices[each ? i : j];
  found = found < 0 ? found + length : found;
  int at = found < 0 ? 0 : found >= length ? length - 1 : (int)found;
  {store(kernel.target_type, "target", "i", load(kernel.data_type, "data", "(outer * length + at) * inner + r"))}
}}
""",
    )


@dataclass(frozen=True)
class Taps:
    """Each element a sum of some along an axis, by tables [target extent, taps] of indices and weights; an index of -1
    gives the number `outside`."""

    source_type: str
    target_type: str

    @property
    def source(self) -> KernelSource:
        """The kernel: source, indices, weights, target; count, taps, extents of the axis in the source and the target,
        inner elements; the number outside."""
        return _taps(self)


@lru_cache(maxsize=64)
def _taps(kernel: Taps) -> KernelSource:
    found = load(kernel.source_type, "source", "(outer * length + at) * inner + r")
    return KernelSource(
        TAPS,
        f"""KERNEL void {TAPS}(GLOBAL const {MEMORY[kernel.source_type]} *source, GLOBAL const int *indices,
    GLOBAL const float *weights, GLOBAL {MEMORY[kernel.target_type]} *target,
    int count, int taps, int length, int extent, int inner, float outside) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int r = i % inner, rest = i / inner, t = rest % extent, outer = rest / extent;
  float sum = 0.0f;
  for (int k = 0; k < taps; k++) {{
    int at = indices[t * taps + k];
    sum += weights[t * taps + k] * (at < 0 ? outside : {found});
  }}
  {store(kernel.target_type, "target", "i", "sum")}
}}
""",
    )

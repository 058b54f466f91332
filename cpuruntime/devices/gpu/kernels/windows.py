"""Windows: pools over up to three axes, and local response normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

POOL, LRN = "pool", "lrn"


@dataclass(frozen=True)
class Pool:
    """The greatest element or the mean of a window; the mean divides by the elements inside, or with `counts_padding`
    by those inside of the padded input."""

    source_type: str
    target_type: str
    is_mean: bool
    counts_padding: bool = False

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target; count, extents of the source, the target and the window, strides, dilations,
        padding before and after, each for z, y and x."""
        return _pool(self)


@lru_cache(maxsize=64)
def _pool(kernel: Pool) -> KernelSource:
    found = load(kernel.source_type, "source", "((plane * frames + z) * rows + y) * columns + x")
    start, add = "-INFINITY", "sum = v > sum || v != v ? v : sum;"
    if kernel.is_mean:
        start, add = "0.0f", "sum += v; many++;"
    many = "" if not kernel.counts_padding else """
  many = 0;
  for (int o = 0; o < z_window; o++) for (int p = 0; p < y_window; p++) for (int q = 0; q < x_window; q++) {
    many += z0 + o * z_dilation < frames + z_after && y0 + p * y_dilation < rows + y_after
        && x0 + q * x_dilation < columns + x_after;
  }"""
    end = "sum / (float)many" if kernel.is_mean else "sum"
    return KernelSource(
        POOL,
        f"""KERNEL void {POOL}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target,
    int count, int frames, int rows, int columns, int depth, int height, int width, int z_window, int y_window,
    int x_window, int z_stride, int y_stride, int x_stride, int z_dilation, int y_dilation, int x_dilation,
    int z_before, int y_before, int x_before, int z_after, int y_after, int x_after) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int x0 = i % width * x_stride - x_before, rest = i / width;
  int y0 = rest % height * y_stride - y_before; rest /= height;
  int z0 = rest % depth * z_stride - z_before, plane = rest / depth;
  float sum = {start};
  int many = 0;
  for (int o = 0; o < z_window; o++) {{
    int z = z0 + o * z_dilation;
    if (z < 0 || z >= frames) continue;
    for (int p = 0; p < y_window; p++) {{
      int y = y0 + p * y_dilation;
      if (y < 0 || y >= rows) continue;
      for (int q = 0; q < x_window; q++) {{
        int x = x0 + q * x_dilation;
        if (x < 0 || x >= columns) continue;
        float v = {found};
        {add}
      }}
    }}
  }}{many}
  float result = {end};
  {store(kernel.target_type, "target", "i", "result")}
}}
""",
    )


@dataclass(frozen=True)
class Lrn:
    """x / (bias + alpha / size * the sum of squares of neighbouring channels) ** beta."""

    source_type: str
    target_type: str

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target; count, channels, inner elements, channels before and after; alpha / size, beta,
        bias."""
        return _lrn(self)


@lru_cache(maxsize=64)
def _lrn(kernel: Lrn) -> KernelSource:
    found = load(kernel.source_type, "source", "i + (c - channel) * inner")
    return KernelSource(
        LRN,
        f"""KERNEL void {LRN}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target,
    int count, int channels, int inner, int before, int after, float alpha, float beta, float bias) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int channel = i / inner % channels;
  int begin = channel > before ? channel - before : 0;
  int end = channel + after < channels ? channel + after + 1 : channels;
  float sum = 0.0f;
  for (int c = begin; c < end; c++) {{
    float v = {found};
    sum += v * v;
  }}
  float result = {load(kernel.source_type, "source", "i")} * exp(-beta * log(bias + alpha * sum));
  {store(kernel.target_type, "target", "i", "result")}
}}
""",
    )

"""Convolution one output element a work item: for groups of few channels, where tiles would be empty."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.functions import SMOOTH, call, number
from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

ENTRY = "direct"


@dataclass(frozen=True)
class Direct:
    """Weights are f32 or f16, [outputs, inputs of a group, rows, columns]; `residual` is "" without one."""

    source_type: str
    weights_type: str
    target_type: str
    has_bias: bool = False
    residual: str = ""
    activation: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def source(self) -> KernelSource:
        """The kernel: source, weights, target, bias, residual; count, outputs, outputs of a group, inputs, inputs of a
        group, height and width of the target, rows and columns of the source, those of the window, strides, dilations
        and padding, each for y and then for x."""
        return _direct(self)


@lru_cache(maxsize=1024)
def _direct(kernel: Direct) -> KernelSource:
    pointers = f"GLOBAL const {MEMORY[kernel.source_type]} *source, GLOBAL const {MEMORY[kernel.weights_type]} *weights"
    pointers += f", GLOBAL {MEMORY[kernel.target_type]} *target"
    pointers += ", GLOBAL const float *bias" if kernel.has_bias else ""
    pointers += f", GLOBAL const {MEMORY[kernel.residual]} *residual" if kernel.residual else ""
    end = f"  sum += {load(kernel.residual, 'residual', 'i')};\n" if kernel.residual else ""
    product = (
        f"{load(kernel.weights_type, 'weights', '(w_at + p) * x_window + q')}"
        f" * {load(kernel.source_type, 'source', '(plane + y) * columns + x')}"
    )
    return KernelSource(
        ENTRY,
        f"""KERNEL void {ENTRY}({pointers},
    int count, int outputs, int group_outputs, int inputs, int group_inputs, int height, int width, int rows,
    int columns, int y_window, int x_window, int y_stride, int x_stride, int y_dilation, int x_dilation, int y_before,
    int x_before) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int x0 = i % width * x_stride - x_before, rest = i / width;
  int y0 = rest % height * y_stride - y_before; rest /= height;
  int m = rest % outputs, batch = rest / outputs, first = m / group_outputs * group_inputs;
  float sum = {"bias[m]" if kernel.has_bias else "0.0f"};
  for (int c = 0; c < group_inputs; c++) {{
    int w_at = (m * group_inputs + c) * y_window, plane = (batch * inputs + first + c) * rows;
    for (int p = 0; p < y_window; p++) {{
      int y = y0 + p * y_dilation;
      if (y < 0 || y >= rows) continue;
      for (int q = 0; q < x_window; q++) {{
        int x = x0 + q * x_dilation;
        if (x >= 0 && x < columns) sum += {product};
      }}
    }}
  }}
{end}  sum = {call(kernel.activation, ["sum", *map(number, kernel.numbers)], SMOOTH)};
  {store(kernel.target_type, "target", "i", "sum")}
}}
""",
    )

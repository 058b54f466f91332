"""The gates of a step of LSTM and GRU. A work item computes an element of the state."""

from __future__ import annotations

from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource


def lstm(target_type: str) -> KernelSource:
    """Gates [batch, 4 hidden] in ONNX's order i, o, f, c; cells are updated, the state goes to the target.

    Arguments: gates, cells, target; count, hidden, where gates and target begin.
    """
    return KernelSource(
        "lstm",
        f"""KERNEL void lstm(GLOBAL const float *gates, GLOBAL float *cells, GLOBAL {MEMORY[target_type]} *target,
    int count, int hidden, int begin, int target_begin) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int at = begin + i / hidden * 4 * hidden + i % hidden;
  float cell = SIGMOID(gates[at + 2 * hidden]) * cells[i] + SIGMOID(gates[at]) * tanh(gates[at + 3 * hidden]);
  float state = SIGMOID(gates[at + hidden]) * tanh(cell);
  cells[i] = cell;
  {store(target_type, "target", "target_begin + i", "state")}
}}
""",
    )


def gru(state_type: str, target_type: str) -> KernelSource:
    """Gates of the input and of the state, both [batch, 3 hidden] in ONNX's order z, r, h; the bias of the state's part
    is in it.

    Arguments: gates of the input, of the state, the state before, target; count, hidden, where the input's gates, the
    state and the target begin.
    """
    return KernelSource(
        "gru",
        f"""KERNEL void gru(GLOBAL const float *inputs, GLOBAL const float *gates,
    GLOBAL const {MEMORY[state_type]} *state, GLOBAL {MEMORY[target_type]} *target, int count, int hidden,
    int begin, int state_begin, int target_begin) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int own = i / hidden * 3 * hidden + i % hidden, at = begin + own;
  float update = SIGMOID(inputs[at] + gates[own]);
  float reset = SIGMOID(inputs[at + hidden] + gates[own + hidden]);
  float next = tanh(inputs[at + 2 * hidden] + reset * gates[own + 2 * hidden]);
  float v = (1.0f - update) * next + update * {load(state_type, "state", "state_begin + i")};
  {store(target_type, "target", "target_begin + i", "v")}
}}
""",
    )

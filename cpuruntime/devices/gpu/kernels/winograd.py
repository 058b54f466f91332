"""Winograd's F(2x2, 3x3): 3x3 windows of stride 1 as 16 products of transformed tiles, with 4 multiplications for 9.

Tile p of an image has 4x4 elements and gives 2x2; tiles of all images are counted together. Element e of transformed
tile p of channel c lies at `(e * channels + c) * tiles + p`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cpuruntime.devices.gpu.kernels.functions import SMOOTH, call, number
from cpuruntime.devices.gpu.kernels.prelude import MEMORY, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

SPREAD, COLLECT = "winograd_spread", "winograd_collect"

_WEIGHTS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

# What each row of the transformed tile is of the rows before; the same holds for columns.
_INPUT = ("{0} - {2}", "{1} + {2}", "{2} - {1}", "{1} - {3}")
_OUTPUT = ("{0} + {1} + {2}", "{1} - {2} - {3}")


def transformed(weights: np.ndarray) -> np.ndarray:
    """[outputs, inputs, 3, 3] as [16, outputs, inputs]."""
    return np.einsum("ap,oipq,bq->aboi", _WEIGHTS, weights, _WEIGHTS).reshape(16, *weights.shape[:2])


def _both_ways(rules: tuple[str, ...]) -> str:
    """Statements that turn d{y}{x} into e{y}{x} by rules for rows, then for columns."""
    text = ""
    for x in range(4):
        column = [f"d{y}{x}" for y in range(4)]
        text += "".join(f"  float r{y}{x} = {rule.format(*column)};\n" for y, rule in enumerate(rules))
    for y in range(len(rules)):
        row = [f"r{y}{x}" for x in range(4)]
        text += "".join(f"  float e{y}{x} = {rule.format(*row)};\n" for x, rule in enumerate(rules))
    return text


def _elements(size: int, line: Callable[[int, int], str]) -> str:
    return "".join(line(y, x) for y in range(size) for x in range(size))


@dataclass(frozen=True)
class Spread:
    """Tiles of images, transformed; a work item takes a tile of a channel."""

    source_type: str
    target_type: str

    @property
    def source(self) -> KernelSource:
        """The kernel: source, target; count, channels, rows, columns, rows and columns of tiles, padding before."""
        return _spread(self)


@lru_cache(maxsize=16)
def _spread(kernel: Spread) -> KernelSource:
    found = load(kernel.source_type, "source", "at + {0} * columns + {1}")
    body = _elements(
        4,
        lambda y, x: f"  float d{y}{x} = y + {y} >= 0 && y + {y} < rows && x + {x} >= 0 && x + {x} < columns ? "
        f"{found.format(y, x)} : 0.0f;\n",
    )
    body += _both_ways(_INPUT)
    body += _elements(
        4, lambda y, x: f"  {store(kernel.target_type, 'target', f'{4 * y + x} * count + i', f'e{y}{x}')}\n"
    )
    return KernelSource(
        SPREAD,
        f"""KERNEL void {SPREAD}(GLOBAL const {MEMORY[kernel.source_type]} *source,
    GLOBAL {MEMORY[kernel.target_type]} *target, int count, int channels, int rows, int columns, int y_tiles,
    int x_tiles, int y_before, int x_before) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int each = y_tiles * x_tiles, tiles = count / channels, channel = i / tiles, p = i % tiles;
  int image = p / each, tile = p % each;
  int y = tile / x_tiles * 2 - y_before, x = tile % x_tiles * 2 - x_before;
  int at = ((image * channels + channel) * rows + y) * columns + x;
{body}}}
""",
    )


@dataclass(frozen=True)
class Collect:
    """Products of tiles as images, with bias, residual and activation; a work item takes a tile of a channel."""

    target_type: str
    has_bias: bool = False
    residual: str = ""
    activation: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def source(self) -> KernelSource:
        """The kernel: products of f32, target, bias, residual; count, channels, height and width of the target, rows
        and columns of tiles."""
        return _collect(self)


@lru_cache(maxsize=256)
def _collect(kernel: Collect) -> KernelSource:
    pointers = f"GLOBAL const float *source, GLOBAL {MEMORY[kernel.target_type]} *target"
    pointers += ", GLOBAL const float *bias" if kernel.has_bias else ""
    pointers += f", GLOBAL const {MEMORY[kernel.residual]} *residual" if kernel.residual else ""
    body = _elements(4, lambda y, x: f"  float d{y}{x} = source[{4 * y + x} * count + i];\n") + _both_ways(_OUTPUT)

    def finish(y: int, x: int) -> str:
        place, value = f"at + {y} * width + {x}", f"e{y}{x}{' + bias[channel]' if kernel.has_bias else ''}"
        value += f" + {load(kernel.residual, 'residual', place)}" if kernel.residual else ""
        result = call(kernel.activation, ["v", *map(number, kernel.numbers)], SMOOTH)
        end = store(kernel.target_type, "target", place, result)
        return f"  if (y + {y} < height && x + {x} < width) {{ float v = {value}; {end} }}\n"

    return KernelSource(
        COLLECT,
        f"""KERNEL void {COLLECT}({pointers}, int count, int channels, int height, int width, int y_tiles,
    int x_tiles) {{
  int i = WORK_ITEM;
  if (i >= count) return;
  int each = y_tiles * x_tiles, tiles = count / channels, channel = i / tiles, p = i % tiles;
  int image = p / each, tile = p % each, y = tile / x_tiles * 2, x = tile % x_tiles * 2;
  int at = ((image * channels + channel) * height + y) * width + x;
{body}{_elements(2, finish)}}}
""",
    )

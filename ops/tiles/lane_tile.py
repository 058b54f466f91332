"""The lane tile: output pixels whose channels each read few inputs of their own, so that a product takes whole vectors.

`rows` output pixels of one channel block stay in registers. The source vectors under a run of kernel columns are loaded
once and slide over them: (rows - 1) * stride + taps loads for rows * taps multiply-adds. Every pixel adds its products
in the order of kernel rows, inputs of the group and kernel columns, whatever the tile.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from cpuruntime.compiler.isa import LANES, VECTOR_BYTES
from cpuruntime.compiler.simd import F32, FLOATS, WORDS, call_llvm
from cpuruntime.ops.tiles.register_tile import Emitter, Epilogue, loops


class Window(namedtuple("_Window", "height runs source_row source_run weight_row")):
    """Kernel rows, runs of kernel columns in each; strides of both in the source and of rows of weights (bytes)."""


@cache
def make_lane_tile(rows: int, taps: int, stride: int | None, inputs: int, outputs: int) -> Any:
    """The tile as an intrinsic `tile(source, step, weights, window, epilogue)`; everything is int64.

    A group has `inputs` channels and `outputs`, a multiple of them that divides LANES; source points at the first of
    the channels of one output block: a part of a source block when outputs are more than inputs. `taps` kernel columns
    next to each other are a run; `stride` pixels lie between successive output pixels, `step` bytes when it is None
    (for one tap). Weights lie [height][run][input][taps][LANES].
    """
    assert stride is not None or taps == 1

    @intrinsic
    def tile(typingctx, source, step, weights, window, epilogue):
        def codegen(context, builder, sig, args):
            source, step, weights = args[:3]
            emitter = _Emitter(builder, rows, taps, stride, inputs, outputs)
            w = Window(*cgutils.unpack_tuple(builder, args[3]))
            e = Epilogue(*cgutils.unpack_tuple(builder, args[4]))
            emitter.start(e.bias)
            with loops(builder, w.height, w.runs) as (y, run):
                at = emitter.offset(source, (y, w.source_row), (run, w.source_run))
                factors = emitter.offset(weights, (y, w.weight_row), (run, inputs * taps * VECTOR_BYTES))
                emitter.slide(at, step, factors)
            emitter.add_residual(e, None)
            emitter.clamp(e)
            emitter.write(e, None)
            return context.get_dummy_value()

        shapes = types.Tuple([types.int64] * 5), types.Tuple([types.int64] * 9)
        return types.void(*[types.int64] * 3, *shapes), codegen

    return tile


class _Emitter(Emitter):
    def __init__(self, builder: ir.IRBuilder, rows: int, taps: int, stride: int | None, inputs: int, outputs: int):
        super().__init__(builder, rows, 1, 1, None)
        self.taps, self.stride, self.inputs, self.outputs = taps, stride, inputs, outputs

    def slide(self, source: ir.Value, step: ir.Value, weights: ir.Value) -> None:
        """Adds the products of one run of kernel columns."""
        builder, stride = self.builder, self.stride or 1
        pixel = step if self.stride is None else VECTOR_BYTES
        for channel in range(self.inputs):
            if channel:
                # Sources are loaded anew for each channel of a group: they would not fit the registers.
                builder.fence("acq_rel", "singlethread")
            first = channel * self.taps
            factors = [self.load(weights, ((first + x) * VECTOR_BYTES, 1)) for x in range(self.taps)]
            for position in range((self.rows - 1) * stride + self.taps):
                value = self.spread(self.offset(source, (position, pixel)), channel)
                for x, factor in enumerate(factors):
                    row, between = divmod(position - x, stride)
                    if not between and 0 <= row < self.rows:
                        slot = self.accumulators[row, 0]
                        operands = [value, factor, builder.load(slot)]
                        builder.store(call_llvm(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, operands), slot)

    def spread(self, address: ir.Value, channel: int) -> ir.Value:
        """The groups' inputs number `channel`, each in the lanes of its group's outputs."""
        part = ir.VectorType(F32, LANES * self.inputs // self.outputs)
        value = self.load(address, kind=part)
        if self.outputs == 1:
            return value
        lanes = [lane // self.outputs * self.inputs + channel for lane in range(LANES)]
        return self.builder.shuffle_vector(value, ir.Constant(part, ir.Undefined), ir.Constant(WORDS, lanes))

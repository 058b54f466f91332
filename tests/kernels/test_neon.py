"""Kernels for ARM's NEON, compiled here and checked as assembly: no test has run them on such a processor."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
from support.users import ROOT

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="cross-compiles from x86")

COMPILE = """
import json, re, sys
sys.path[:0] = ["tests"]
import llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(opt=3)
from cpuruntime.compiler import isa
neon = isa.Isa("neon", 4, 32, "generic", "", frozenset())
isa.current, isa.target_machine, isa.LANES, isa.VECTOR_BYTES = lambda: neon, lambda features="": machine, 4, 16
from cpuruntime.compiler import machine_code
parse = llvm.parse_assembly
def parsed(text):
    text = re.sub(r'target triple = ".*"', 'target triple = "aarch64-unknown-linux-gnu"', text)
    return parse(re.sub(r'target datalayout = ".*"', f'target datalayout = "{machine.target_data}"', text))
machine_code.llvm.parse_assembly = parsed
from cpuruntime.ops.tiles.tile_shapes import UNROLL, lane_rows, tile_shapes, winograd_shapes
from support.spills import FAMILIES
SHAPES, LANE_TILE = tile_shapes(), (lane_rows(3)[0], 3, 1, 1, 1)
VARIANTS = [*(("convolution", (*shape, UNROLL, 16)) for shape in SHAPES[:4]), ("convolution", (*SHAPES[0], 3, 24))]
VARIANTS += [("matmul", SHAPES[0]), ("grouped_convolution", (*SHAPES[0], 4, 16)), ("depthwise", LANE_TILE)]
VARIANTS += [("winograd_product", (*shape, False)) for shape in (winograd_shapes()[0], winograd_shapes()[-1])]
found = []
for family, arguments in VARIANTS:
    text, inner, label = FAMILIES[family](*arguments).assembly(), [], ""
    for line in text.splitlines():
        if start := re.match(r"(\\.LBB\\w+):", line):
            label, body = start[1], []
        elif label and re.search(rf"\\bb\\.\\w+\\s+{re.escape(label)}$", line):
            inner += body
        body = [*body, line] if label else []
    spills = len(re.findall(r"\\bst[rp]\\s+q\\d+,.*\\[(?:sp|x29)", "\\n".join(inner)))
    products = len(re.findall(r"\\bfmla\\s+v\\d+\\.4s", "\\n".join(inner)))
    calls = sorted(set(re.findall(r"\\bbl\\s+(\\w+)", text)))
    found.append((family, arguments, spills, products, calls))
print(json.dumps([found, UNROLL]))
"""


def test_tiles_multiply_and_add_whole_vectors_and_keep_their_sums_in_registers() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILE], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found, unroll = json.loads(done.stdout)
    assert len(found) == 10
    for family, arguments, spills, products, calls in found:
        assert spills == 0, family
        assert calls == [], family
        sums = arguments[0] * (arguments[1] if family != "depthwise" else 1)
        # A loop body multiplies channels by a tile, or a run of three kernel columns by a tile of lanes.
        channels = arguments[2] if family == "convolution" else unroll
        assert products >= sums * (3 if family == "depthwise" else channels), family

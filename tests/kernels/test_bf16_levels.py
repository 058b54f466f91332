"""Tiles for bf16 products on processors that are not at hand: compiled, and checked as machine code."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
from support.users import ROOT

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86")

COMPILE = """
import json, sys
sys.path[:0] = ["tests"]
from cpuruntime.compiler import target
target.level = "x86-64-v4"
from cpuruntime.compiler import isa
isa.bf16_products = lambda: "+avx512bf16"
from cpuruntime.ops.bf16_product import UNROLL, bf16_product
from cpuruntime.ops.tiles.tile_shapes import tile_shapes
from cpuruntime.program.tuning.bf16_tiles import LOWER
from support.spills import spills_in_loops
found = []
for rows, columns in (shape for shape in tile_shapes() if shape[0] not in LOWER):
    text = bf16_product(rows, columns, "blocks").assembly()
    counts = [text.count(name + "\\t") for name in ("vdpbf16ps", "vcvtneps2bf16", "vfmadd231ps", "vfmadd213ps")]
    found.append([counts, UNROLL * rows * columns, spills_in_loops(text)])
print(json.dumps(found))
"""


TILES = """
import json, sys
sys.path[:0] = ["tests"]
from cpuruntime.compiler import target
target.level = "x86-64-v4"
from cpuruntime.compiler import isa
isa.bf16_products, isa.bf16_tiles = lambda: "+avx512bf16", lambda: "+amx-bf16"
from cpuruntime.ops.bf16_product import bf16_product
from cpuruntime.ops.tiles.integer_shapes import AMX_SHAPES
from support.spills import spills_in_loops
found = []
for rows, columns in AMX_SHAPES:
    text = bf16_product(rows, columns, "rows", "", True).assembly()
    words = text.split()
    names = "ldtilecfg", "tilezero", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease", "vdpbf16ps"
    found.append([rows // 16, columns, [words.count(name) for name in names], spills_in_loops(text)])
print(json.dumps(found))
"""


def test_amx_tiles_have_the_instructions_and_no_spills() -> None:
    done = subprocess.run([sys.executable, "-c", TILES], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for down, across, (begin, zeros, loads, products, stores, end, others), spills in json.loads(done.stdout):
        assert (begin, zeros, stores, end, others) == (1, down * across, down * across, 1, 0)
        assert loads * down * across == products * (down + across) > 0
        assert spills == 0


def test_tiles_have_the_instructions_and_no_spills() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILE], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for (products, conversions, *others), least, spills in json.loads(done.stdout):
        assert products >= least
        assert conversions >= 1
        assert (*others, spills) == (0, 0, 0)

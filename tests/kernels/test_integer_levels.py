"""Integer tiles for processors that are not at hand: compiled, and checked as machine code."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest
from support.users import ROOT

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86")

COMPILE = """
import json, sys
sys.path[:0] = ["tests"]
level, feature = sys.argv[1:]
from cpuruntime.compiler import target
target.level = level
from cpuruntime.compiler import isa
isa.byte_products = lambda: feature
from cpuruntime.ops.quantised_product import quantised_product
from cpuruntime.ops.tiles.integer_shapes import integer_shapes, kinds
from support.spills import spills_in_loops
found = {}
for kind in (*kinds(), "vnni_both"):
    text = quantised_product(kind, *integer_shapes(kind)[0], "rows", False).assembly()
    found[kind] = {"spills": spills_in_loops(text), "shape": integer_shapes(kind)[0]}
    found[kind] |= {name: text.count(name + "\\t") for name in ("vpdpbusd", "vpmaddubsw", "vpmaddwd")}
    found[kind]["wide"] = "%zmm" in text
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("level", "feature", "wide"), [("x86-64-v3", "+avxvnni", False), ("x86-64-v4", "+avx512vnni", True)]
)
def test_tiles_have_the_instructions_of_the_level_and_no_spills(level: str, feature: str, wide: bool) -> None:
    command = [sys.executable, "-c", COMPILE, level, feature]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found.keys() == {"w16", "ubs", "vnni", "vnni_both"}
    for kind, counts in found.items():
        rows, columns = counts["shape"]
        assert counts["spills"] == 0
        assert counts["wide"] == wide
        # In a step of eight channels each sum takes two words of four channels, or four of two.
        if kind == "vnni_both":  # it adds up bytes by them, too
            assert counts["vpdpbusd"] > 2 * rows * columns
        else:
            assert counts["vpdpbusd"] == (2 * rows * columns if kind == "vnni" else 0)
        assert counts["vpmaddubsw"] >= (2 * rows * columns if kind == "ubs" else 0)
        assert counts["vpmaddwd"] >= {"w16": 4, "ubs": 2}.get(kind, 0) * rows * columns


ROWS = """
import json, sys
sys.path[:0] = ["tests"]
from cpuruntime.compiler import target
target.level = sys.argv[1]
from cpuruntime.ops.compressed_product import few_rows
from support.spills import spills_in_loops
found = {}
for kind in ("u4", "f16"):
    text = few_rows(kind, False).assembly()
    names = {name: text.count(name + "\\t") for name in ("vpmaddwd", "vcvtph2ps")}
    found[kind] = names | {"spills": spills_in_loops(text), "wide": "%zmm" in text}
print(json.dumps(found))
"""


def test_rows_by_compressed_weights_for_avx512() -> None:
    command = [sys.executable, "-c", ROWS, "x86-64-v4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["u4"] == {"vpmaddwd": 16, "vcvtph2ps": 0, "spills": 0, "wide": True}
    assert found["f16"].pop("vcvtph2ps") >= 16
    assert found["f16"] == {"vpmaddwd": 0, "spills": 0, "wide": True}


TILES = """
import json, sys
sys.path[:0] = ["tests"]
from cpuruntime.compiler import target
target.level = "x86-64-v4"
from cpuruntime.compiler import isa
isa.byte_products, isa.byte_tiles = lambda: "+avx512vnni", lambda: "+amx-int8"
from cpuruntime.ops.quantised_product import quantised_product
from cpuruntime.ops.tiles.integer_shapes import integer_shapes
from support.spills import spills_in_loops
found = []
for kind in ("amx", "amx_both"):
    for shape in integer_shapes(kind):
        text = quantised_product(kind, *shape, "rows", False).assembly()
        names = "ldtilecfg", "tilezero", "tileloadd", "tdpbusd", "tilestored", "tilerelease"
        words = text.split()
        found.append([shape, [words.count(name) for name in names], spills_in_loops(text)])
print(json.dumps(found))
"""


def test_amx_tiles_have_the_instructions_and_no_spills() -> None:
    done = subprocess.run([sys.executable, "-c", TILES], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for (rows, columns), counts, spills in json.loads(done.stdout):
        down, across = rows // 16, columns
        begin, zeros, loads, products, stores, end = counts
        assert (begin, zeros, stores, end) == (1, down * across, down * across, 1)
        assert products % (down * across) == 0  # of several loop bodies
        assert loads * down * across == products * (down + across) > 0
        assert spills == 0

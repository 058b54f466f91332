"""What a kernel loads and uses as an address, a count or a bound is nothing that a user can still change.

At 53c12cb TopK's heap of indices lay in the output `Indices` and was read back from there: who wrote to that memory
chose what the kernel read.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.house import ROOT
from support.index_loads import found_in

TABLE = "a table of the program's own, made when it was planned"
OWN = "memory that no user sees yet, which the kernel itself wrote in the same call"
CHECKED = "a user's number, loaded once and compared with the extents before its use"
EVERY = "a number of 8 or 16 bits: the table has an element for each there is"
FACTOR = "a factor of products, no address"
CLAMPED = "a user's coordinate, loaded once; pixels beyond the image are left out or replaced by the border's"

ALLOWED = {
    "byte_table._look_up: simd.load_u8 first": EVERY,
    "byte_sums.sum_byte_pixels: simd.load_i64 a.starts": TABLE,
    "byte_sums.sum_byte_rows: simd.load_i64 a.starts": TABLE,
    "convolution.convolution: simd.load_i64 column_tile": TABLE,
    "columns.moved_columns: once.load_f32 place": CLAMPED,
    "cumulative.cumulative: simd.load_i64 a.extents": TABLE,
    "grid_sample.grid_sample: once.load_f32 a.grid": CLAMPED,
    "grid_sample.grid_sample_volume: once.load_f32 a.grid": CLAMPED,
    "grouped_convolution.grouped_convolution: simd.load_i64 entry": TABLE,
    "image._sum_columns: simd.load_i64 columns": TABLE,
    "image._sum_pixels: simd.load_i64 a.columns": TABLE,
    "image._sum_pixels: simd.load_i64 columns": TABLE,
    "image._sum_pixels: simd.load_i64 rows": TABLE,
    "image._sum_rows: simd.load_i64 rows": TABLE,
    "iteration.iterate: simd.load_i64 change": TABLE,
    "max_roi_pool.max_roi_pool: once.load_f32 place": CLAMPED,
    "movement.read_index: once.load_i32 indices": CHECKED,
    "movement.read_index: once.load_i64 indices": CHECKED,
    "non_max_suppression._sink: simd.load_i64 order": OWN,
    "non_max_suppression.non_max_suppression: simd.load_i64 order": OWN,
    "quantised_panels.pack_pairs: simd.load_u8 row": FACTOR,
    "quantised_panels.zero_point: simd.load_u8 a.zero_at": FACTOR,
    "quantised_product.quantised_product: simd.load_i64 entry": TABLE,
    "recurrent.recurrent: simd.load_i64 memory": OWN,
    "reorder.gather_channels: simd.load_i64 a.starts": TABLE,
    "reorder.gather_channels: simd.load_i64 entry": TABLE,
    "resize.resize_nearest: simd.load_i64 a.columns": TABLE,
    "resize.resize_nearest: simd.load_i64 a.rows": TABLE,
    "resize._resize_row: simd.load_i64 columns": TABLE,
    "resize.resize_plain: simd.load_i64 rows": TABLE,
    "resize.resize_weighted: simd.load_i64 columns": TABLE,
    "resize.resize_weighted: simd.load_i64 rows": TABLE,
    "reverse_sequence.reverse_sequence: once.load_i64 a.lengths": CHECKED,
    "roi_align.roi_align: once.load_f32 place": CLAMPED,
    "roi_align.roi_align: once.load_i64 a.images": CHECKED,
    "table_cast.table_cast: read base": EVERY,
    "topk._sink: simd.load_i64 heap": OWN,
    "topk.top_k: simd.load_i64 heap": OWN,
    "tree_ensemble._leaf: simd.load_i32 a.roots": TABLE,
    "tree_ensemble._leaf: simd.load_i32 node": TABLE,
    "tree_ensemble._leaf: simd.load_i32 node + 8 if holds else node + 12": TABLE,
    "tree_ensemble.tree_ensemble: simd.load_i32 leaf": TABLE,
    "tree_ensemble.tree_ensemble: simd.load_i32 weight": TABLE,
    "transposed_convolution.transposed_convolution: simd.load_i64 entry": TABLE,
    "window_pool.max_unpool: once.load_i64 a.indices": CHECKED,
    "unique._renumber: simd.load_i64 a.inverse": OWN,
    "unique._sort: simd.load_i64 source": OWN,
    "unique.unique: simd.load_i64 order": OWN,
}

BAD = {
    "a place read back from an output": (
        """
def top(a, thread, threads):
    for n in range(a.count):
        index = simd.load_i64(a.indices + 8 * n)
        copy_element(a.source + index * 4, a.values + n * 4, 4)
""",
        "bad.top: simd.load_i64 a.indices",
    ),
    "a bound": (
        """
def lengths(a, thread, threads):
    for n in range(min(simd.load_i32(a.lengths), 5)):
        simd.store_f32(a.target + 4 * n, 0.0)
""",
        "bad.lengths: simd.load_i32 a.lengths",
    ),
    "the end of a loop": (
        """
def loop(a, thread, threads):
    n, end = 0, simd.load_i64(a.end)
    while n < end:
        n += 1
""",
        "bad.loop: simd.load_i64 a.end",
    ),
    "the lanes of a vector": (
        """
def lanes(a, thread, threads):
    simd.store_first(a.target, simd.load_first(a.source, 3), simd.load_i64(a.count))
""",
        "bad.lanes: simd.load_i64 a.count",
    ),
    "through helpers and a factory": (
        """
def place(a, number):
    return a.source + number * 4

def kernel_of(dtype):
    read, write = load(dtype), store(dtype)

    def run(a, thread, threads):
        at = place(a, read(a.indices, thread))
        write(at, 0, 1)
    return run
""",
        "bad.kernel_of: read a.indices",
    ),
    "a coordinate": (
        """
def sample(a, thread, threads):
    x = simd.load_f32(a.grid) * 2.0
    simd.store_f32(a.target, simd.load_f32(a.source + 4 * int(x)))
""",
        "bad.sample: simd.load_f32 a.grid",
    ),
    "an address given to a tile": (
        """
def tiles(a, thread, threads):
    tile(a.weights, a.source + simd.load_i64(a.places))
""",
        "bad.tiles: simd.load_i64 a.places",
    ),
}


def test_loads_used_as_addresses_are_allowed_ones() -> None:
    files = [path for path in Path(ROOT, "ops").rglob("*.py") if path.name != "__init__.py"]
    assert len({path.stem for path in files}) == len(files) > 25
    assert found_in({path.stem: path.read_text() for path in files}) == ALLOWED.keys()


@pytest.mark.parametrize("load", ALLOWED)
def test_numbers_of_users_are_loaded_once(load: str) -> None:
    """LLVM may execute a plain load twice, and then the number in use is not the one that was checked."""
    assert (ALLOWED[load] in (CHECKED, CLAMPED)) == (": once." in load)


@pytest.mark.parametrize("what", BAD)
def test_a_planted_offence_is_found(what: str) -> None:
    source, found = BAD[what]
    assert found in found_in({"bad": source})


def test_numbers_that_are_only_stored_or_compared_are_not_found() -> None:
    source = """
def compare(a, thread, threads):
    read, write = load("int64"), store("int64")
    for n in range(a.count):
        index = simd.load_i64(a.indices + 8 * n)
        value = a.values + 4 if index == n else a.values
        copy_element(value, a.target + n * 4, 4)
        write(a.other, n, read(a.indices, n) + 1)
"""
    assert not found_in({"good": source})

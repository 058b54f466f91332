"""Matrix products with an epilogue: of rows with columns, and of weights with what a convolution reads.

C[m, n] = activation(sum over k of A[m, k] * B[k, n] + bias + residual), for each of two levels of batches, in which A
is the same for the frames of a third. Element
(m, k) of A lies at `m * a_row + k * a_step`, (k, n) of B at `k * b_step + n * b_column`, or at `table[k] + n`, which
makes a convolution of a product: n counts the positions of an image whose rows have `pitch` elements, of which the
first `width` are stored. Two shapes of one template: work groups with tiles in local memory, and work items with a
register tile of vectors for drivers that run on a processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cpuruntime.devices.gpu.kernels.functions import SMOOTH, call, number
from cpuruntime.devices.gpu.kernels.prelude import VECTOR, load, store
from cpuruntime.gpu_runtime.interface import KernelSource

ENTRY = "product"
ARGUMENTS = (
    "M", "N", "K", "a_row", "a_step", "b_step", "b_column", "c_row", "inner", "a_outer", "a_inner", "b_outer",
    "b_inner", "c_outer", "c_inner", "bias_inner", "a_begin", "b_begin", "c_begin", "pitch", "width", "frames",
    "b_frame", "c_frame",
)  # fmt: skip
"""The ints that follow the buffers A, B, C and, where there are such, bias, residual and table."""


@dataclass(frozen=True)
class Tile:
    """How work is cut: `rows` x `columns` sums a work item; `depth` 0 for registers alone, where columns are whole
    vectors, else the length of local tiles of `side` x `side` work items."""

    rows: int
    columns: int
    depth: int = 0
    side: int = 16

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns of C that a work group computes."""
        times = self.side if self.depth else 1
        return self.rows * times, self.columns * times

    @property
    def group(self) -> tuple[int, int, int]:
        """The work group."""
        return (self.side, self.side, 1) if self.depth else (1, 1, 1)


@dataclass(frozen=True)
class Product:
    """What the text of a product depends on.

    Attributes:
        a, b, c, residual: element types; `residual` is "" without one. Bias is f32.
        bias: "row" for a number for each m, "column" for each n, "" for none.
        activation, numbers: a function of `SMOOTH` and its further operands.
        packed_a, packed_b: whether tiles lie one behind the other: rows or columns of a tile are neighbours there, and
            it is filled up with zeros.
        has_table: whether rows of B lie where a table says.
        is_mapped: whether n counts positions of an image with columns that are not stored.
    """

    a: str
    b: str
    c: str
    tile: Tile
    bias: str = ""
    residual: str = ""
    activation: str = ""
    numbers: tuple[float, ...] = ()
    packed_a: bool = False
    packed_b: bool = False
    has_table: bool = False
    is_mapped: bool = False

    @property
    def source(self) -> KernelSource:
        """The kernel."""
        return _source(self)


@lru_cache(maxsize=4096)
def _source(product: Product) -> KernelSource:
    body = _local(product) if product.tile.depth else _register(product)
    return KernelSource(ENTRY, _head(product) + body + "}\n")


def _head(product: Product) -> str:
    pointers = [f"GLOBAL const {_c(product.a)} *A", f"GLOBAL const {_c(product.b)} *B", f"GLOBAL {_c(product.c)} *C"]
    if product.bias:
        pointers.append("GLOBAL const float *bias")
    if product.residual:
        pointers.append(f"GLOBAL const {_c(product.residual)} *residual")
    if product.has_table:
        pointers.append("GLOBAL const int *table")
    side = product.tile.side if product.tile.depth else 1
    arguments = ", ".join([*pointers, *(f"int {name}" for name in ARGUMENTS)])
    return f"""KERNEL GROUP({side}, {side}) void {ENTRY}({arguments}) {{
  int frame = GZ % frames, group = GZ / frames % inner, batch = GZ / frames / inner;
  A += batch * a_outer + group * a_inner + a_begin;
  B += batch * b_outer + group * b_inner + frame * b_frame + b_begin;
  int c_at = batch * c_outer + group * c_inner + frame * c_frame + c_begin;
"""


def _c(element_type: str) -> str:
    return "half" if element_type == "f16" else "float"


def _finish(product: Product, value: str, row: str) -> str:
    """The expression of a sum with bias, before residual and activation."""
    return f"({value} + bias[group * bias_inner + {row}])" if product.bias == "row" else value


def _activated(product: Product, value: str) -> str:
    return call(product.activation, [value, *map(number, product.numbers)], SMOOTH)


def _scalar_store(product: Product, value: str, row: str, column: str, indent: str) -> str:
    """Statements that store one sum, which has the bias of its row, at column n of C, or of an image y, x."""
    lines = [f"float v = {value};"]
    if product.bias == "column":
        lines.append(f"v += bias[group * bias_inner + {column}];")
    place = column
    if product.is_mapped:
        lines.append("if (x < width) {")
        place = "y * width + x"
    lines.append(f"int at = c_at + ({row}) * c_row + {place};")
    if product.residual:
        lines.append(f"v += {load(product.residual, 'residual', 'at')};")
    lines += [f"v = {_activated(product, 'v')};", store(product.c, "C", "at", "v")]
    if product.is_mapped:
        lines.append("}")
    return "\n".join(indent + line for line in lines) + "\n"


def _register(product: Product) -> str:
    """A work item computes a tile of vectors in registers."""
    rows, vectors = product.tile.rows, product.tile.columns // VECTOR
    columns = product.tile.columns
    sums = [[f"s{r}_{c}" for c in range(vectors)] for r in range(rows)]
    offsets = [str(r) if product.packed_a else f"(row + {r} < M ? {r} : M - 1 - row) * a_row" for r in range(rows)]
    row_step = f"row * {'K' if product.packed_a else 'a_row'}"
    b_row = "table[k]" if product.has_table else "k * b_step"
    text = f"  int col = GX * {columns}, row = GY * {rows};\n"
    text += f"  GLOBAL const {_c(product.a)} *a = A + {row_step};\n"
    text += f"  GLOBAL const {_c(product.b)} *b = B + col * {'K' if product.packed_b else '1'};\n"
    text += "".join(f"  int a{r} = {offset};\n" for r, offset in enumerate(offsets))
    text += "  float8 " + ", ".join(f"{name} = 0.0f" for line in sums for name in line) + ";\n"
    step = str(rows) if product.packed_a else "a_step"
    text += "  for (int k = 0; k < K; k++) {\n"
    text += f"    int at = {b_row}, from = k * {step};\n"
    text += "".join(f"    float8 b{c} = VLOAD_{product.b}(b, at + {c * VECTOR});\n" for c in range(vectors))
    for r in range(rows):
        text += f"    float x{r} = {load(product.a, 'a', f'from + a{r}')};\n"
        text += "".join(f"    s{r}_{c} = x{r} * b{c} + s{r}_{c};\n" for c in range(vectors))
    text += "  }\n"
    for c in range(vectors):
        text += _vector_place(product, f"col + {c * VECTOR}")
        for r in range(rows):
            text += f"    if (row + {r} < M) {{\n{_vector_store(product, sums[r][c], f'row + {r}')}    }}\n"
        text += "  }\n"
    return text


def _vector_place(product: Product, column: str) -> str:
    """The begin of a block for all vectors of a column: where they lie, and whether one row of C has them whole."""
    if product.is_mapped:
        return f"""  {{ int n0 = {column}, y0 = n0 / pitch, x0 = n0 - y0 * pitch;
    int place = c_at + y0 * width + x0, whole = n0 + 7 < N && x0 + 7 < width;
"""
    return f"  {{ int n0 = {column}, place = c_at + n0, whole = n0 + 7 < N;\n"


def _vector_store(product: Product, name: str, row: str) -> str:
    """Statements that store one vector of sums: at once where one row of C has it whole."""
    text = f"      float8 u = {_finish(product, name, row)};\n"
    text += f"      if (whole) {{\n        int at = place + ({row}) * c_row;\n"
    if product.bias == "column":
        text += "        u += vload8(0, bias + group * bias_inner + n0);\n"
    if product.residual:
        text += f"        u += VLOAD_{product.residual}(residual, at);\n"
    text += f"        u = {_activated(product, 'u')};\n        VSTORE_{product.c}(C, at, u);\n      }} else {{\n"
    text += "        float part[8];\n        vstore8(u, 0, part);\n"
    text += f"        for (int i = 0{', x = x0, y = y0' if product.is_mapped else ''}; i < 8 && n0 + i < N; i++) {{\n"
    text += _scalar_store(product, "part[i]", row, "(n0 + i)", " " * 10)
    if product.is_mapped:
        text += "          x++;\n          if (x == pitch) { x = 0; y++; }\n"
    return text + "        }\n      }\n"


def _local(product: Product) -> str:
    """A work group computes a tile from parts of A and B in local memory."""
    tile = product.tile
    rows, columns, side, depth = tile.rows, tile.columns, tile.side, tile.depth
    height, width = tile.extent
    # Neighbouring work items read neighbours in memory: along m or n for packed operands, else along k or n.
    if product.packed_a:
        a_place, a_at = f"m = i % {height}, k = i / {height}", "(k0 + k) * a_row + row + m"
    else:
        a_place, a_at = f"k = i % {depth}, m = i / {depth}", "(row + m) * a_row + (k0 + k) * a_step"
    b_at = "table[k0 + k] + col + n" if product.has_table else "(k0 + k) * b_step + (col + n) * b_column"
    a_tile, b_tile = f"[{depth}][{height + 1}]", f"[{depth}][{width}]"
    sums = ", ".join(f"s{r}_{c} = 0.0f" for r in range(rows) for c in range(columns))
    text = f"""  LOCAL float a_tile{a_tile}, b_tile{b_tile};
  int me = LY * {side} + LX, col = GX * {width}, row = GY * {height};
  float {sums};
  for (int k0 = 0; k0 < K; k0 += {depth}) {{
    for (int i = me; i < {height * depth}; i += {side * side}) {{
      int {a_place};
      a_tile[k][m] = k0 + k < K && row + m < M ? {load(product.a, "A", a_at)} : 0.0f;
    }}
    for (int i = me; i < {width * depth}; i += {side * side}) {{
      int n = i % {width}, k = i / {width};
      b_tile[k][n] = k0 + k < K && col + n < N ? {load(product.b, "B", b_at)} : 0.0f;
    }}
    BARRIER;
    for (int k = 0; k < {depth}; k++) {{
"""
    for r in range(rows):
        text += f"      float x{r} = a_tile[k][LY + {r * side}];\n"
    for c in range(columns):
        text += f"      float y{c} = b_tile[k][LX + {c * side}];\n"
    for r in range(rows):
        text += "".join(f"      s{r}_{c} = x{r} * y{c} + s{r}_{c};\n" for c in range(columns))
    text += "    }\n    BARRIER;\n  }\n"
    for c in range(columns):
        column = f"(col + LX + {c * side})"
        text += f"  if ({column} < N) {{\n"
        if product.is_mapped:
            text += f"    int y = {column} / pitch, x = {column} - y * pitch;\n"
        for r in range(rows):
            row = f"row + LY + {r * side}"
            text += f"    if ({row} < M) {{\n"
            text += _scalar_store(product, _finish(product, f"s{r}_{c}", row), row, column, "      ") + "    }\n"
        text += "  }\n"
    return text

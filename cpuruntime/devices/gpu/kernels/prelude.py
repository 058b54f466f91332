"""The macros that make the dialect OpenCL C or CUDA C++, and how kernels read and write elements of each type."""

from __future__ import annotations

from typing import Literal

from cpuruntime.graph import Type

# C types by the names of element types: of memory, and of the variables that hold an element.
MEMORY = {
    "f32": "float", "f16": "half", "i64": "long", "i32": "int", "i16": "short", "i8": "char",
    "u32": "uint", "u16": "ushort", "u8": "uchar", "boolean": "uchar",
}  # fmt: skip
REGISTER = MEMORY | {"f16": "float"}
VECTOR = 8
"""Elements of the vectors of CPU-shaped kernels."""

_PLAIN = [name for name in MEMORY if name != "f16"]

_BOTH = "\n".join(
    [
        *(f"#define LOAD_{name}(p, i) (p)[i]\n#define STORE_{name}(p, i, v) (p)[i] = (v)" for name in _PLAIN),
        "#define SIGMOID(x) (1.0f / (1.0f + exp(-(x))))",
    ]
)

_OPENCL = """
#define KERNEL __kernel
#define GROUP(x, y) __attribute__((reqd_work_group_size(x, y, 1)))
#define GLOBAL __global
#define LOCAL __local
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define LX (int)get_local_id(0)
#define LY (int)get_local_id(1)
#define GX (int)get_group_id(0)
#define GY (int)get_group_id(1)
#define GZ (int)get_group_id(2)
#define WORK_ITEM (int)get_global_id(0)
#define LOAD_f16(p, i) vload_half(i, p)
#define STORE_f16(p, i, v) vstore_half_rte(v, i, p)
#define VLOAD_f32(p, i) vload8(0, (p) + (i))
#define VLOAD_f16(p, i) vload_half8(0, (p) + (i))
#define VSTORE_f32(p, i, v) vstore8(v, 0, (p) + (i))
#define VSTORE_f16(p, i, v) vstore_half8_rte(v, 0, (p) + (i))
#define TO_f32(x) (float)(x)
#define TO_f16(x) (float)(x)
#define TO_i64(x) convert_long_sat_rtz(x)
#define TO_i32(x) convert_int_sat_rtz(x)
#define TO_i16(x) convert_short_sat_rtz(x)
#define TO_i8(x) convert_char_sat_rtz(x)
#define TO_u32(x) convert_uint_sat_rtz(x)
#define TO_u16(x) convert_ushort_sat_rtz(x)
#define TO_u8(x) convert_uchar_sat_rtz(x)
"""

_CUDA = """
#include <cuda_fp16.h>
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
#define long long long
#define char signed char
#define KERNEL extern "C" __global__
#define GROUP(x, y) __launch_bounds__((x) * (y), 2)
#define GLOBAL
#define LOCAL __shared__
#define BARRIER __syncthreads()
#define LX (int)threadIdx.x
#define LY (int)threadIdx.y
#define GX (int)blockIdx.x
#define GY (int)blockIdx.y
#define GZ (int)blockIdx.z
#define WORK_ITEM (int)(blockIdx.x * blockDim.x + threadIdx.x)
#define LOAD_f16(p, i) __half2float((p)[i])
#define STORE_f16(p, i, v) (p)[i] = __float2half_rn(v)
#define TO_f32(x) (float)(x)
#define TO_f16(x) (float)(x)
#define TO_i64(x) (long)(x)
#define TO_i32(x) (int)(x)
#define TO_i16(x) (short)(x)
#define TO_i8(x) (char)(x)
#define TO_u32(x) (uint)(x)
#define TO_u16(x) (ushort)(x)
#define TO_u8(x) (uchar)(x)
"""


def prelude(dialect: Literal["opencl", "cuda"]) -> str:
    """What goes before the text of a kernel, by the dialect of a runtime."""
    return (_OPENCL if dialect == "opencl" else _CUDA) + _BOTH + "\n"

def supports(element_type: Type) -> bool:
    """Whether kernels can read and write elements of this type."""
    return element_type.get_type_name() in MEMORY


def load(element_type: str, pointer: str, index: str) -> str:
    """An element as a variable of `REGISTER`."""
    return f"LOAD_{element_type}({pointer}, {index})"


def store(element_type: str, pointer: str, index: str, value: str) -> str:
    """The statement that writes an element."""
    return f"STORE_{element_type}({pointer}, {index}, {value});"


def cast(source: str, target: str, value: str) -> str:
    """An element of one type as a variable of another: floats to integers saturate, integers wrap."""
    if target == "boolean":
        return f"(uchar)({value} != 0)"
    if source in ("f32", "f16"):
        return f"TO_{target}({value})"
    return f"({REGISTER[target]})({value})"

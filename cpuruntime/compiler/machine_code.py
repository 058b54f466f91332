"""Machine code by LLVM: what decides what the code of a kernel is. It loads the compiler."""

from __future__ import annotations

import ctypes
from functools import cache
from types import FunctionType

import llvmlite.binding as llvm
import numba
import numpy as np

from cpuruntime.compiler import isa
from cpuruntime.compiler.frontend import modules
from cpuruntime.compiler.inline import bind

_ENTRY = """
declare ptr @"{body}"(ptr, i64, i64)
define void @{symbol}(i64 %block, i64 %thread, i64 %threads) {{
  %record = inttoptr i64 %block to ptr
  call ptr @"{body}"(ptr %record, i64 %thread, i64 %threads)
  ret void
}}
"""


def compiled(
    function: FunctionType, arguments: np.dtype, symbol: str, features: str = "", entry: str = _ENTRY
) -> bytes:
    """The object file of a kernel with argument blocks of `arguments`; `symbol` names its entry.

    `features` are what it uses beyond the ISA level; `entry` is the text of an entry that is called in another way.
    """
    code: bytes = isa.target_machine(features).emit_object(_module(function, arguments, symbol, features, entry))
    return code


def assembly(function: FunctionType, arguments: np.dtype, symbol: str, features: str = "") -> str:
    """The same as text."""
    text: str = isa.target_machine(features).emit_assembly(_module(function, arguments, symbol, features, _ENTRY))
    return text


def _module(function: FunctionType, arguments: np.dtype, symbol: str, features: str, entry: str) -> llvm.ModuleRef:
    """The optimised LLVM module of a kernel, its entry called `symbol` and all else made private."""
    body, texts = modules(bind(function), numba.from_dtype(arguments), numba.int64, numba.int64)
    module = llvm.parse_assembly(entry.format(symbol=symbol, body=body))
    for text in texts:
        module.link_in(llvm.parse_assembly(text))
    for item in (*module.functions, *module.global_variables):
        if item.name != symbol and not item.is_declaration:
            item.linkage = "internal"
    passes = llvm.create_pass_builder(isa.target_machine(features), llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    module.verify()
    return module


@cache
def _engine() -> llvm.ExecutionEngine:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), isa.target_machine())
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))  # never freed: threads may outlive the interpreter
    return engine


def load(code: bytes, entry: str) -> int:
    """The address of the function `entry` of an object file; for processors that `objects.load` has no code for."""
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address: int = engine.get_function_address(entry)
    if not address:
        raise ValueError(f"its code has no entry {entry}")
    return address

"""Object files made for tests."""

from __future__ import annotations

import llvmlite.binding as llvm

CALL = """
declare void @{callee}()
define void @{symbol}(i64 %arguments, i64 %thread, i64 %threads) {{
  call void @{callee}()
  ret void
}}
"""


def code_that_calls(callee: str, symbol: str = "kernel") -> bytes:
    """The object code of a kernel that only calls a function."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    module = llvm.parse_assembly(CALL.format(symbol=symbol, callee=callee))
    return target.create_target_machine(reloc="static", codemodel="jitdefault", jit=True).emit_object(module)

"""Numba's front end for kernels: from Python functions to LLVM modules that no pass has seen.

Numba's own pipeline optimises and compiles each helper by itself. Here types are inferred and LLVM code is written; all
else is left to one run of LLVM over the whole kernel (`build.py`). Functions return their value and raise nothing.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import analysis, bytecode, callconv, cgutils, compiler, cpu, imputils, interpreter, lowering, types
from numba.core import ir as numba_ir
from numba.core import typing as numba_typing
from numba.core.codegen import Codegen, CodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel.models import OpaqueModel
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.ir_utils import build_definitions
from numba.core.rewrites import rewrite_registry
from numba.core.ssa import reconstruct_ssa
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.targetconfig import ConfigStack
from numba.core.transforms import canonicalize_cfg
from numba.core.typed_passes import PreLowerStripPhis, type_inference_stage
from numba.core.typing import Signature, arraydecl, builtins, context, mathdecl, templates
from numba.cpython import builtins as builtin_rules
from numba.cpython import listobj, mathimpl, numbers, rangeobj, tupleobj
from numba.extending import register_model
from numba.np import arrayobj

from cpuruntime.compiler import isa

RULES = (arraydecl, arrayobj, builtins, builtin_rules, listobj, numbers, rangeobj, tupleobj)
"""Numba's modules that register the rules kernels need when they are imported."""
TARGET = "cpuruntime"
FORBIDDEN = "kernel_raises"
"""What the code of a kernel calls where it may raise; no such object file is accepted."""


class _Library(CodeLibrary):
    """The LLVM code of one function and the libraries of the functions that it calls."""

    def __init__(self, codegen: Codegen, name: str) -> None:
        super().__init__(codegen, name)
        self.text = ""
        self.called: list[_Library] = []

    def add_ir_module(self, ir_module: ir.Module) -> None:
        self.text = str(ir_module)

    def add_linking_library(self, library: _Library) -> None:
        self.called.append(library)

    def finalize(self) -> None: ...

    def get_function(self, name: str) -> None: ...

    def get_llvm_str(self) -> str:
        return self.text

    def get_asm_str(self) -> None: ...


class _Codegen(Codegen):
    _library_class = _Library

    def __init__(self, machine: llvm.TargetMachine) -> None:
        self._target_data = machine.target_data
        self._data_layout = str(machine.target_data)
        self._triple = machine.triple

    def _create_empty_module(self, name: str) -> ir.Module:
        module = ir.Module(name)
        module.triple, module.data_layout = self._triple, self._data_layout
        return module

    def _add_module(self, module: Any) -> None: ...


class _Convention(callconv.BaseCallConv):
    def _make_call_helper(self, builder):
        return None

    def return_value(self, builder, value):
        return builder.ret(value)

    def return_user_exc(self, builder, exc, exc_args=None, loc=None, func_name=None):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, FORBIDDEN), [])
        builder.unreachable()

    def get_function_type(self, restype, argtypes):
        result = self.context.data_model_manager[restype].get_return_type()
        return ir.FunctionType(result, list(self._get_arg_packer(argtypes).argument_types))

    def decorate_function(self, fn, args, fe_argtypes, noalias=False):
        self._get_arg_packer(fe_argtypes).assign_names(fn.args, [f"arg.{name}" for name in args])

    def get_arguments(self, func):
        return func.args

    def call_function(self, builder, callee, resty, argtys, args):
        result = builder.call(callee, self._get_arg_packer(argtys).as_arguments(builder, args))
        return None, self.context.get_returned_value(builder, resty, result)


class _Remembering(types.Function):
    """A function of Numba's or an intrinsic that remembers signatures, since to resolve one takes a millisecond."""

    def __init__(self, template: Any) -> None:
        super().__init__(template)
        self._known: dict[tuple[Any, ...], Signature] = {}

    def augment(self, other):
        return _Remembering(self.templates + other.templates) if other.typing_key == self.typing_key else None

    def get_call_type(self, context, args, kws):
        key = tuple(args), tuple(kws.items())
        if key not in self._known:
            self._known[key] = super().get_call_type(context, args, kws)
        return self._known[key]


register_model(_Remembering)(OpaqueModel)


class _Typing(context.BaseContext):
    """Numba's typing rules without NumPy's."""

    def init(self) -> None:
        self.install_registry(mathdecl.registry)

    def refresh(self) -> None:
        """Takes up intrinsics that were declared since the last call."""
        self.install_registry(templates.builtin_registry)

    def resolve_value_type(self, val):
        known = self._lookup_global(val) if isinstance(val, type) else None  # for a class, Numba loads its containers
        return known or super().resolve_value_type(val)

    def _insert_global(self, gv, gty):
        super()._insert_global(gv, _Remembering(gty.templates) if type(gty) is types.Function else gty)


class _Lowering(cpu.CPUContext):
    """Numba's lowering rules with our calling convention."""

    def __init__(self, typing: _Typing, machine: llvm.TargetMachine) -> None:
        self._internal_codegen = _Codegen(machine)
        super().__init__(typing, TARGET)
        self.error_model = callconv.create_error_model("numpy", self)
        self.install_registry(imputils.builtin_registry)  # intrinsics are declared in the first one
        self.install_registry(mathimpl.registry)

    def init(self) -> None:
        self.is32bit = False

    def refresh(self) -> None:
        """Takes up intrinsics that were used since the last call."""
        self.install_registry(imputils.builtin_registry)

    @property
    def call_conv(self) -> _Convention:
        return _Convention(self)

    def post_lowering(self, mod, library) -> None: ...

    def call_internal(self, builder, fndesc, sig, args):
        return self.call_internal_no_propagate(builder, fndesc, sig, args)[1]

    def _compile_subroutine_no_cache(self, builder, impl, sig, locals=None, flags=None):
        return Function(impl).compile(sig.args)


class _Lower(lowering.Lower):
    """Numba's lowering of a function without what serves debuggers and exceptions."""

    def emit_environment_object(self) -> None: ...

    def pre_block(self, block):
        self._cur_ir_block = block

    def lower_inst(self, inst):
        if isinstance(inst, numba_ir.Assign):
            name = inst.target.name
            self.storevar(self.lower_assign(self.typeof(name), inst), name)
        else:
            super().lower_inst(inst)

    def storevar(self, value, name, argidx=None):
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name, lltype, datamodel=None):
        return cgutils.alloca_once(self.builder, lltype, name=name)


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A function for one list of argument types."""

    signature: Signature
    fndesc: PythonFunctionDescriptor
    library: _Library

    def register(self, target: _Lowering) -> None:
        """Lets other functions call this one."""

        def call(context, builder, sig, args):
            return context.call_internal(builder, self.fndesc, sig, args)

        call.libs = (self.library,)
        target._defns[self].append(call, self.signature.args)


class Function:
    """A Python function that kernels call, lowered once for every list of types that it is called with."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        self._compiled: dict[tuple[types.Type, ...], _Compiled] = {}

    @property
    def _numba_type_(self) -> types.Dispatcher:
        return types.Dispatcher(self)

    # What Numba asks a dispatcher for.

    is_compiling = False

    @property
    def nopython_signatures(self) -> list[Signature]:
        return [compiled.signature for compiled in self._compiled.values()]

    def get_call_template(self, args, kws):
        args = templates.fold_arguments(
            self._signature,
            args,
            kws,
            lambda index, parameter, value: types.unliteral(value),
            lambda index, parameter, default: types.Omitted(default),
            lambda index, parameter, values: types.StarArgTuple(values),
        )
        name = self._function.__name__
        signatures = [self.compile(args).signature]
        return numba_typing.make_concrete_template(name, name, signatures), self._signature, args, {}

    def get_overload(self, args):
        return self._compiled[args]

    def compile(self, args: tuple[types.Type, ...]) -> _Compiled:
        if args not in self._compiled:
            self._compiled[args] = lower(self._function, args)
            self._compiled[args].register(_contexts()[1])
        return self._compiled[args]


class _Kernels(CPU):
    """What Numba compiles for."""


class _Descriptor:
    typing_context = property(lambda self: _contexts()[0])
    target_context = property(lambda self: _contexts()[1])


class _Dispatcher:
    targetdescr = _Descriptor()


target_registry[TARGET] = _Kernels
dispatcher_registry[_Kernels] = _Dispatcher
jit_registry[_Kernels] = lambda **options: Function


@cache
def _contexts() -> tuple[_Typing, _Lowering]:
    with target_override(TARGET):
        typing = _Typing()
        return typing, _Lowering(typing, isa.target_machine())


def lower(function: FunctionType, args: tuple[types.Type, ...]) -> _Compiled:
    """LLVM code of a function for these types of arguments, and of the functions that it calls."""
    flags = compiler.Flags()
    flags.error_model = "numpy"
    typing, target = _contexts()
    with global_compiler_lock, target_override(TARGET), ConfigStack().enter(flags):
        typing.refresh()
        code = _single_assignments(function, args)
        typemap, result, calltypes, _ = type_inference_stage(typing, target, code, args, None)
        code = PreLowerStripPhis()._strip_phi_nodes(code)
        code._definitions = build_definitions(code.blocks)
        fndesc = PythonFunctionDescriptor.from_specialized_function(
            code, typemap, result, calltypes, mangler=_name, inline=False, noalias=False, abi_tags=()
        )
        library = target.codegen().create_library(fndesc.mangled_name)
        with target.push_code_library(library):
            _Lower(target, library, fndesc, code).lower()
    return _Compiled(numba_typing.signature(result, *args), fndesc, library)


def _single_assignments(function: FunctionType, args: tuple[types.Type, ...]) -> numba_ir.FunctionIR:
    """Numba's code of a function in single-assignment form, without the branches that constants rule out."""
    identity = bytecode.FunctionIdentity.from_function(function)
    code = interpreter.Interpreter(identity).interpret(bytecode.ByteCode(identity))
    code.blocks = canonicalize_cfg(code.blocks)
    code.generator_info = None
    analysis.rewrite_semantic_constants(code, args)
    analysis.dead_branch_prune(code, args)
    for kind in rewrite_registry.rewrites["before-inference"]:
        rewrite = kind()
        for key in code.blocks:
            while rewrite.match(code, code.blocks[key], None, None):
                code.blocks[key] = rewrite.apply()
    code = reconstruct_ssa(code)
    code._definitions = build_definitions(code.blocks)
    analysis.dead_branch_prune(code, args)
    return code


def _name(name: str, types: tuple[types.Type, ...], *, abi_tags: tuple[str, ...], uid: int) -> str:
    return f"{name}_{uid}"


def modules(function: FunctionType, *arguments: types.Type) -> tuple[str, list[str]]:
    """The name of the LLVM function for these types of arguments, and the text of every LLVM module that it needs."""
    with _no_garbage_collection():
        compiled = lower(function, arguments)
    found: dict[_Library, str] = {}
    pending = [compiled.library]
    while pending:
        library = pending.pop()
        if library not in found:
            found[library] = library.text
            pending += library.called
    return compiled.fndesc.mangled_name, list(found.values())


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Lowering makes many objects and few cycles: the collector takes a sixth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

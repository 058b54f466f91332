"""Which numbers that kernels load become an address, a count or the bound of a loop: a data flow through their sources.

The analysis goes through assignments, arithmetic, helpers and closures by name, in any order, so it finds rather too
much. It does not follow comparisons, which only choose among numbers, nor numbers stored and loaded again. Loads that
the intrinsics of `ops/tiles` build in LLVM's language are not seen; they are of vectors and single floats.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping

MODULES = ("simd", "shuffle", "byte_lanes", "wide_words", "once")
# Helpers of kernels by the number of arguments, from the first on, that are addresses or counts.
COPIES = {"copy_bytes": 3, "copy_element": 3, "transpose_tile": 7, "copy1": 2, "copy2": 2, "copy4": 2, "copy8": 2}
WHOLE = ("load_i64", "load_i32", "load_u8", "load_words", "once.")
"""Loads whose numbers count as addresses where a function that the analysis does not know is given them."""

FLOAT = "float: "  # of loads that are no addresses until they are made whole numbers
HARMLESS = {"abs", "bool", "float", "int", "max", "min", "range", "element", "convert", "function"}
Taint = frozenset[str]
NONE: Taint = frozenset()


def found_in(sources: Mapping[str, str]) -> set[str]:
    """The loads by file, function and what is loaded, e.g. "resize.resize_nearest: simd.load_i64 a.rows"."""
    return _Flow(sources).run()


class _Function:
    """A function, the file and the names that enclose it."""

    def __init__(self, node: ast.FunctionDef | ast.Lambda, name: str, outer: _Function | None) -> None:
        self.node, self.name, self.outer = node, name, outer
        arguments = node.args
        self.parameters = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        self.inner: list[_Function] = []
        self.aliases: dict[str, ast.Call] = {}


class _Flow:
    def __init__(self, sources: Mapping[str, str]) -> None:
        self.functions: list[_Function] = []
        self.by_name: dict[str, list[_Function]] = defaultdict(list)
        self.loaders: dict[str, set[str]] = defaultdict(set)
        for file, text in sources.items():
            self._collect(ast.parse(text), file, None)
        self.variables: dict[tuple[int, str], Taint] = defaultdict(frozenset)
        self.results: dict[int, Taint] = defaultdict(frozenset)
        self.found: set[str] = set()

    def _collect(self, node: ast.AST, file: str, outer: _Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            here = outer
            if isinstance(child, ast.FunctionDef):
                name = child.name if outer is None else outer.name.partition(".")[2] or outer.name
                here = _Function(child, f"{file}.{name}", outer)
                self.functions.append(here)
                self.by_name[child.name].append(here)
                if outer is not None:
                    outer.inner.append(here)
            elif isinstance(child, ast.Assign):
                self._note(child, file, outer)
            self._collect(child, file, here)

    def _note(self, node: ast.Assign, file: str, outer: _Function | None) -> None:
        """Names of helpers that a factory made: loads of elements, and functions of the package."""
        for target, value in _pairs(node.targets[0], node.value):
            if isinstance(target, ast.Name) and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                if value.func.id == "load":
                    self.loaders[file].add(target.id)
                elif outer is not None:
                    outer.aliases[target.id] = value

    def run(self) -> set[str]:
        """Repeats the walk until nothing new turns up."""
        before = -1
        while (now := sum(map(len, (*self.variables.values(), *self.results.values()))) + len(self.found)) != before:
            before = now
            for function in self.functions:
                for statement in function.node.body:
                    self._visit(statement, function)
        return self.found

    def _add(self, *taints: Iterable[str]) -> None:
        """Loads that became an address, a count or a bound."""
        self.found.update(one for taint in taints for one in taint if not one.startswith(FLOAT))

    def _visit(self, node: ast.AST, function: _Function) -> None:
        if isinstance(node, ast.FunctionDef):
            return
        if isinstance(node, ast.Assign):
            for target, value in _pairs(node.targets[0], node.value):
                self._assign(target, self._taint(value, function), function)
        elif isinstance(node, ast.AugAssign):
            self._assign(node.target, self._taint(node.value, function), function)
        elif isinstance(node, ast.For):
            self._assign(node.target, self._taint(node.iter, function), function)
        elif isinstance(node, ast.While):
            self._add(self._operands(node.test, function))
        elif isinstance(node, ast.Return) and node.value is not None:
            self.results[id(function.node)] |= self._taint(node.value, function)
        elif isinstance(node, ast.expr):
            self._taint(node, function)
            return
        for child in ast.iter_child_nodes(node):
            self._visit(child, function)

    def _assign(self, target: ast.expr, taint: Taint, function: _Function) -> None:
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                self.variables[id(function.node), name.id] |= taint

    def _operands(self, test: ast.expr, function: _Function) -> Taint:
        """What a test compares."""
        parts = [
            part for one in ast.walk(test) if isinstance(one, ast.Compare) for part in (one.left, *one.comparators)
        ]
        return self._union(parts or [test], function)

    def _union(self, parts: Iterable[ast.expr], function: _Function) -> Taint:
        return NONE.union(*(self._taint(part, function) for part in parts))

    def _taint(self, node: ast.expr, function: _Function) -> Taint:
        """The loads that an expression is computed from."""
        if isinstance(node, ast.Name):
            here: _Function | None = function
            while here is not None:
                if (id(here.node), node.id) in self.variables:
                    return self.variables[id(here.node), node.id]
                here = here.outer
            return NONE
        if isinstance(node, ast.IfExp):
            self._taint(node.test, function)
            return self._union((node.body, node.orelse), function)
        if isinstance(node, ast.Call):
            return self._call(node, function)
        parts = self._union((child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)), function)
        return NONE if isinstance(node, ast.Compare) else parts

    def _call(self, node: ast.Call, function: _Function) -> Taint:
        given = [self._taint(argument, function) for argument in node.args]
        name = ast.unparse(node.func)
        module, _, member = name.rpartition(".")
        if name in ("int", "np.int64", "np.int32"):
            return frozenset(one.removeprefix(FLOAT) for one in NONE.union(*given))
        if name == "range":
            self._add(*given)
        if name in COPIES or member in COPIES:
            self._add(*given[: COPIES.get(name) or COPIES[member]])
        if module in MODULES and member.startswith(("load", "store", "interleave", "transpose")):
            numbers = member.startswith(("interleave", "transpose"))  # all are addresses, strides or counts
            counts = given[1:] if numbers else given[-1:] if "first" in member else []
            self._add(given[0], *counts)
            kind = FLOAT if member in ("load", "load_first", "load_f32") else ""
            return frozenset({kind + _label(node, name, function)}) if member.startswith("load") else NONE
        file = function.name.partition(".")[0]
        if name in self.loaders[file] or name == "write":
            self._add(*given[:2])
            return NONE if name == "write" else frozenset({_label(node, name, function)})
        callees = self._callees(name, function)
        for callee in callees:
            for parameter, taint in zip(callee.parameters, given):
                self.variables[id(callee.node), parameter] |= taint
        if callees:
            return NONE.union(*(self.results[id(callee.node)] for callee in callees))
        if function_is_unknown(name):
            self._add({one for one in NONE.union(*given) if any(kind in one for kind in WHOLE)})
        return NONE.union(*given)

    def _callees(self, name: str, function: _Function) -> list[_Function]:
        """The functions that a name may mean: those of that name, or what a factory of the package returns."""
        here: _Function | None = function
        while here is not None:
            if name in here.aliases:
                factory = ast.unparse(here.aliases[name].func)
                return [inner for one in self._named(factory, function) for inner in one.inner]
            here = here.outer
        return self._named(name, function)

    def _named(self, name: str, function: _Function) -> list[_Function]:
        """The functions of that name in the file, else in any."""
        every, file = self.by_name.get(name, []), function.name.partition(".")[0]
        return [one for one in every if one.name.partition(".")[0] == file] or every


def function_is_unknown(name: str) -> bool:
    """Whether a function is neither of Python, NumPy or `simd`, nor one that computes with elements."""
    return name not in HARMLESS and name.partition(".")[0] not in ("np", "simd", "scalars", "shuffle")


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts))
    return [(target, value)]


def _label(node: ast.Call, name: str, function: _Function) -> str:
    """File, function, load, and the name that the address begins with."""
    base = node.args[0]
    while isinstance(base, ast.BinOp):
        base = base.left
    return f"{function.name}: {name} {ast.unparse(base)}"

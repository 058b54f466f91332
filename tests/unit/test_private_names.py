"""Tests see of the package's objects what users see; the rest goes through cpuruntime.testing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PRIVATE = re.compile(r"_[a-zA-Z]\w*$")
OF_OTHERS = {"_log_destroy_pending"}  # of asyncio


def foreign(text: str) -> list[str]:
    """Private attributes of objects whose classes are not in this file, and private names that are patched."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {a.attr for a in attributes if isinstance(a.value, ast.Name) and a.value.id in ("self", "cls")}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} | OF_OTHERS
    found = [ast.unparse(a) for a in attributes if PRIVATE.match(a.attr) and a.attr not in own]
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr"):
            found += [ast.unparse(arg) for arg in node.args[1:2] if PRIVATE.match(str(getattr(arg, "value", "")))]
    return found


def test_what_is_private_is_found() -> None:
    assert foreign("queue._state.idle") == ["queue._state"]
    assert foreign("monkeypatch.setattr(ledger, '_open', refuse)") == ["'_open'"]
    assert foreign("class A:\n def f(self, other):\n  return self._x + other._x + other.__class__._fields") == [
        "other.__class__._fields"
    ]
    assert foreign("compiled.inputs") == []


def test_tests_use_no_private_names_of_the_package() -> None:
    found = {str(path.relative_to(TESTS)): foreign(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
    assert {path: names for path, names in found.items() if names} == {}

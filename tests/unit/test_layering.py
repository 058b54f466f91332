"""The floors of the package: a module imports from its own floor or below, never from above."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    "cpuruntime.ops": 0,
    "cpuruntime.errors": 0,
    "cpuruntime.forks": 0,
    "cpuruntime.properties": 0,
    "cpuruntime.graph": 1,
    "cpuruntime.streams": 1,
    "cpuruntime.onnx_file": 2,
    "cpuruntime.onnx_schema": 2,
    "cpuruntime.onnx_tensors": 2,
    "cpuruntime.onnx_reader": 2,
    "cpuruntime.node_evaluation": 2,
    "cpuruntime.reshape_targets": 2,
    "cpuruntime.shape_inference": 2,
    "cpuruntime.light_models": 2,
    "cpuruntime.demand": 2,
    "cpuruntime.hints": 2,
    "cpuruntime.passes": 3,
    "cpuruntime.program": 4,
    "cpuruntime.devices": 5,
    "cpuruntime.anatomy": 6,
    "cpuruntime.awaiting": 6,
    "cpuruntime.callbacks": 6,
    "cpuruntime.request_terms": 6,
    "cpuruntime.port": 6,
    "cpuruntime.tensor": 6,
    "cpuruntime.conversion": 6,
    "cpuruntime.bindings": 6,
    "cpuruntime.results": 6,
    "cpuruntime.model": 6,
    "cpuruntime.infer_request": 6,
    "cpuruntime.async_infer_queue": 6,
    "cpuruntime.compiled_model": 6,
    "cpuruntime.core": 6,
    "cpuruntime": 6,
    "cpuruntime.cli": 7,
    "cpuruntime.__main__": 7,
}

# Tighter than the floors: all that a part may import of the package.
ONLY = {
    "cpuruntime.ops": {"cpuruntime.ops"},
    "cpuruntime.errors": set(),
    "cpuruntime.properties": {"cpuruntime.errors", "cpuruntime.properties"},
    "cpuruntime.graph": {"cpuruntime.errors", "cpuruntime.graph"},
    "cpuruntime.forks": {"cpuruntime.errors"},
    "cpuruntime.streams": {
        "cpuruntime.ops",
        "cpuruntime.errors",
        "cpuruntime.forks",
        "cpuruntime.properties",
        "cpuruntime.streams",
    },
    "cpuruntime.demand": {"cpuruntime.graph"},
    "cpuruntime.hints": {
        "cpuruntime.errors",
        "cpuruntime.properties",
        "cpuruntime.streams.topology",
        "cpuruntime.streams.processors",
        "cpuruntime.demand",
        "cpuruntime.hints",
    },
    "cpuruntime.cli": {"cpuruntime", "cpuruntime.errors", "cpuruntime.properties", "cpuruntime.cli"},
}

# What a part may import from outside besides the standard library; parts that are not listed are free.
THIRD_PARTY = {
    "cpuruntime.ops": {"numpy", "numba", "llvmlite"},
    "cpuruntime.errors": set(),
    "cpuruntime.properties": set(),
    "cpuruntime.graph": {"numpy", "onnx", "ml_dtypes"},
    "cpuruntime.streams": {"numpy", "numba", "llvmlite", "psutil"},
    "cpuruntime.hints": set(),
    "cpuruntime.cli": {"numpy"},
}


def modules() -> dict[str, Path]:
    """Every module of the package, by its import name. ops/ is reached through the link cpuruntime/ops."""
    found = {}
    for folder, package in ((ROOT / "cpuruntime", "cpuruntime"), (ROOT / "ops", "cpuruntime.ops")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "cpuruntime" and parts[0] == "ops":
                continue
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def part_of(module: str, parts: dict) -> str | None:
    """The longest of `parts` that is `module` or a package around it; the bare package stands for itself only."""
    while module:
        if module in parts and (module != "cpuruntime" or parts is not FLOORS):
            return module
        module = module.rpartition(".")[0]
    return None


def floor_of(module: str) -> int:
    if module == "cpuruntime":
        return FLOORS["cpuruntime"]
    part = part_of(module, FLOORS)
    assert part, f"{module} has no floor: add it to FLOORS in {Path(__file__).name}"
    return FLOORS[part]


def imports(tree: ast.AST, module: str, is_package: bool, known: dict) -> Iterator[tuple[int, str]]:
    """(line, module) for every import, at any depth, `from package import module` resolved to the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".") if is_package else module.split(".")[:-1]
            prefix = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (prefix, node.module)))
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in known else source


def violations(module: str, text: str, is_package: bool = False, known: dict = MODULES) -> list[str]:
    """What `module` with source `text` imports and must not."""
    found = []
    rule, outside = part_of(module, ONLY), part_of(module, THIRD_PARTY)
    for line, imported in imports(ast.parse(text), module, is_package, known):
        top = imported.partition(".")[0]
        where = f"{module}:{line} imports {imported}"
        if top == "cpuruntime":
            if floor_of(imported) > floor_of(module):
                found.append(f"{where}, floor {floor_of(imported)} above its own {floor_of(module)}")
            elif rule and not any(
                imported == allowed or (allowed != "cpuruntime" and imported.startswith(f"{allowed}."))
                for allowed in ONLY[rule]
            ):
                found.append(f"{where}; it may import only {sorted(ONLY[rule])}")
        elif outside and top not in sys.stdlib_module_names and top not in THIRD_PARTY[outside]:
            found.append(f"{where}; from outside it may import only {sorted(THIRD_PARTY[outside])}")
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_import_goes_up(module: str) -> None:
    path = MODULES[module]
    assert violations(module, path.read_text(), path.name == "__init__.py") == []


def test_no_part_has_a_floor_without_a_module() -> None:
    gone = [part for part in FLOORS if part not in MODULES]
    assert not gone, f"FLOORS lists what does not exist: {gone}"


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("cpuruntime.graph.graph", "from cpuruntime.devices import interface"),
        ("cpuruntime.graph.graph", "import cpuruntime.passes"),
        ("cpuruntime.graph.graph", "def late():\n    from cpuruntime import onnx_reader"),
        ("cpuruntime.graph.graph", "from ..streams import topology"),
        ("cpuruntime.graph.graph", "from .. import core"),
        ("cpuruntime.passes.fold", "import cpuruntime as ov"),
        ("cpuruntime.streams.executor", "from cpuruntime.graph import graph"),
        ("cpuruntime.ops.pool", "from cpuruntime.errors import Error"),
        ("cpuruntime.ops.pool", "import onnx"),
        ("cpuruntime.hints", "from cpuruntime.streams import executor"),
        ("cpuruntime.cli.main", "from cpuruntime.devices import registry"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str) -> None:
    known = dict.fromkeys(
        ["cpuruntime.onnx_reader", "cpuruntime.core", "cpuruntime.streams.executor", "cpuruntime.streams.topology"]
    )
    assert len(violations(module, text, known=known)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("cpuruntime.program.arena", "from cpuruntime.graph.graph import Graph\nimport numpy"),
        ("cpuruntime.graph.verify", "from .graph import Graph\nfrom ..errors import Error"),
        ("cpuruntime.hints", "from cpuruntime.streams import topology\nfrom cpuruntime import properties"),
        ("cpuruntime.cli.main", "import cpuruntime as ov\nfrom cpuruntime.cli import report\nimport sys"),
    ],
)
def test_a_right_import_passes(module: str, text: str) -> None:
    known = dict.fromkeys(["cpuruntime.streams.topology", "cpuruntime.properties", "cpuruntime.cli.report"])
    assert violations(module, text, known=known) == []


def test_the_packages_of_the_wheel_are_those_of_the_tree() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(ast.literal_eval(text.partition("\npackages = ")[2].partition("]")[0] + "]"))
    in_tree = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    folders = {name.rpartition(".")[0] for name, path in MODULES.items() if path.name != "__init__.py"}
    assert listed == in_tree | folders


def test_ops_is_one_package_under_one_name() -> None:
    link = ROOT / "cpuruntime" / "ops"
    assert link.is_symlink()
    assert link.readlink() == Path("../ops")


def test_ops_refuses_any_other_name() -> None:
    spec = importlib.util.spec_from_file_location("ops", ROOT / "ops" / "__init__.py")
    assert spec
    assert spec.loader
    with pytest.raises(ImportError, match=r"cpuruntime\.ops"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

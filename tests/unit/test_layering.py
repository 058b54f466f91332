"""The house: every room imports lower floors only, no module closes a circle, and a face is imported as a face."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import ROOT, circles, floors, grouped, imports, module_arrows, modules, room_of

MODULES = modules()

# All that a room may import, floor by floor: the only table of floors there is.
ALLOWED: dict[str, str] = {
    "errors": "",
    "version": "",
    "records": "",
    "store": "",
    "trace": "errors",
    "compiler": "store",
    "ops": "compiler",
    "graph": "errors",
    "properties": "errors store graph",
    "host": "errors records store properties",
    "operators": "errors records graph",
    "streams": "errors records host compiler",
    "gpu_runtime": "errors host compiler streams",
    "frontend": "errors version graph operators host",
    "compare": "errors store host frontend",
    "hints": "errors records graph operators host properties",
    "passes": "errors records store graph operators ops compiler",
    "program": "errors records store trace graph operators host compiler ops streams passes",
    "devices": "errors version records store trace graph operators host properties compiler streams hints passes "
    "program gpu_runtime",
    "cache": "errors version store trace graph properties devices",
    "api": "errors version records store trace graph operators host properties streams frontend hints devices cache",
    "preprocess": "errors version graph operators api",
    "quantize": "errors graph frontend compare api",
    "helpers": "api",
    "utils": "graph api",
    "exceptions": "errors",
    "__init__": "errors version graph host properties frontend hints devices api preprocess helpers utils exceptions",
    "cli": "__init__ errors store properties compiler host devices cache compare quantize",
    "testing": "__init__ errors graph properties streams devices",
    "__main__": "cli",
}

# What a room may import from outside besides the standard library; rooms that are not listed are free.
THIRD_PARTY = {
    "compiler": {"numpy", "numba", "llvmlite"},
    "ops": {"numpy", "numba", "llvmlite"},
    "errors": set(),
    "trace": set(),
    "properties": set(),
    "store": {"numpy"},
    "graph": {"numpy", "onnx", "ml_dtypes"},
    "host": {"numpy", "psutil"},
    "streams": {"numpy", "numba", "llvmlite"},
    "gpu_runtime": {"numpy", "numba", "llvmlite", "pyopencl"},
    "hints": set(),
    "cli": {"numpy", "psutil", "PIL"},
    "compare": {"numpy", "tomli"},
    "quantize": {"numpy", "onnx", "PIL"},
}

# Rooms of which others see only what their __init__ exports.
FACES = {"graph", "hints", "passes"}

MOST_FLOORS = 12
LOOSE = {"__init__", "__main__", "errors", "records", "version"}


def violations(module: str, text: str, is_package: bool = False) -> list[str]:
    """What `module` with source `text` imports and must not."""
    found = []
    room = room_of(module)
    for line, imported in imports(ast.parse(text), module, is_package, MODULES):
        top = imported.partition(".")[0]
        where = f"{module}:{line} imports {imported}"
        if top == "cpuruntime":
            target = room_of(imported)
            if target != room and target not in ALLOWED[room].split():
                found.append(f"{where}; {room} may import only: {ALLOWED[room] or 'nothing'}")
        elif top not in sys.stdlib_module_names and room in THIRD_PARTY and top not in THIRD_PARTY[room]:
            found.append(f"{where}; from outside it may import only {sorted(THIRD_PARTY[room])}")
    for node in ast.walk(ast.parse(text)):
        source = (isinstance(node, ast.ImportFrom) and node.module) or ""
        if source.startswith(tuple(f"cpuruntime.{face}." for face in FACES - {room})):
            found.append(f"{module}:{node.lineno} imports from {source}; others import from the room itself")
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_what_its_room_may(module: str) -> None:
    path = MODULES[module]
    assert violations(module, path.read_text(), path.name == "__init__.py") == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(module_arrows()) == []


def test_the_rooms_are_those_of_the_table_on_few_floors() -> None:
    rooms = grouped(module_arrows(), room_of)
    assert set(rooms) == set(ALLOWED)
    assert max(floors(rooms).values()) < MOST_FLOORS
    seen: set[str] = set()
    for room, allowed in ALLOWED.items():
        assert set(allowed.split()) <= seen, f"{room} stands below what it may import"
        seen.add(room)


def test_few_modules_lie_loose() -> None:
    assert {path.stem for path in (ROOT / "cpuruntime").glob("*.py")} == LOOSE


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("cpuruntime.graph.graph", "from cpuruntime.devices import interface"),
        ("cpuruntime.graph.graph", "import cpuruntime.passes"),
        ("cpuruntime.graph.graph", "def late():\n    from cpuruntime.frontend import reader"),
        ("cpuruntime.graph.graph", "if TYPE_CHECKING:\n    from cpuruntime.api import core"),
        ("cpuruntime.graph.graph", "from ..streams import executor"),
        ("cpuruntime.passes.pipeline", "import cpuruntime as ov"),
        ("cpuruntime.streams.executor", "from cpuruntime.graph import Graph"),
        ("cpuruntime.ops.pooling", "from cpuruntime.errors import Error"),
        ("cpuruntime.ops.pooling", "import onnx"),
        ("cpuruntime.hints", "from cpuruntime.streams import executor"),
        ("cpuruntime.cli.main", "from cpuruntime.program import link"),
        ("cpuruntime.operators.demand", "from cpuruntime.graph.graph import Graph"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str) -> None:
    assert len(violations(module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("cpuruntime.program.plan.arena", "from cpuruntime.graph import Graph\nimport numpy"),
        ("cpuruntime.graph.verify", "from .graph import Graph\nfrom ..errors import Error"),
        ("cpuruntime.hints", "from cpuruntime.host import topology\nfrom cpuruntime import properties"),
        ("cpuruntime.cli.main", "import cpuruntime as ov\nfrom cpuruntime.cli import report\nimport sys"),
    ],
)
def test_a_right_import_passes(module: str, text: str) -> None:
    assert violations(module, text) == []


def test_public_objects_load_no_kernels() -> None:
    code = "import sys, cpuruntime as ov; [getattr(ov, name) for name in ov.__all__]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    rooms = {room_of(name) for name in done.stdout.split() if name.startswith("cpuruntime.")}
    assert not rooms & {"compiler", "ops", "program", "passes"}


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


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


def test_modules_of_tests_have_names_of_their_own() -> None:
    names = [path.name for path in Path(__file__).parents[1].rglob("test_*.py")]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})

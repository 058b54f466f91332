"""The worked examples of cpuruntime/docs/extending.md, applied to a copy of the sources: their tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import ROOT
from support.markdown import blocks

PAGE = ROOT / "cpuruntime" / "docs" / "extending.md"
PROPERTY = """
import gc, os
import numpy as np
import cpuruntime as ov
from cpuruntime.devices.cpu.programs import Programs
from support.onnx_models import one_input
os.environ["CPURUNTIME_PROGRAM_CACHE_KB"] = "0"
model = ov.Core().read_model(one_input())
model.reshape([-1, 3])
compiled = ov.compile_model(model, "CPU")
for rows in range(1, 6):
    compiled(np.ones((rows, 3), np.float32))
(programs,) = [found for found in gc.get_objects() if type(found) is Programs]
print(compiled.get_property("PROGRAM_CACHE_KB"), len(programs.cached()))
"""


def apply(tree: Path, block: str, language: str) -> None:
    """Writes the file named in the first line of a block, or makes the change of a diff; "..." ends any line."""
    head, _, text = block.partition("\n")
    path = tree / head.removeprefix("# ")
    if language == "py":
        assert not path.exists(), path
        path.write_text(text)
        return
    marked = [(line[:1], f"{line[1:]}\n") for line in text.splitlines()]
    before = [re.escape(line).replace(r"\.\.\.", ".*") for mark, line in marked if mark != "+"]
    source = path.read_text()
    (found,) = re.finditer("".join(f"({line})" for line in before), source)
    groups = iter(found.groups())
    after = [line if mark == "+" else next(groups) for mark, line in marked]
    changed = "".join(line for (mark, _), line in zip(marked, after) if mark != "-")
    path.write_text(source[: found.start()] + changed + source[found.end() :])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with all examples applied."""
    tree = tmp_path_factory.mktemp("extended")
    for folder in ("cpuruntime", "ops", "tests", "bench"):
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for language, block in re.findall(r"^```(py|diff)\n(# .*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        apply(tree, block, language)
    (entry,) = blocks(PAGE, "toml")
    installed = tree / "mine-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(entry.replace("project.entry-points.", "").replace('"', ""))
    return tree


def run(tree: Path, *arguments: str) -> str:
    """The output of Python in the copy; AssertionError when it fails."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(output: str) -> int:
    (count,) = re.findall(r"^(\d+) passed", output, re.MULTILINE)
    return int(count)


def test_every_block_is_an_example() -> None:
    assert all(block.startswith("# ") for language in ("py", "diff", "toml") for block in blocks(PAGE, language))


def test_the_operator(tree: Path) -> None:
    cases = ["tests/kernels/test_cases.py", "-k", "support_vectors"]
    assert passed(run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *cases)) == 3
    found = "from cpuruntime.program.lowerings.catalogue import MODULES; "
    found += "print(('ai.onnx.ml', 'SVMRegressor') in MODULES)"
    assert run(tree, "-c", found) == "True\n"


def test_the_device(tree: Path) -> None:
    suite = ["-p", "cpuruntime.testing.plugin", "--pyargs", "cpuruntime.testing", "--device", "MINE"]
    assert passed(run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite)) > 30


def test_the_pass(tree: Path) -> None:
    path = "tests/unit/passes/test_pass_double_negation.py"
    assert passed(run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", path)) == 2


def test_the_property(tree: Path) -> None:
    assert run(tree, "-c", PROPERTY) == "0 1\n"
    assert "PROGRAM_CACHE_KB  RW" in run(tree, "-m", "cpuruntime", "properties")

"""bench/packs.py: what a wheel with a pack compiles is counted, and a model whose kernels it lacks is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from support.house import ROOT
from support.onnx_models import make_model


def check(site: Path, models: Path) -> subprocess.CompletedProcess[str]:
    """What the command says of the models and the installation in the folder `site`."""
    command = [sys.executable, ROOT / "bench" / "packs.py", "--check", sys.executable, "--only", "--folder", models]
    variables = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(command, env=variables, cwd=site, capture_output=True, text=True, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package as a wheel has it."""
    site = tmp_path / "site"
    skipped = shutil.ignore_patterns("__pycache__", "ops", "*.pack")
    shutil.copytree(ROOT / "cpuruntime", site / "cpuruntime", ignore=skipped)
    shutil.copytree(ROOT / "ops", site / "cpuruntime" / "ops", ignore=shutil.ignore_patterns("__pycache__"))
    return site


def test_a_wheel_with_the_pack_compiles_nothing(site: Path, tmp_path: Path) -> None:
    models, pack = tmp_path / "models", site / "cpuruntime" / "kernels" / "zoo.pack"
    models.mkdir()
    pack.parent.mkdir()
    model = make_model([helper.make_node("Softmax", ["x"], ["y"])], {"x": [4, 8]}, {"y": [4, 8]})
    onnx.save(model, models / "known.onnx")
    command = ["kernels", "build", "--level", "x86-64-v3,x86-64-v4", "-o", pack, "--models", models]
    subprocess.run([sys.executable, "-m", "cpuruntime", *command], check=True, stdout=subprocess.DEVNULL)
    done = check(site, models)
    assert done.stdout.startswith("1 models, 0 kernels compiled, "), done.stderr
    assert done.returncode == 0
    pack.unlink()
    done = check(site, models)
    assert f"{models}/known.onnx: " in done.stdout
    assert done.returncode == 1

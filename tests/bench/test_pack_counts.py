"""An installed wheel with a pack compiles nothing for its models; a model whose kernels the pack lacks is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import onnx
import pytest
from onnx import helper
from support.house import ROOT
from support.onnx_models import make_model

import cpuruntime as ov

pytest.importorskip("setuptools_scm")  # what builds the wheel is not downloaded


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def built(folder: Path, models: Path) -> Path:
    """A wheel that carries a pack for the models, built from a copy of the sources."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / ".ci", source / ".ci", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("cpuruntime", "ops"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    pack = source / "cpuruntime" / "kernels" / "models.pack"
    pack.parent.mkdir()
    run("cpuruntime", "kernels", "build", "--level", "x86-64-v3,x86-64-v4", "-o", pack, "--models", models, cwd=folder)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "-q")
    platform = "--config-settings=--build-option=--plat-name=manylinux_2_17_x86_64"
    run("pip", "wheel", *options, platform, "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.endswith("-py3-none-manylinux_2_17_x86_64.whl")
    return wheel


def installed(folder: Path, wheel: Path) -> Path:
    """The interpreter of an environment that has the wheel, and of what it depends on what this one has."""
    home = folder / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    run("pip", "-q", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = (home / "lib").glob("python*/site-packages")
    others = map(sysconfig.get_path, ("purelib", "platlib"))
    (packages / "others.pth").write_text("\n".join(dict.fromkeys(others)))
    return python


def check(python: Path, models: Path) -> subprocess.CompletedProcess[str]:
    """What the command says of the models and the interpreter."""
    command = [sys.executable, ROOT / "bench" / "packs.py", "--check", python, "--only", "--folder", models]
    return subprocess.run(command, cwd=models, capture_output=True, text=True, check=False)


def test_an_installed_wheel_with_the_pack_compiles_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    onnx.save(ov.light_model("squeezenet"), models / "known.onnx")
    python = installed(tmp_path, built(tmp_path, models))
    done = check(python, models)
    assert done.stdout.startswith("1 models, 0 kernels compiled, "), done.stdout + done.stderr
    assert not done.stdout.endswith(" 0 taken from packs\n")
    assert done.returncode == 0
    model = make_model([helper.make_node("Softplus", ["x"], ["y"])], {"x": [4, 8]}, {"y": [4, 8]})
    onnx.save(model, models / "new.onnx")
    done = check(python, models)
    assert f"{models}/new.onnx: " in done.stdout
    assert done.returncode == 1

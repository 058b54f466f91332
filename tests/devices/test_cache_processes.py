"""Processes that fill one cache, load from it and share the pages of its files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.stored_models import compile_in, is_loaded

SCRIPT = """
import sys
import numpy as np
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
print(compiled.get_property("LOADED_FROM_CACHE"), compiled(np.ones((1, 3, 20, 20), np.float32))[0].tobytes().hex())
heavy = "onnx frontend.reader numba passes program.plan.planner program.lowerings operators.shape_inference".split()
print([name for name in heavy if name in sys.modules or f"cpuruntime.{name}" in sys.modules])
"""


def test_a_process_that_loads_a_model_imports_no_compiler(file: Path, cache: Path) -> None:
    expected = compile_in(cache, file)(np.ones((1, 3, 20, 20), np.float32))[0].tobytes().hex()
    command = [sys.executable, "-c", SCRIPT, str(file), str(cache)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"True {expected}", "[]"]


def test_processes_that_fill_one_folder_store_one_model(file: Path, cache: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(file), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate()[0].split() for process in processes]
    assert len({line[1] for line in found}) == 1
    assert len(list(cache.glob("*.model"))) <= 1
    assert not list(cache.glob(".*")), "no temporary file is left"


def test_a_cache_moves_with_its_model(file: Path, cache: Path, tmp_path: Path) -> None:
    compile_in(cache, file)
    shutil.copytree(cache, tmp_path / "copy")
    shutil.copy(file, tmp_path / "moved.onnx")
    assert is_loaded(compile_in(tmp_path / "copy", tmp_path / "moved.onnx"))


COLD = """
import sys
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2], "COMPILE_MODE": sys.argv[3]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
print([compiled.get_property(name) for name in ("LOADED_FROM_CACHE", "OPTIMIZED")])
"""


def test_without_its_kernels_a_stored_model_starts_as_fast_as_any(file: Path, cache: Path, tmp_path: Path) -> None:
    compile_in(cache, file)
    found = []
    for mode in ("FAST_START", "OPTIMIZED"):
        command = [sys.executable, "-c", COLD, str(file), str(cache), mode]
        variables = {**os.environ, "CPURUNTIME_CACHE_DIR": str(tmp_path / mode)}
        found.append(subprocess.run(command, capture_output=True, text=True, check=True, env=variables))
    assert [result.stdout.strip() for result in found] == ["[False, False]", "[True, True]"]
    assert "is not compiled; others can compute until it is" in found[0].stderr


WAITING = """
import sys
import numpy as np
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
compiled(np.ones((1, 3, 20, 20), np.float32))
print(compiled.get_property("LOADED_FROM_CACHE"), flush=True)
input()
"""


def pages_of(process: subprocess.Popen[str], path: Path) -> dict[str, int]:
    """KiB of a process's memory that is mapped from a file, by kind."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in name:
            inside = line.endswith(str(path))
        elif inside and value.endswith("kB"):
            found[name] = found.get(name, 0) + int(value.split()[0])
    return found


def test_processes_share_the_pages_of_weights(file: Path, cache: Path) -> None:
    """Each process of several counts its part of a page in Pss."""
    compile_in(cache, file)
    (stored,) = cache.glob("*.model")
    command = [sys.executable, "-c", WAITING, str(file), str(cache)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
        for pages in [pages_of(process, stored) for process in processes]:
            assert pages["Rss"] >= stored.stat().st_size // 1024 * 0.9
            assert pages["Pss"] <= pages["Rss"] / 2 + 4
            assert pages["Private_Dirty"] == 0
    finally:
        for process in processes:
            process.communicate("\n")
